"""Typed settings from the environment: one frozen struct per room, nested into one per service.

    class GreeterSettings(Settings, frozen=True, kw_only=True):
        name: Annotated[str, env("GREETER_NAME", help="who greets")] = "Ada"
        tries: Annotated[int, env("GREETER_TRIES", help="how often", ge=1)] = 3

    settings = load(GreeterSettings)

A service that needs another default than the room's gives it with the group: `greeter: GreeterSettings =
GreeterSettings(tries=5)`. Every problem is found in one pass. A `Secret` is never printed, and may come from a file named by
`<NAME>_FILE`, as container platforms mount them.
"""

from __future__ import annotations

import functools
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, cast, get_args, get_origin, get_type_hints

import msgspec

from handler_base.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_TRUE = {"1", "true", "yes", "on"}
_FALSE = {"0", "false", "no", "off"}


class Secret:
    """Text that is never printed. `reveal()` gives it; an empty one is false."""

    __slots__ = ("_value",)

    def __init__(self, value: str = "") -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the text itself."""
        return self._value

    def __bool__(self) -> bool:
        return bool(self._value)

    def __repr__(self) -> str:
        return "Secret('***')" if self._value else "Secret('')"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other.reveal() == self._value

    def __hash__(self) -> int:
        return hash(self._value)


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Base of every group of settings. Fields are annotated with `env(...)` or are groups themselves."""


def env(*names: str, help: str, ge: float | None = None, le: float | None = None) -> msgspec.Meta:  # noqa: A002
    """Name the environment variables of a setting; the first that is set wins.

    Args:
        names: The variable's name, then the older names that keep working.
        help: One line for `--help`.
        ge: Smallest value allowed.
        le: Largest value allowed.
    """
    return msgspec.Meta(description=help, ge=ge, le=le, extra={"env": names})


class Setting(msgspec.Struct, frozen=True):
    """One leaf of a settings struct.

    Attributes:
        path: Names of the fields that lead to it, outermost first.
        names: Environment variables, preferred first.
        type: The annotated type to convert to.
        default: Its default, or `msgspec.NODEFAULT` when it is required.
        help: One line for people.
        secret: Whether its value must not be printed.
    """

    path: tuple[str, ...]
    names: tuple[str, ...]
    type: Any
    default: Any
    help: str
    secret: bool


SettingsT = TypeVar("SettingsT", bound=Settings)


def settings_of(
    cls: type[Settings], path: tuple[str, ...] = (), given: Settings | None = None
) -> Iterator[Setting]:
    """Yield every setting of `cls` and of the groups nested in it, in the order of declaration.

    Args:
        cls: The group.
        path: The fields that lead to it.
        given: Where its defaults come from, if not from its own declaration: the default of the field that nests it.
    """
    required = len(cls.__struct_fields__) - len(cls.__struct_defaults__)
    defaults = (msgspec.NODEFAULT,) * required + cls.__struct_defaults__
    for name, declared in zip(cls.__struct_fields__, defaults, strict=True):
        default = declared if given is None else getattr(given, name)
        hint = _hints(cls)[name]
        arguments: tuple[Any, ...] = get_args(hint)
        here = (*path, name)
        if isinstance(hint, type) and issubclass(hint, Settings):
            yield from settings_of(hint, here, default if isinstance(default, Settings) else None)
            continue
        meta = next((a for a in arguments[1:] if isinstance(a, msgspec.Meta)), None)
        if get_origin(hint) is not Annotated or meta is None or not meta.extra:
            raise TypeError(f"{cls.__name__}.{name} is not annotated with env(...)")
        yield Setting(
            path=here,
            names=tuple(meta.extra["env"]),
            type=hint,
            default=default,
            help=meta.description or "",
            secret=arguments[0] is Secret,
        )


def load(cls: type[SettingsT], environ: Mapping[str, str] | None = None) -> SettingsT:
    """Read `cls` from the environment. A variable that is set to nothing counts as not set.

    Raises:
        ConfigError: With every problem found, named by its variable.
    """
    environ = os.environ if environ is None else environ
    tree: dict[str, Any] = {}
    problems: list[str] = []
    for setting in settings_of(cls):
        try:
            value = _value(setting, environ)
        except (ValueError, OSError) as error:
            problems.append(str(error))
            continue
        branch = tree
        for name in setting.path[:-1]:
            branch = branch.setdefault(name, {})
        branch[setting.path[-1]] = value
    if problems:
        raise ConfigError(problems)
    return _build(cls, tree)


def help_text(cls: type[Settings]) -> str:
    """Return a table of every setting with its default and meaning, for `--help`."""
    rows: list[tuple[str, str, str]] = []
    for setting in settings_of(cls):
        name, *older = setting.names
        also = f" (also {', '.join(older)})" if older else ""
        rows.append((name, _shown(setting), setting.help + also))
    wide = max(len(name) for name, _, _ in rows)
    middle = min(44, max(len(default) for _, default, _ in rows))
    return "\n".join(f"  {name:<{wide}}  {default:<{middle}}  {text}" for name, default, text in rows)


def _shown(setting: Setting) -> str:
    default: object = setting.default
    if default is msgspec.NODEFAULT:
        return "(required)"
    if setting.secret:
        return "***" if default else "-"
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, tuple):
        return ",".join(map(str, cast("tuple[object, ...]", default))) or "-"
    return "-" if default in {"", None} else str(default)


def _value(setting: Setting, environ: Mapping[str, str]) -> Any:
    for name in setting.names:
        if (text := environ.get(name, "")).strip():
            return _convert(setting, name, text)
        if setting.secret and (file := environ.get(f"{name}_FILE")):
            try:
                return Secret(Path(file).read_text().strip())
            except (OSError, UnicodeDecodeError) as error:
                raise ValueError(f"{name}_FILE: cannot read {file}: {error}") from error
    if setting.default is msgspec.NODEFAULT:
        raise ValueError(f"{setting.names[0]} must be set: {setting.help}")
    return setting.default


def _convert(setting: Setting, name: str, text: str) -> Any:
    kind: Any = next(iter(get_args(setting.type)))
    if setting.secret:
        return Secret(text)
    value: Any = text.strip()
    if bool in {kind, *get_args(kind)}:
        lowered = value.lower()
        if lowered not in _TRUE | _FALSE:
            raise ValueError(f"{name}={text!r}: expected true or false")
        return lowered in _TRUE
    if get_origin(kind) is tuple:
        value = tuple(part.strip() for part in text.split(",") if part.strip())
        each: Any = get_args(kind)[0]
        if get_origin(each) is Literal:
            value = tuple(_choice(each, name, text, part) for part in value)
    if get_origin(kind) is Literal:
        return _choice(kind, name, text, value)
    try:
        value = msgspec.convert(value, setting.type, strict=False)
    except (msgspec.ValidationError, UnicodeError) as error:
        # "got `str`" is how we asked, not what is wrong.
        problem = str(error).replace(", got `str`", "")
        raise ValueError(f"{name}={text!r}: {problem[:1].lower()}{problem[1:]}") from error
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{name}={text!r}: expected a finite number")
    return value


def _choice(kind: Any, name: str, text: str, value: str) -> Any:
    choices = {str(choice).lower(): choice for choice in get_args(kind)}
    if value.lower() not in choices:
        raise ValueError(f"{name}={text!r}: expected one of {', '.join(choices)}")
    return choices[value.lower()]


@functools.cache
def _hints(cls: type[Settings]) -> dict[str, Any]:
    # Evaluating the annotations of a hundred settings takes milliseconds of the start: once is enough.
    return get_type_hints(cls, include_extras=True)


def _build(cls: type[SettingsT], tree: dict[str, Any]) -> SettingsT:
    hints = _hints(cls)
    return cls(
        **{
            name: _build(hints[name], value) if isinstance(value, dict) else value  # pyright: ignore[reportUnknownArgumentType]
            for name, value in tree.items()
        }
    )
