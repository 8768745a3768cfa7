"""Runs inside an image: prints as a JSON list what is wrong there. Knows nothing but the standard library."""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import stat
import sys
from pathlib import Path

problems: list[str] = []


def expect(holds: object, problem: str) -> None:
    """Note a problem unless the condition holds."""
    if not holds:
        problems.append(problem)


def below(folder: str) -> list[Path]:
    """Return every file below a folder."""
    return [Path(top, name) for top, _, names in os.walk(folder) for name in names]


def loads() -> None:
    """Load every shared object, each in a process of its own: it finds the libraries it was linked with by itself."""
    for file in below("/usr") + below("/app"):
        if ".so" in file.suffixes and not file.is_symlink():
            expect(b"\0.symtab\0" not in file.read_bytes(), f"{file} is not stripped")
            reading, writing = os.pipe()
            child = os.fork()
            if not child:
                try:
                    ctypes.CDLL(str(file))
                except OSError as error:
                    os.write(writing, str(error).encode())
                os._exit(0)
            os.close(writing)
            with open(reading, encoding="utf-8") as stream:  # noqa: PTH123  (a descriptor)
                said = stream.read()
            _, status = os.waitpid(child, 0)
            expect(not said and not status, f"{file} cannot be loaded: {said or f'status {status}'}")


def imports() -> None:
    """Import every module of our own, and what libraries look up by name when it is needed."""
    expect(Path("/app", os.environ["MODULE"], "__init__.pyc").exists(), f"there is no {os.environ['MODULE']}")
    for folder in sorted(Path("/app").iterdir()):
        if not (folder / "__init__.pyc").exists() or not folder.name.startswith(
            ("handler_", os.environ["MODULE"])
        ):
            continue
        for file in sorted(folder.rglob("*.pyc")):
            parts = file.relative_to("/app").with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            try:
                importlib.import_module(name)
            except Exception as error:  # noqa: BLE001  (broken byte code raises what it likes)
                problems.append(f"{name} cannot be imported: {error!r}")
    for encoding in ("raw_unicode_escape", "idna", "latin-1", "utf-8-sig", "ascii", "utf-16"):
        try:
            "a".encode(encoding)
        except LookupError as error:
            problems.append(str(error))


def protobuf() -> None:
    """See that protobuf runs on upb and can print a message."""
    from google.protobuf import text_format
    from google.protobuf.internal import api_implementation

    import handler_messages

    kind = api_implementation.Type()
    expect(kind == "upb", f"protobuf runs on {kind}, not on upb")
    message = handler_messages.ChatRequest(message="caf\u00e9")
    expect("caf" in text_format.MessageToString(message), "protobuf's text format does not print")


def compiled() -> None:
    """See that everything that was imported came as byte code that needs no check."""
    for name, module in list(sys.modules.items()):
        frozen = getattr(module.__spec__, "origin", "") == "frozen"  # in the interpreter itself
        file = "" if frozen else getattr(module, "__file__", None) or ""
        expect(not file.endswith(".py"), f"{name} comes from source: {file}")
    sources = [file for file in below("/usr") + below("/app") if file.suffix == ".py"]
    expect(not sources, f"sources in the image, for instance {sources[:1]}")


def certificates() -> None:
    """See that the authorities of the Web are there."""
    import ssl

    number = ssl.create_default_context().cert_store_stats()["x509_ca"]
    expect(number > 100, f"only {number} certificate authorities are known")


def privileges() -> None:
    """See who we are, and that owners and modes leave us nothing to write, whether or not the root is read-only."""
    expect(
        (os.getuid(), os.getgid()) == (10001, 10001),
        f"runs as {os.getuid()}:{os.getgid()}, not as 10001:10001",
    )
    folders = [Path(top) for start in ("/app", "/etc", "/usr") for top, _, _ in os.walk(start)]
    everything = {Path("/"): Path("/").lstat()}
    everything |= {path: path.lstat() for path in folders + below("/app") + below("/etc") + below("/usr")}
    for path, status in everything.items():
        if not stat.S_ISLNK(status.st_mode) and (status.st_uid or status.st_mode & 0o022):
            problems.append(f"{path} can be written")
    privileged = [str(path) for path, status in everything.items() if status.st_mode & 0o6000]
    expect(not privileged, f"set-uid files: {privileged}")


def main() -> None:
    """Run every check."""
    sys.path.insert(0, "/app")
    for check in (loads, imports, protobuf, compiled, certificates, privileges):
        try:
            check()
        except Exception as error:  # noqa: BLE001  (a check that fails in another way is a problem, too)
            problems.append(f"{check.__name__}: {type(error).__name__}: {error}")
    print(json.dumps(problems))


if __name__ == "__main__":
    main()
