from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import pytest

from handler_base.config import Secret, Settings, env, help_text, load, settings_of
from handler_base.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path


class Endpoint(Settings, frozen=True, kw_only=True):
    url: Annotated[str, env("LLM_URL", "VLLM_URL", help="where the model is")] = "http://127.0.0.1:8000/llm"
    timeout: Annotated[float, env("LLM_TIMEOUT", help="seconds to the first token", ge=0)] = 30.0
    key: Annotated[Secret, env("LLM_API_KEY", help="sent as bearer token")] = Secret()


class Greeter(Settings, frozen=True, kw_only=True):
    name: Annotated[str, env("GREETER_NAME", help="who greets")]
    tries: Annotated[int, env("GREETER_TRIES", help="how often", ge=1, le=9)] = 3
    loud: Annotated[bool, env("GREETER_LOUD", help="in capitals")] = False
    shy: Annotated[bool | None, env("GREETER_SHY", help="unset: decided per person")] = None
    languages: Annotated[tuple[str, ...], env("GREETER_LANGUAGES", help="in this order")] = ("en",)
    ports: Annotated[tuple[int, ...], env("GREETER_PORTS", help="where")] = ()
    tone: Annotated[Literal["warm", "cool"], env("GREETER_TONE", help="how it sounds")] = "warm"
    llm: Endpoint = Endpoint()


def problems(environ: dict[str, str]) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(Greeter, environ)
    return caught.value.problems


def test_unset_variables_leave_the_defaults_and_nested_groups_are_filled() -> None:
    settings = load(Greeter, {"GREETER_NAME": "Ada"})
    assert settings == Greeter(name="Ada")
    assert settings.llm.url == "http://127.0.0.1:8000/llm"


def test_each_kind_of_value_is_converted() -> None:
    settings = load(
        Greeter,
        {
            "GREETER_NAME": "Ada",
            "GREETER_TRIES": " 4 ",
            "GREETER_LOUD": "Yes",
            "GREETER_SHY": "off",
            "GREETER_LANGUAGES": "de, en,,",
            "GREETER_PORTS": "80,443",
            "GREETER_TONE": "COOL",
            "LLM_TIMEOUT": "1.5",
        },
    )
    assert (settings.tries, settings.loud, settings.shy) == (4, True, False)
    assert (settings.languages, settings.ports, settings.tone) == (("de", "en"), (80, 443), "cool")
    assert settings.llm.timeout == 1.5


@pytest.mark.parametrize("empty", ["", "  "])
def test_a_variable_set_to_nothing_counts_as_not_set(empty: str) -> None:
    assert load(Greeter, {"GREETER_NAME": "Ada", "GREETER_TRIES": empty, "LLM_URL": empty}) == Greeter(
        name="Ada"
    )


def test_the_preferred_name_wins_over_the_older_one() -> None:
    older = {"GREETER_NAME": "Ada", "VLLM_URL": "http://old"}
    assert load(Greeter, older).llm.url == "http://old"
    assert load(Greeter, {**older, "LLM_URL": "http://new"}).llm.url == "http://new"


def test_every_problem_is_reported_at_once_by_the_name_of_its_variable() -> None:
    found = problems(
        {"GREETER_TRIES": "ten", "GREETER_LOUD": "maybe", "GREETER_TONE": "hot", "LLM_TIMEOUT": "-1"}
    )
    assert len(found) == 5
    assert found[0] == "GREETER_NAME must be set: who greets"
    assert found[1] == "GREETER_TRIES='ten': expected `int`"
    assert found[2] == "GREETER_LOUD='maybe': expected true or false"
    assert found[3] == "GREETER_TONE='hot': expected one of warm, cool"
    assert found[4].startswith("LLM_TIMEOUT='-1': ")


@pytest.mark.parametrize("value", ["inf", "nan", "1e999", "-inf", "0x10", "1,5"])
def test_numbers_that_no_timeout_can_be_are_refused(value: str) -> None:
    (problem,) = problems({"GREETER_NAME": "Ada", "LLM_TIMEOUT": value})
    assert problem.startswith(f"LLM_TIMEOUT={value!r}: ")


@pytest.mark.parametrize(
    ("value", "allowed"), [("0", False), ("1", True), ("9", True), ("10", False), ("1.5", False)]
)
def test_bounds_are_inclusive(value: str, allowed: bool) -> None:
    environ = {"GREETER_NAME": "Ada", "GREETER_TRIES": value}
    if allowed:
        assert load(Greeter, environ).tries == int(value)
    else:
        assert problems(environ)[0].startswith(f"GREETER_TRIES='{value}': ")


def test_bytes_that_are_no_text_are_a_problem_and_not_a_crash() -> None:
    (problem,) = problems({"GREETER_NAME": "Ada", "GREETER_TRIES": "\udcff"})
    assert problem.startswith("GREETER_TRIES=")


def test_a_secret_comes_from_its_variable_or_from_the_file_it_names(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("from-file\n")
    assert load(Endpoint, {"LLM_API_KEY_FILE": str(file)}).key.reveal() == "from-file"
    both = {"LLM_API_KEY_FILE": str(file), "LLM_API_KEY": "direct"}
    assert load(Endpoint, both).key.reveal() == "direct"


def test_a_secret_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "nothing"
    with pytest.raises(ConfigError, match=f"LLM_API_KEY_FILE: cannot read {missing}"):
        load(Endpoint, {"LLM_API_KEY_FILE": str(missing)})
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="LLM_API_KEY_FILE: cannot read"):
        load(Endpoint, {"LLM_API_KEY_FILE": str(binary)})


def test_a_secret_is_never_printed() -> None:
    settings = load(Endpoint, {"LLM_API_KEY": "hunter2"})
    assert "hunter2" not in f"{settings!r} {settings.key} {settings.key!r}"
    assert settings.key
    assert not Secret()
    assert settings.key == Secret("hunter2")
    assert hash(settings.key) == hash(Secret("hunter2"))
    assert settings.key != "hunter2"


def test_the_help_lists_every_setting_with_default_older_names_and_no_secret() -> None:
    class WithSecret(Settings, frozen=True, kw_only=True):
        token: Annotated[Secret, env("TOKEN", help="secret")] = Secret("preset")
        group: Greeter

    text = help_text(WithSecret)
    lines = {line.split()[0]: line.split()[1:] for line in text.splitlines()}
    assert "preset" not in text
    assert lines["TOKEN"][0] == "***"
    assert lines["GREETER_NAME"][0] == "(required)"
    assert lines["GREETER_LOUD"][0] == "false"
    assert lines["GREETER_SHY"][0] == "-"
    assert lines["GREETER_LANGUAGES"][0] == "en"
    assert lines["GREETER_PORTS"][0] == "-"
    assert lines["LLM_API_KEY"][0] == "-"
    assert lines["LLM_URL"][-2:] == ["(also", "VLLM_URL)"]


def test_the_process_environment_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GREETER_NAME", "Grace")
    assert load(Greeter).name == "Grace"


def test_a_field_without_its_variable_is_a_mistake_of_the_programmer() -> None:
    class Wrong(Settings, frozen=True, kw_only=True):
        name: str = ""

    with pytest.raises(TypeError, match=r"Wrong\.name is not annotated"):
        list(settings_of(Wrong))


class Nested(Settings, frozen=True, kw_only=True):
    greeter: Greeter = Greeter(name="Ada", tries=7, llm=Endpoint(timeout=5))
    endpoint: Endpoint = Endpoint(url="http://elsewhere", key=Secret("s"))


def test_a_group_that_nests_another_gives_it_other_defaults() -> None:
    settings = load(Nested, {})
    assert settings == Nested()
    assert (settings.greeter.name, settings.greeter.tries, settings.greeter.llm.timeout) == ("Ada", 7, 5)
    assert settings.greeter.llm.url == "http://127.0.0.1:8000/llm"
    assert settings.endpoint.key.reveal() == "s"


def test_variables_win_over_the_defaults_of_the_nesting_group() -> None:
    settings = load(Nested, {"GREETER_TRIES": "2", "LLM_TIMEOUT": "9"})
    assert (settings.greeter.name, settings.greeter.tries) == ("Ada", 2)
    assert (settings.greeter.llm.timeout, settings.endpoint.timeout) == (9, 9)
    assert problems_of({"GREETER_TRIES": "0"}) == ["GREETER_TRIES='0': expected `int` >= 1"]


def problems_of(environ: dict[str, str]) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(Nested, environ)
    return caught.value.problems


def test_the_help_shows_the_defaults_of_the_nesting_group() -> None:
    lines = {line.split()[0]: line.split()[1] for line in help_text(Nested).splitlines()[:3]}
    assert lines["GREETER_TRIES"] == "7"
    assert lines["GREETER_NAME"] == "Ada"
    assert "http://elsewhere" in help_text(Nested)
    assert "required" not in help_text(Nested)
