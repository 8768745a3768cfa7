"""What the Argo steps are told: environment variables, each checked where it is read."""

import os

from endpoint import Endpoint, Failed

MAX_INPUT_BYTES = 1 << 30


def text(name: str, default: str | None = None) -> str:
    """Return a variable.

    Raises:
        Failed: If it is not set and there is no default.
    """
    value = os.environ.get(name, default)
    if value is None:
        raise Failed(f"{name} is not set")
    return value


def number(name: str, least: float, most: float, default: str | None = None) -> float:
    """Return a variable that holds a number.

    Raises:
        Failed: If it holds none, or one out of bounds.
    """
    value = text(name, default)
    try:
        found = float(value)
    except ValueError:
        found = float("nan")
    if not least <= found <= most:
        raise Failed(f"{name} is {value[:64]!r}, not a number from {least:g} to {most:g}")
    return found


def whole(name: str, least: int, most: int, default: str | None = None) -> int:
    """Return a variable that holds a whole number.

    Raises:
        Failed: If it holds none, or one out of bounds.
    """
    found = number(name, least, most, default)
    if not found.is_integer():
        raise Failed(f"{name} is {found:g}, not a whole number")
    return int(found)


def llm() -> Endpoint:
    """Return the LLM that LLM_URL names.

    Raises:
        Failed: If one of its settings cannot be used.
    """
    return Endpoint(
        text("LLM_URL"),
        text("LLM_API_KEY", ""),
        timeout=number("LLM_TIMEOUT", 0.01, 86400, "300"),
        patience=number("LLM_PATIENCE", 0, 86400, "120"),
    )
