from __future__ import annotations

import io
import json
import logging
from typing import TYPE_CHECKING, Any

import pytest

from handler_base import telemetry
from handler_base.telemetry import TelemetrySettings, logs

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def json_log(level: str = "info") -> io.StringIO:
    stream = io.StringIO()
    logs.configure(level, "json", "greeter", stream)
    return stream


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_record_is_one_line_of_json_with_its_fields() -> None:
    stream = json_log()
    logging.getLogger("greeter.work").info("said %s\nto you", "hello", extra={"user_id": "u1", "tokens": 3})
    (line,) = lines(stream)
    stamp = line.pop("time")
    assert line == {
        "level": "info",
        "logger": "greeter.work",
        "message": "said hello\nto you",
        "service": "greeter",
        "user_id": "u1",
        "tokens": 3,
    }
    assert len(stamp) == len("2026-11-23T08:38:20.123Z")
    assert stamp.endswith("Z")


def test_the_time_is_that_of_the_record_in_utc() -> None:
    stream = json_log()
    record = logging.makeLogRecord({"name": "x", "levelno": 20, "levelname": "INFO", "msg": "m"})
    record.created = 1_700_000_000.0075
    logging.getLogger().handle(record)
    assert lines(stream)[0]["time"] == "2023-11-14T22:13:20.007Z"


def test_an_exception_and_its_cause_are_one_field_on_the_same_line() -> None:
    stream = json_log()
    try:
        try:
            raise KeyError("inner")
        except KeyError as error:
            raise ValueError("outer") from error
    except ValueError:
        logging.getLogger("x").exception("failed")
    (line,) = lines(stream)
    assert "KeyError" in line["exception"]
    assert line["exception"].rstrip().endswith("ValueError: outer")


def test_a_stack_is_kept_and_no_exception_is_no_field() -> None:
    stream = json_log()
    logging.getLogger("x").info("here", stack_info=True)
    logging.getLogger("x").info("there", exc_info=(None, None, None))
    here, there = lines(stream)
    assert "Stack (most recent call last)" in here["exception"]
    assert "exception" not in there


def test_extra_fields_cannot_forge_ours() -> None:
    stream = json_log()
    logging.getLogger("x").info("m", extra={"time": "never", "service": "other", "trace_id": "0"})
    (line,) = lines(stream)
    assert line["service"] == "greeter"
    assert (line["time_"], line["service_"], line["trace_id_"]) == ("never", "other", "0")
    assert "trace_id" not in line


class Odd:
    def __str__(self) -> str:
        return "odd"


def test_values_that_json_does_not_know_become_text() -> None:
    stream = json_log()
    endless: list[Any] = []
    endless.append(endless)
    log = logging.getLogger("x")
    log.info("a", extra={"value": Odd(), "error": ValueError("v")})
    log.info("half \udc80 pair", extra={"endless": endless, "by_key": {Odd(): 1}})
    first, second = lines(stream)
    assert (first["value"], first["error"]) == ("odd", "v")
    assert second["message"] == "half \\udc80 pair"
    assert second["endless"] == "[[...]]"


def test_the_level_holds_and_a_second_configuration_replaces_the_first() -> None:
    first = json_log("warning")
    logging.getLogger("x").info("quiet")
    logging.getLogger("x").warning("loud")
    second = json_log("debug")
    logging.getLogger("x").debug("detail")
    assert [line["message"] for line in lines(first)] == ["loud"]
    assert [line["message"] for line in lines(second)] == ["detail"]


def test_a_line_tells_the_span_it_was_written_in() -> None:
    stream = json_log()
    assert telemetry.setup(
        "greeter", "1", {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_TRACES_SAMPLER": "always_off"}
    )
    try:
        with telemetry.span("a"):
            ids = telemetry.current_ids()
            logging.getLogger("x").info("inside")
        logging.getLogger("x").info("outside")
    finally:
        telemetry.shutdown()
    inside, outside = lines(stream)
    assert (inside["trace_id"], inside["span_id"]) == ids
    assert len(inside["trace_id"]) == 32
    assert "trace_id" not in outside


def test_people_get_readable_lines_and_no_control_characters() -> None:
    stream = io.StringIO()
    logs.configure("info", "console", "greeter", stream)
    logging.getLogger("x").warning("id %s", "a\x1b[2Jb\nERROR forged", extra={"endpoint": "mil\rvus"})
    try:
        raise ValueError("two\x07\nlines")
    except ValueError:
        logging.getLogger("x").exception("failed")
    text = stream.getvalue()
    first, second, *trace = text.splitlines()
    assert first[12:] == r" WARNING x: id a\x1b[2Jb\x0aERROR forged endpoint=mil\x0dvus"
    assert second.endswith("ERROR   x: failed")
    assert trace[0] == "Traceback (most recent call last):"
    assert trace[-2:] == [r"ValueError: two\x07", "lines"]


def test_auto_is_coloured_lines_on_a_terminal_and_json_elsewhere() -> None:
    terminal, pipe = Terminal(), io.StringIO()
    logs.configure("info", "auto", "greeter", terminal)
    logging.getLogger("x").warning("hello")
    logging.getLogger("x").info("plain")
    logs.configure("info", "auto", "greeter", pipe)
    logging.getLogger("x").warning("hello")
    coloured, plain = terminal.getvalue().splitlines()
    assert coloured.startswith("\x1b[33m")
    assert coloured.endswith("hello\x1b[0m")
    assert "\x1b" not in plain
    assert lines(pipe)[0]["message"] == "hello"


def test_standard_output_is_the_default(capsys: pytest.CaptureFixture[str]) -> None:
    settings = TelemetrySettings()
    logs.configure(settings.log_level, settings.log_format, "greeter")
    logging.getLogger("x").info("hello")
    assert json.loads(capsys.readouterr().out)["message"] == "hello"
