#!/usr/bin/env python3
"""What an image holds: the interpreter trimmed to what services need, and the layers of a service on top of it.

    assemble.py runtime DIRECTORY          the root of the runtime image
    assemble.py layer DIRECTORY [SERVICE]  what came into the environment since the last layer, as the layer's root
    assemble.py program DIRECTORY NAME     a program of Debian's and the libraries it needs, as the root of a layer

Runs in the builder, with the interpreter that ends up in the image. Where its files are it asks the interpreter, and
what they need it asks the dynamic linker: so it works for python.org's layout below /usr/local and for Debian's alike.
Python is shipped as byte code alone, without docstrings; what is written depends on the input only, so that two
builds give the same bytes.
"""

from __future__ import annotations

import argparse
import ast
import functools
import importlib.util
import marshal
import os
import re
import shutil
import ssl
import subprocess
import sys
import sysconfig
from email.parser import HeaderParser
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

APP = Path("app")
"""Where a service and all it imports live; it is the one folder on the path besides the standard library."""

RUNTIME = Path("/runtime")
"""Where the builder sees the root of the runtime image while it makes a layer."""

USER = 10001

CA_BUNDLE = Path("etc/ssl/certs/ca-certificates.crt")

_UNUSED = """
    _aix_support.py _android_support.py _apple_support.py _ios_support.py _osx_support.py __phello__
    _pydatetime.py _pydecimal.py _pyio.py _pyrepl aifc.py antigravity.py bdb.py cgi.py cgitb.py chunk.py cmd.py
    compileall.py cProfile.py crypt.py curses dbm dist-packages distutils doctest.py ensurepip EXTERNALLY-MANAGED
    fileinput.py ftplib.py idlelib imaplib.py lib2to3 LICENSE.txt mailbox.py msilib netrc.py nntplib.py nturl2path.py
    pdb.py pickletools.py pip pipes.py plistlib.py poplib.py profile.py pstats.py pty.py py_compile.py pyclbr.py
    pydoc_data pydoc.py rlcompleter.py site-packages sitecustomize.py smtplib.py sndhdr.py sqlite3 sunau.py symtable.py
    tabnanny.py telnetlib.py test tests this.py timeit.py tkinter trace.py tty.py turtle.py turtledemo unittest uu.py
    venv wave.py webbrowser.py wsgiref xdrlib.py xmlrpc zipapp.py
"""
STDLIB_LEFT_OUT = frozenset(_UNUSED.split())
"""Names in the standard library's folder that no service needs."""

MODULES_LEFT_OUT = re.compile(
    r"^(_test.*|_tkinter|_curses.*|_dbm|_gdbm|_sqlite3|readline|_xx.*|xx.*|_ctypes_test|_lsprof|syslog|nis|ossaudiodev"
    r"|spwd|_crypt|audioop)\."
)
"""Extension modules that no service needs."""

FILES_LEFT_OUT = re.compile(
    r"(\.(py|pyi|pyx|pxd|pxi|c|cc|cpp|h|hpp|a|pth|exe|f90|npz|orig)$)|(^|/)(py\.typed|RECORD|INSTALLER|REQUESTED|WHEEL"
    r"|direct_url\.json|top_level\.txt|uv_cache\.json|uv_build\.json|zip-safe|\.lock)$"
)
"""Files of a distribution that nobody reads at run time; .py files become byte code first."""

FOLDERS_LEFT_OUT = re.compile(
    r"(^|/)(tests?|testing|__pycache__|include|sboms|_pyinstaller)/|^(cffi|pycparser|_virtualenv)[/.]"
    r"|^apsw/(sqlite_extra_binaries/|fts_test_strings|shell|speedtest|trace|__main__|_unicode|unicode|fts5)"
    r"|^opentelemetry/semconv/_incubating/(metrics|attributes)/(?!otel_|__init__)"
    r"|^numpy/(f2py|distutils|doc|_pyinstaller|lib/tests)/|^uvloop/.*\.pyx"
    r"|^pocketsphinx/model/(CMakeLists|.*phone\.lm)"
)
"""Parts of distributions that services do not import. cffi and pycparser compile bindings; ours are compiled."""

FOLDERS_KEPT = re.compile(
    r"^numpy/(testing|_core/tests/_natype|tests/)|^(handler|local|document|chat|pipeline|stt|tts|voice)_"
)


def main() -> None:
    """Run a command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("runtime")
    one.add_argument("directory", type=Path)
    one.set_defaults(run=lambda options: runtime(options.directory))
    one = commands.add_parser("layer")
    one.add_argument("directory", type=Path)
    one.add_argument("service", nargs="?", default="")
    one.set_defaults(run=lambda options: layer(options.directory, options.service))
    one = commands.add_parser("program")
    one.add_argument("directory", type=Path)
    one.add_argument("name")
    one.set_defaults(run=lambda options: program(options.directory, options.name))
    options = parser.parse_args()
    options.run(options)


# ---- the runtime ----------------------------------------------------------------------------------------------------


def runtime(root: Path) -> None:
    """Write the root of the runtime image."""
    interpreter = Path(sys.executable).resolve()
    origins = [*carry(interpreter, root)]
    command = root / "usr/bin/python3"
    if not command.exists():
        command.parent.mkdir(parents=True, exist_ok=True)
        command.symlink_to(interpreter)
    standard_library(root)
    origins += carry_libraries(root, root)
    origins += stubs(root)
    strip(root)
    write_system_files(root, [interpreter, *origins])
    cache_libraries(root)
    normalise(root)


def stubs(root: Path) -> Iterator[Path]:
    """Copy the empty libraries that glibc keeps for those linked before it took their content in, as most wheels are."""
    libc = next(
        library for library in libraries_of(Path(sys.executable).resolve()) if library.name == "libc.so.6"
    )
    for name in ("libdl.so.2", "libpthread.so.0", "librt.so.1", "libutil.so.1"):
        if (libc.parent / name).exists():
            yield from carry(libc.parent / name, root)


def cache_libraries(root: Path) -> None:
    """Tell the loader where libraries are: python.org's lie in a folder that it does not search by itself."""
    folders = sorted({f"/{file.parent.relative_to(root)}" for file in elf_files(root) if ".so." in file.name})
    write(root / "etc/ld.so.conf", "".join(f"{folder}\n" for folder in folders))
    subprocess.run(["ldconfig", "-X", "-r", str(root)], check=True)
    shutil.rmtree(root / "var/cache", ignore_errors=True)


def standard_library(root: Path) -> None:
    """Copy the standard library as byte code, and its extension modules."""
    source = Path(sysconfig.get_path("stdlib"))
    target = root / source.relative_to("/")
    for file in files_below(source):
        relative = file.relative_to(source)
        top = relative.parts[0]
        if top in STDLIB_LEFT_OUT or "__pycache__" in relative.parts or top.startswith("config-"):
            continue
        if file.suffix == ".so" and not MODULES_LEFT_OUT.match(file.name):
            copy(file, target / relative)
        elif file.suffix == ".py":
            compile_file(file, target / relative, shown=str(file))
    # Debian keeps extension modules elsewhere only when told to; python.org's layout has them below the library.
    (target / "lib-dynload").mkdir(exist_ok=True)


def write_system_files(root: Path, origins: Iterable[Path]) -> None:
    """Write the user, the name service, the certificates, and what scanners read."""
    texts = {
        "etc/passwd": f"root:x:0:0:root:/root:/sbin/nologin\nhandler:x:{USER}:{USER}::/nonexistent:/sbin/nologin\n",
        "etc/group": f"root:x:0:\nhandler:x:{USER}:\n",
        "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
        "etc/os-release": Path("/etc/os-release").read_text(),
        CA_BUNDLE.as_posix(): "".join(certificates()),
    }
    for name, text in texts.items():
        write(root / name, text)
    write_packages(root, [*origins, Path("/usr/share/ca-certificates")])
    (root / "tmp").mkdir()


def write_packages(root: Path, origins: Iterable[Path]) -> None:
    """Write which Debian packages files are from, for scanners, and their licences."""
    for package, status in debian_packages(origins):
        write(root / f"var/lib/dpkg/status.d/{package}", status)
        licence = Path(f"/usr/share/doc/{package}/copyright")
        if licence.exists():
            write(root / f"usr/share/doc/{package}/copyright", licence.read_text(errors="replace"))


def certificates() -> Iterator[str]:
    """Yield the authorities that Debian ships, and none that the building machine trusts besides."""
    files = sorted(Path("/usr/share/ca-certificates/mozilla").glob("*.crt"))
    if not files:
        raise SystemExit(
            "no certificates in /usr/share/ca-certificates/mozilla: is ca-certificates installed?"
        )
    for file in files:
        text = file.read_text().strip()
        ssl.PEM_cert_to_DER_cert(text)  # fails on a file that is none
        yield f"{text}\n"


def debian_packages(files: Iterable[Path]) -> list[tuple[str, str]]:
    """Return (name, entry of dpkg's status) of the packages that files are from, as distroless images carry them."""
    names: set[str] = set()
    for file in files:
        for path in {str(file), str(file.resolve()), str(file).removeprefix("/usr")}:
            found = subprocess.run(["dpkg", "-S", path], capture_output=True, text=True, check=False)
            names |= {n for line in found.stdout.splitlines() for n in line.split(": ", 1)[0].split(", ")}
    entries: list[tuple[str, str]] = []
    for name in sorted(names):
        status = subprocess.run(["dpkg", "-s", name], capture_output=True, text=True, check=True).stdout
        entries.append((name.split(":")[0], status))
    return entries


# ---- a layer of a service -------------------------------------------------------------------------------------------


def layer(root: Path, service: str) -> None:
    """Write what came into the environment since the last layer; with a service, also what starts it."""
    environment = Path(os.environ["UV_PROJECT_ENVIRONMENT"])
    source = Path(sysconfig.get_path("purelib", "venv", vars={"base": str(environment)}))
    seen_file = environment / "layers.txt"
    seen = set(seen_file.read_text().splitlines()) if seen_file.exists() else set()
    new = [file for file in files_below(source) if file.relative_to(source).as_posix() not in seen]
    app = root / APP
    for file in new:
        relative = file.relative_to(source)
        name = relative.as_posix()
        if FOLDERS_LEFT_OUT.search(name) and not FOLDERS_KEPT.match(name):
            continue
        if file.suffix == ".py":
            compile_file(file, app / relative, shown=f"/{APP}/{name}")
        elif file.name == "METADATA" and file.parent.suffix == ".dist-info":
            write(app / relative, headers(file))
        elif not FILES_LEFT_OUT.search(name):
            copy(file, app / relative)
    seen_file.write_text(
        "".join(f"{name}\n" for name in sorted({f.relative_to(source).as_posix() for f in new} | seen))
    )
    if service:
        starter(source, app, service)
    drop_needless_libraries(root)
    carry_libraries(root, root, have=RUNTIME)
    strip(root)
    normalise(root)


def starter(source: Path, app: Path, service: str) -> None:
    """Write what the interpreter is started with: the console script of the service."""
    declared = source.glob(f"{service.replace('-', '_')}-*.dist-info/entry_points.txt")
    text = "".join(file.read_text() for file in declared)
    match = re.search(rf"^{re.escape(service)}\s*=\s*([\w.]+):(\w+)", text, re.MULTILINE)
    if match is None:
        raise SystemExit(f"{service} declares no console script of its own name")
    script = app / "__main__.py"
    # Most of what is imported first is the standard library: look there first.
    order = "sys.path.append(sys.path.pop(0))"
    write(script, f"import sys\n\n{order}\n\nfrom {match[1]} import {match[2]}\n\nsys.exit({match[2]}())\n")
    compile_file(script, script, shown=f"/{APP}/__main__.py")
    script.unlink()


def headers(file: Path) -> str:
    """Return a distribution's metadata without the README that follows it."""
    message = HeaderParser().parsestr(file.read_text(encoding="utf-8"), headersonly=True)
    kept = [
        (key, value)
        for key, value in message.items()
        if key not in {"Description", "Description-Content-Type"}
    ]
    return "".join(f"{key}: {value}\n" for key, value in kept)


def program(root: Path, name: str, have: Path = RUNTIME) -> None:
    """Write a program of Debian's with the libraries that it needs and the runtime lacks."""
    found = shutil.which(name)
    if found is None:
        raise SystemExit(f"{name} is not on PATH: is its package installed?")
    origins = [*carry(Path(found), root)]
    origins += carry_libraries(root, root, have=have)
    strip(root)
    write_packages(root, origins)
    normalise(root)


# ---- files ----------------------------------------------------------------------------------------------------------


def files_below(folder: Path) -> Iterator[Path]:
    """Yield every file below a folder, in a fixed order."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield path


def write(file: Path, text: str) -> None:
    """Write a file and the folders above it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")


def copy(source: Path, target: Path) -> None:
    """Copy the content of a file and whether it can be run."""
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    target.chmod(0o755 if source.stat().st_mode & 0o111 else 0o644)


def compile_file(source: Path, target: Path, *, shown: str) -> None:
    """Write the byte code of a module beside where its source would be, without docstrings.

    Assertions stay. The header says that nothing is to be compared with the source: nothing is compiled at start.
    """
    tree = _Docstrings().visit(ast.parse(source.read_bytes()))
    code = compile(tree, shown, "exec", dont_inherit=True, optimize=0)
    header = importlib.util.MAGIC_NUMBER + (0b01).to_bytes(4, "little") + b"\0" * 8
    target.parent.mkdir(parents=True, exist_ok=True)
    target.with_suffix(".pyc").write_bytes(header + marshal.dumps(code))


class _Docstrings(ast.NodeTransformer):
    """Takes docstrings out, a module's excepted: services show theirs as `--help`."""

    def _without(self, node: ast.AST) -> ast.AST:
        self.generic_visit(node)
        first = node.body[0]
        # A dataclass without one works out its signature at import, to have one: slower than keeping it.
        if any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list):
            return node
        if (
            isinstance(first, ast.Expr)
            and isinstance(first.value, ast.Constant)
            and isinstance(first.value.value, str)
        ):
            node.body[0:1] = [] if len(node.body) > 1 else [ast.copy_location(ast.Pass(), first)]
        return node

    visit_FunctionDef = visit_AsyncFunctionDef = visit_ClassDef = _without  # noqa: N815


def normalise(root: Path) -> None:
    """Give everything the modes and times that do not depend on the builder."""
    for path in sorted(root.rglob("*")):
        if path.is_symlink():
            continue
        if path.is_dir():
            path.chmod(0o1777 if path == root / "tmp" else 0o755)
        else:
            path.chmod(0o755 if path.stat().st_mode & 0o111 else 0o644)
        os.utime(path, (0, 0))


# ---- shared objects -------------------------------------------------------------------------------------------------


def is_elf(file: Path) -> bool:
    """Say whether a file is a program or a shared object."""
    with file.open("rb") as stream:
        return stream.read(4) == b"\x7fELF"


def elf_files(root: Path) -> list[Path]:
    """Return the programs and shared objects below a folder."""
    return [file for file in files_below(root) if not file.is_symlink() and is_elf(file)]


def strip(root: Path) -> None:
    """Take the symbols out of shared objects that nobody but a debugger reads."""
    for file in elf_files(root):
        subprocess.run(["strip", "--strip-unneeded", str(file)], check=True)


def drop_needless_libraries(root: Path) -> None:
    """Drop `libstdc++` and `libgcc_s` from those that name them and use nothing of them.

    protobuf's upb is such a one; without this it would fall back to pure Python where they are missing.
    """
    for file in elf_files(root):
        needed = read("readelf", "-d", file)
        versions = read("readelf", "-V", file)
        for library in ("libstdc++.so.6", "libgcc_s.so.1"):
            if f"[{library}]" in needed and f"File: {library}" not in versions:
                subprocess.run(["patchelf", "--remove-needed", library, str(file)], check=True)


def read(*command: str | Path) -> str:
    """Return what a program prints."""
    return subprocess.run([str(c) for c in command], capture_output=True, text=True, check=True).stdout


@functools.cache
def libraries_of(file: Path) -> tuple[Path, ...]:
    """Return the shared libraries that a program or shared object is loaded with, the loader among them."""
    said = subprocess.run(["ldd", str(file)], capture_output=True, text=True, check=False)
    if "not a dynamic executable" in said.stderr + said.stdout or "statically linked" in said.stdout:
        return ()
    found: list[Path] = []
    for line in said.stdout.splitlines():
        if "not found" in line:
            raise SystemExit(f"{file} needs a library that is not here: {line.strip()}")
        match = re.search(r"(?:=> )?(/\S+) \(0x", line)
        if match:
            found.append(Path(match[1]))
    return tuple(found)


def carry_libraries(scanned: Path, root: Path, have: Path | None = None) -> list[Path]:
    """Copy the system's libraries that the shared objects below `scanned` need.

    Args:
        scanned: Where the programs and shared objects are.
        root: Where the libraries go, below their own paths.
        have: The root of an image that is already there; what it holds is not copied again.

    Returns:
        Where they came from.
    """
    origins: list[Path] = []
    for file in elf_files(scanned):
        for library in libraries_of(file):
            inside = library.resolve().is_relative_to(scanned.resolve())
            if inside or (have and (have / library.resolve().relative_to("/")).exists()):
                continue
            origins += carry(library, root)
    return origins


def carry(path: Path, root: Path) -> Iterator[Path]:
    """Copy a file of the system to the same place below `root`, with the symbolic links on the way to it.

    Yields:
        The file that was copied, unless it was there.
    """
    here = Path("/")
    for part in path.parts[1:]:
        here /= part
        inside = root / here.relative_to("/")
        if here.is_symlink():
            if not inside.is_symlink():
                inside.parent.mkdir(parents=True, exist_ok=True)
                inside.symlink_to(here.readlink())
            rest = path.relative_to(here)
            yield from carry(Path(os.path.normpath(here.parent / here.readlink() / rest)), root)
            return
    target = root / path.relative_to("/")
    if not target.exists():
        copy(path, target)
        yield path


if __name__ == "__main__":
    main()
