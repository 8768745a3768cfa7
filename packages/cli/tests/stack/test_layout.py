import pytest

from handlers_cli.stack.layout import SERVICES, Ports, StackOptions


@pytest.mark.parametrize(
    ("options", "services"),
    [
        ({}, SERVICES),
        ({"voice": False}, ("chat-handler", "pipeline-bridge")),
        ({"question": "Why?"}, ("chat-handler",)),
        ({"question": "Why?", "stay": True}, SERVICES),
    ],
)
def test_what_is_not_needed_does_not_run(options, services) -> None:
    assert StackOptions(**options).services == services


def test_a_service_has_the_same_port_whatever_else_runs() -> None:
    assert [Ports().probes(name) for name in SERVICES] == [8080, 8081, 8082, 8083, 8084]
