"""What goes into an image, by the program that runs in the builder; here it runs with our own interpreter."""

from __future__ import annotations

import dis
import importlib.util
import marshal
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from types import ModuleType

ROOT = Path(__file__).resolve().parents[4]
TOOLS = ("gcc", "ldd", "patchelf", "readelf", "strip")
needs_tools = pytest.mark.skipif(
    any(shutil.which(tool) is None for tool in TOOLS), reason=f"one of {', '.join(TOOLS)} is not installed"
)

MODULE = '''"""What `--help` says."""
from __future__ import annotations

from dataclasses import dataclass


def only():
    """Nothing but this."""


async def waits():
    """Nothing but this, either."""


def add(one: Unknown, two=2):
    """Say what it does."""
    return one + two


class Thing:
    """A thing."""

    def method(self):
        """A method."""
        return add.__doc__


class Empty:
    """Nothing but this."""


@dataclass(frozen=True)
class Data:
    """Data."""

    number: int = 1

    def method(self):
        """A method of data."""


def checked(value):
    assert value, "it is empty"
'''


@pytest.fixture(scope="module")
def assemble() -> ModuleType:
    spec = importlib.util.spec_from_file_location("assemble", ROOT / "images" / "assemble.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write(file: Path, text: str) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


# ---- byte code ------------------------------------------------------------------------------------------------------


@pytest.fixture
def module(assemble: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module above, imported from nothing but its byte code."""
    source = write(tmp_path / "source" / "handler_sample.py", MODULE)
    assemble.compile_file(source, tmp_path / "app" / "handler_sample.py", shown="/app/handler_sample.py")
    source.unlink()
    monkeypatch.syspath_prepend(tmp_path / "app")
    monkeypatch.delitem(sys.modules, "handler_sample", raising=False)
    yield importlib.import_module("handler_sample")
    sys.modules.pop("handler_sample", None)


def test_a_module_runs_from_byte_code_that_lies_where_its_source_would(module: Any, tmp_path: Path) -> None:
    assert [file.name for file in (tmp_path / "app").iterdir()] == ["handler_sample.pyc"]
    assert module.__file__ == str(tmp_path / "app" / "handler_sample.pyc")
    assert module.add.__code__.co_filename == "/app/handler_sample.py"
    assert module.add(1) == 3
    assert module.add.__annotations__ == {"one": "Unknown"}


def test_docstrings_are_gone_but_those_of_modules_and_dataclasses(module: Any) -> None:
    assert module.__doc__ == "What `--help` says."
    assert module.Data.__doc__ == "Data."
    for documented in (
        module.only, module.waits, module.add, module.Thing, module.Thing.method, module.Empty, module.Data.method
    ):  # fmt: skip
        assert documented.__doc__ is None


def test_what_was_nothing_but_a_docstring_still_works(module: Any) -> None:
    assert module.only() is None
    assert module.Empty()
    waiting = module.waits()
    with pytest.raises(StopIteration):
        waiting.send(None)
    assert module.Data(2).method() is None


def test_assertions_stay(module: Any) -> None:
    with pytest.raises(AssertionError, match="it is empty"):
        module.checked("")


def test_the_header_says_that_nothing_is_to_be_compared(assemble: ModuleType, tmp_path: Path) -> None:
    source = write(tmp_path / "a.py", MODULE)
    assemble.compile_file(source, tmp_path / "a.py", shown="/app/a.py")
    content = (tmp_path / "a.pyc").read_bytes()
    assert content[:4] == importlib.util.MAGIC_NUMBER
    assert int.from_bytes(content[4:8], "little") == 0b01, "a hash that is not checked"
    assert content[8:16] == bytes(8)


def test_byte_code_depends_on_the_text_alone(assemble: ModuleType, tmp_path: Path) -> None:
    written: list[bytes] = []
    for number, folder in enumerate(("one", "two/deeper")):
        source = write(tmp_path / folder / "a.py", MODULE)
        os.utime(source, (number, number))
        assemble.compile_file(source, tmp_path / folder / "a.py", shown="/app/a.py")
        written.append(source.with_suffix(".pyc").read_bytes())
    assert written[0] == written[1]
    assert str(tmp_path).encode() not in written[0]


def test_every_module_of_the_standard_library_that_we_ship_compiles(
    assemble: ModuleType, tmp_path: Path
) -> None:
    source = Path(sysconfig.get_path("stdlib"))
    for name in ("ast.py", "asyncio/base_events.py", "dataclasses.py", "enum.py", "typing.py"):
        assemble.compile_file(source / name, tmp_path / name, shown=name)
        code = marshal.loads((tmp_path / name).with_suffix(".pyc").read_bytes()[16:])
        assert list(dis.get_instructions(code))


# ---- texts and files ------------------------------------------------------------------------------------------------


def test_metadata_loses_its_readme_and_keeps_what_scanners_read(assemble: ModuleType, tmp_path: Path) -> None:
    file = write(
        tmp_path / "METADATA",
        "Metadata-Version: 2.4\nName: sample\nVersion: 1.0\nLicense-Expression: MIT\n"
        "Requires-Dist: one>=1\nRequires-Dist: two\nDescription-Content-Type: text/markdown\n"
        "\n# Sample\n\nName: not this one\n",
    )
    assert assemble.headers(file) == (
        "Metadata-Version: 2.4\nName: sample\nVersion: 1.0\nLicense-Expression: MIT\n"
        "Requires-Dist: one>=1\nRequires-Dist: two\n"
    )


def test_a_readme_in_the_headers_goes_and_a_licence_over_lines_stays(
    assemble: ModuleType, tmp_path: Path
) -> None:
    file = write(
        tmp_path / "METADATA",
        "Name: sample\nLicense: First line\n        second line\nDescription: A\n        long one\nVersion: 1.0\n",
    )
    assert assemble.headers(file) == "Name: sample\nLicense: First line\n        second line\nVersion: 1.0\n"


def test_a_file_is_carried_with_every_link_on_the_way(assemble: ModuleType, tmp_path: Path) -> None:
    system, root = tmp_path / "system", tmp_path / "root"
    real = write(system / "usr" / "lib" / "libz.so.1.3", "library")
    (system / "usr" / "lib" / "libz.so.1").symlink_to("libz.so.1.3")
    (system / "usr" / "lib" / "libz.so").symlink_to(system / "usr" / "lib" / "libz.so.1")
    (system / "lib").symlink_to("usr/lib")
    wanted = system / "lib" / "libz.so"

    assert list(assemble.carry(wanted, root)) == [real]
    inside = root / system.relative_to("/")
    assert (inside / "lib").readlink() == Path("usr/lib")
    assert (inside / "usr" / "lib" / "libz.so").readlink() == system / "usr" / "lib" / "libz.so.1"
    assert (inside / "usr" / "lib" / "libz.so.1").readlink() == Path("libz.so.1.3")
    assert (inside / "usr" / "lib" / "libz.so.1.3").read_text() == "library"
    assert list(assemble.carry(wanted, root)) == [], "what is there is not told again"


def test_modes_and_times_do_not_depend_on_the_builder(assemble: ModuleType, tmp_path: Path) -> None:
    script = write(tmp_path / "root" / "app" / "script", "")
    script.chmod(0o4711)
    text = write(tmp_path / "root" / "app" / "text", "")
    text.chmod(0o666)
    (tmp_path / "root" / "tmp").mkdir(mode=0o700)
    (tmp_path / "root" / "app" / "tmp").mkdir(mode=0o700)
    (tmp_path / "root" / "app" / "broken").symlink_to("nowhere")
    assemble.normalise(tmp_path / "root")
    modes = {
        path.relative_to(tmp_path / "root").as_posix(): path.stat().st_mode & 0o7777
        for path in (tmp_path / "root").rglob("*")
        if not path.is_symlink()
    }
    assert modes == {"app": 0o755, "app/script": 0o755, "app/text": 0o644, "app/tmp": 0o755, "tmp": 0o1777}
    assert {path.lstat().st_mtime for path in (script, text, tmp_path / "root" / "tmp", script.parent)} == {0}


# ---- shared objects -------------------------------------------------------------------------------------------------


def link(folder: Path, name: str, source: str, *options: str) -> Path:
    """Compile C into a shared object."""
    text = write(folder / f"{name}.c", source)
    target = folder / f"lib{name}.so"
    done = subprocess.run(
        ["gcc", "-shared", "-fPIC", "-o", str(target), str(text), *options], capture_output=True, check=False
    )
    text.unlink()
    if done.returncode and b"cannot find -lstdc++" in done.stderr:
        pytest.skip("libstdc++ is not installed for gcc")
    assert done.returncode == 0, done.stderr
    return target


def needed(file: Path) -> set[str]:
    said = subprocess.run(["readelf", "-d", str(file)], capture_output=True, text=True, check=True).stdout
    return set(re.findall(r"\(NEEDED\).*\[(.*)\]", said))


@needs_tools
def test_a_library_that_is_named_and_not_used_is_dropped(assemble: ModuleType, tmp_path: Path) -> None:
    idle = link(tmp_path, "idle", "int one(void) { return 1; }", "-Wl,--no-as-needed", "-lstdc++")
    source = 'extern char *__cxa_demangle(const char *, char *, unsigned long *, int *);\nchar *f(void) { return __cxa_demangle("i", 0, 0, 0); }'
    busy = link(tmp_path, "busy", source, "-lstdc++")
    assert "libstdc++.so.6" in needed(idle) & needed(busy)
    assemble.drop_needless_libraries(tmp_path)
    assert "libstdc++.so.6" not in needed(idle)
    assert "libstdc++.so.6" in needed(busy)
    code = "import ctypes, sys; print(ctypes.CDLL(sys.argv[1]).one())"
    ran = subprocess.run([sys.executable, "-c", code, str(idle)], capture_output=True, text=True, check=True)
    assert ran.stdout == "1\n", "it still loads and runs"


@needs_tools
def test_a_library_that_is_not_here_stops_the_build(assemble: ModuleType, tmp_path: Path) -> None:
    gone = link(tmp_path, "gone", "int two(void) { return 2; }")
    user = link(tmp_path, "user", "int two(void); int f(void) { return two(); }", f"-L{tmp_path}", "-lgone")
    gone.unlink()
    with pytest.raises(SystemExit, match=r"libuser\.so needs a library that is not here: libgone\.so"):
        assemble.libraries_of(user)


@needs_tools
def test_the_libraries_that_are_needed_are_carried_but_those_that_are_there(
    assemble: ModuleType, tmp_path: Path
) -> None:
    system = tmp_path / "system"
    system.mkdir()
    for name in ("here", "there", "own"):
        link(system, name, f"int {name}(void) {{ return 2; }}")
    root = tmp_path / "root"
    (root / "app").mkdir(parents=True)
    (system / "libown.so").rename(root / "app" / "libown.so")
    source = (
        "int here(void); int there(void); int own(void); int f(void) { return here() + there() + own(); }"
    )
    paths = [f"-L{system}", f"-Wl,-rpath,{system}", f"-L{root}/app", "-Wl,-rpath,$ORIGIN"]
    link(root / "app", "user", source, *paths, "-lhere", "-lthere", "-lown")
    have = tmp_path / "runtime"
    for library in assemble.libraries_of(root / "app" / "libuser.so"):
        if library.name.startswith(("libc.", "ld-")):
            write(have / library.resolve().relative_to("/"), "")
    write(have / (system / "libthere.so").relative_to("/"), "")

    carried = assemble.carry_libraries(root, root, have=have)
    assert [library.name for library in carried] == ["libhere.so"]
    assert (root / (system / "libhere.so").relative_to("/")).exists()
    assert not (root / (system / "libthere.so").relative_to("/")).exists()


@needs_tools
@pytest.mark.skipif(shutil.which("dpkg") is None, reason="dpkg is not installed")
def test_a_program_of_debians_comes_with_its_libraries_and_what_scanners_read(
    assemble: ModuleType, tmp_path: Path
) -> None:
    runtime = tmp_path / "runtime"
    for library in assemble.libraries_of(Path(shutil.which("readelf")).resolve()):
        if library.name.startswith(("libc.", "ld-")):
            list(assemble.carry(library, runtime))
    root = tmp_path / "layer"
    assemble.program(root, "readelf", have=runtime)
    assert (root / "usr/bin/readelf").exists()
    libraries = {file.name.partition(".so")[0] for file in root.rglob("*.so*")}
    assert "libz" in libraries
    assert "libc" not in libraries
    assert any("Package: binutils" in file.read_text() for file in (root / "var/lib/dpkg/status.d").iterdir())
    assert {file.stat().st_mtime for file in root.rglob("*") if not file.is_symlink()} == {0}


def test_a_program_that_is_not_there_stops_the_build(assemble: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="no-such-program is not on PATH"):
        assemble.program(tmp_path, "no-such-program")


@needs_tools
def test_symbols_that_only_a_debugger_reads_are_taken_out(assemble: ModuleType, tmp_path: Path) -> None:
    library = link(
        tmp_path, "fat", "static int hidden(void) { return 1; } int f(void) { return hidden(); }", "-g"
    )
    text = write(tmp_path / "text", "no program")
    before = library.stat().st_size
    assemble.strip(tmp_path)
    assert library.stat().st_size < before
    assert assemble.elf_files(tmp_path) == [library]
    assert text.read_text() == "no program"


def test_a_script_needs_no_library(assemble: ModuleType, tmp_path: Path) -> None:
    if shutil.which("ldd") is None:
        pytest.skip("ldd is not installed")
    assert assemble.libraries_of(write(tmp_path / "script", "#!/bin/sh\n")) == ()


# ---- a layer --------------------------------------------------------------------------------------------------------


class Environment:
    """A virtual environment as uv fills it, one sync after the other."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.packages = Path(sysconfig.get_path("purelib", "venv", vars={"base": str(folder)}))

    def install(self, name: str, version: str = "1.0", **files: str) -> None:
        module = name.replace("-", "_")
        for file, text in {"__init__.py": "", "py.typed": "", **files}.items():
            write(self.packages / module / file, text)
        info = self.packages / f"{module}-{version}.dist-info"
        write(info / "METADATA", f"Name: {name}\nVersion: {version}\n\nA README.\n")
        write(info / "RECORD", "")

    def declare(self, name: str, text: str, version: str = "1.0") -> None:
        write(self.packages / f"{name.replace('-', '_')}-{version}.dist-info" / "entry_points.txt", text)


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Environment:
    monkeypatch.setenv("UV_PROJECT_ENVIRONMENT", str(tmp_path / "environment"))
    return Environment(tmp_path / "environment")


def names(root: Path) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


def test_a_layer_holds_what_came_since_the_last_one(
    assemble: ModuleType, environment: Environment, tmp_path: Path
) -> None:
    environment.install("web", **{"tests/test_web.py": "", "data.json": "{}", "web.pyi": ""})
    assemble.layer(tmp_path / "one", "")
    environment.install("handler-base", **{"tests/__init__.py": "", "errors.py": ""})
    environment.install("chat-handler")
    environment.declare("chat-handler", "[console_scripts]\nchat-handler = chat_handler.main:main\n")
    assemble.layer(tmp_path / "two", "chat-handler")
    assemble.layer(tmp_path / "three", "")

    assert names(tmp_path / "one") == [
        "app/web-1.0.dist-info/METADATA",
        "app/web/__init__.pyc",
        "app/web/data.json",
    ]
    assert names(tmp_path / "two") == [
        "app/__main__.pyc",
        "app/chat_handler-1.0.dist-info/METADATA",
        "app/chat_handler-1.0.dist-info/entry_points.txt",
        "app/chat_handler/__init__.pyc",
        "app/handler_base-1.0.dist-info/METADATA",
        "app/handler_base/__init__.pyc",
        "app/handler_base/errors.pyc",
        "app/handler_base/tests/__init__.pyc",
    ]
    assert names(tmp_path / "three") == []
    assert (tmp_path / "one/app/web-1.0.dist-info/METADATA").read_text() == "Name: web\nVersion: 1.0\n"
    assert all(path.stat().st_mtime == 0 for path in (tmp_path / "one").rglob("*"))


def test_what_is_started_is_the_console_script(
    assemble: ModuleType, environment: Environment, tmp_path: Path
) -> None:
    main = "import sys\n\ndef main():\n    print('started', sys.path[-1] == sys.argv[1])\n    return 3\n"
    environment.install("chat-handler", **{"main.py": main})
    environment.declare(
        "chat-handler",
        "[console_scripts]\nother = chat_handler.other:main\nchat-handler = chat_handler.main:main\n",
    )
    assemble.layer(tmp_path / "root", "chat-handler")
    app = tmp_path / "root" / "app"
    command = [sys.executable, "-ESs", str(app / "__main__.pyc"), str(app)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (3, "started True\n", "")


@pytest.mark.parametrize("text", ["[console_scripts]\nchat = chat_handler.main:main\n", "", None])
def test_a_service_without_a_console_script_is_told(
    assemble: ModuleType, environment: Environment, tmp_path: Path, text: str | None
) -> None:
    environment.install("chat-handler")
    if text is not None:
        environment.declare("chat-handler", text)
    with pytest.raises(SystemExit, match="chat-handler declares no console script of its own name"):
        assemble.layer(tmp_path / "root", "chat-handler")


def test_a_service_that_is_not_installed_is_told(
    assemble: ModuleType, environment: Environment, tmp_path: Path
) -> None:
    environment.install("web")
    with pytest.raises(SystemExit, match="chat-handler declares no console script"):
        assemble.layer(tmp_path / "root", "chat-handler")
