"""Custom voices: a folder each in VOICES_DIR, described by its `voice.toml`.

    language = "en-GB"
    description = "Calm, a little hoarse"
    name = "Amy"             # what requests ask for; the folder's name by default
    speaker = "amy-v2"       # what the endpoint is asked for; the folder's name by default
    sample = "amy.wav"       # sent to endpoints that clone

Everything here blocks: it is called in a thread.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from handler_base.audio import sniff

if TYPE_CHECKING:
    from pathlib import Path

DESCRIPTION = "voice.toml"

LONGEST_DESCRIPTION = 64 * 1024
"""Largest `voice.toml` that is read, in bytes."""

LONGEST_NAME = 128
"""Longest name of a voice, in characters."""


class BrokenVoice(Exception):
    """A folder is no voice; the text says why."""


class CustomVoice(NamedTuple):
    """A voice that a folder describes.

    Attributes:
        name: What requests ask for.
        speaker: What the endpoint is asked for.
        language: BCP 47 tag, or "".
        description: For people.
        sample: The audio to clone, or None.
    """

    name: str
    speaker: str
    language: str
    description: str
    sample: Path | None


class Found(NamedTuple):
    """What is in a folder of voices.

    Attributes:
        voices: Those that can be used, in the order of their folders' names.
        problems: What is wrong with the others, by folder; under "" with all of it.
    """

    voices: list[CustomVoice]
    problems: dict[str, str]


class _Description(msgspec.Struct, forbid_unknown_fields=True):
    language: str = ""
    description: str = ""
    name: str = ""
    speaker: str = ""
    sample: str = ""


def scan(folder: Path, max_sample: int) -> Found:
    """Read all voices of a folder; a broken one keeps nobody from the others.

    Args:
        folder: Where the voices are.
        max_sample: Largest sample in bytes.
    """
    found = Found([], {})
    try:
        with os.scandir(folder) as entries:
            inside = sorted(folder / e.name for e in entries if not e.name.startswith(".") and _is_folder(e))
    except OSError as error:
        found.problems[""] = f"cannot be read: {error.strerror or error}"
        return found
    taken: dict[str, str] = {}
    for path in inside:
        try:
            voice = _read(path, max_sample)
            if (other := taken.get(voice.name.casefold())) is not None:
                raise BrokenVoice(f"the name {voice.name!r} is taken by {other!r}")
        except BrokenVoice as error:
            found.problems[path.name] = str(error)
            continue
        taken[voice.name.casefold()] = path.name
        found.voices.append(voice)
    return found


def read_sample(path: Path, max_sample: int) -> bytes:
    """Return a sample to clone.

    Raises:
        BrokenVoice: If it cannot be read, is too large, or is no audio.
    """
    data = _bytes_of(path, max_sample)
    if not sniff(data):
        raise BrokenVoice(f"{path.name} is no audio file")
    return data


def _read(folder: Path, max_sample: int) -> CustomVoice:
    import tomllib  # a service without custom voices does not pay for it

    try:
        text = _bytes_of(folder / DESCRIPTION, LONGEST_DESCRIPTION).decode()
        told = msgspec.convert(tomllib.loads(text), _Description)
    except (ValueError, RecursionError, msgspec.ValidationError) as error:
        raise BrokenVoice(f"{DESCRIPTION}: {error}") from error
    name = told.name.strip() or folder.name
    if not name.isprintable() or len(name) > LONGEST_NAME:
        raise BrokenVoice(
            f"{DESCRIPTION}: name: at most {LONGEST_NAME} characters that can be printed are taken"
        )
    sample: Path | None = None
    if told.sample:
        sample = folder / told.sample
        if sample.name != told.sample or not _is_inside(sample, folder):
            raise BrokenVoice(f"{DESCRIPTION}: sample: {told.sample!r} is no file of this folder")
        read_sample(sample, max_sample)
    return CustomVoice(name, told.speaker.strip() or folder.name, told.language, told.description, sample)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return True  # one that cannot be looked at: reading it says why


def _is_inside(path: Path, folder: Path) -> bool:
    try:
        return path.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError, ValueError):  # links in a circle, names that are none
        return False


def _bytes_of(path: Path, limit: int) -> bytes:
    try:
        if not path.is_file():  # opening a pipe would wait for ever
            raise BrokenVoice(f"there is no file {path.name}")
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise BrokenVoice(f"{path.name} cannot be read: {error.strerror or error}") from error
    if len(data) > limit:
        raise BrokenVoice(f"{path.name} has more than {limit} bytes")
    return data
