"""Errors of nats-py in words that tell a person what to do."""

from __future__ import annotations

import errno
import socket
import ssl

import nats.errors
import pytest
from nats.js.errors import APIError, NoStreamResponseError, NotFoundError, ServiceUnavailableError

from handler_base.messaging.reasons import describe, server_reason


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ServiceUnavailableError(), "JetStream is not enabled on the server, or not ready yet"),
        (ServiceUnavailableError(description="maximum bytes exceeded"), "maximum bytes exceeded"),
        (nats.errors.NoRespondersError(), "JetStream is not enabled on the server, or not ready yet"),
        (
            NoStreamResponseError(),
            "no stream takes this subject: JetStream is not enabled, or the stream is gone",
        ),
        (NotFoundError(description="stream not found"), "stream not found"),
        (nats.errors.ConnectionClosedError(), "the connection is closed"),
        (nats.errors.OutboundBufferLimitError(), "outbound buffer limit exceeded"),
        (OSError(errno.EHOSTUNREACH, "No route to host"), "no route to host"),
    ],
)
def test_what_jetstream_says(error: Exception, words: str) -> None:
    assert describe(error) == words


@pytest.mark.parametrize("error", [nats.errors.TimeoutError(), TimeoutError()])
def test_a_time_out_names_what_may_be_missing(error: Exception) -> None:
    assert "$JS.API" in describe(error)
    assert server_reason(error, 2.5) == "no answer within 2.5 s"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            nats.errors.Error("nats: 'Authorization Violation'"),
            "it refused the credentials (authorization violation)",
        ),
        (nats.errors.Error("user authentication expired"), "the credentials have expired"),
        (nats.errors.Error("nats: 'Something New'"), "Something New"),
        (nats.errors.UnexpectedEOF(), "it closed the connection"),
        (nats.errors.StaleConnectionError(), "it answers no pings"),
        (
            ConnectionRefusedError(errno.ECONNREFUSED, "Connect call failed ('127.0.0.1', 4222)"),
            "connection refused",
        ),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), "it closed the connection"),
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "Name or service not known"),
        (ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number"), "TLS failed"),
    ],
)
def test_what_is_wrong_with_a_server(error: Exception, words: str) -> None:
    assert words in server_reason(error)


def test_an_error_without_words_has_its_number_or_name() -> None:
    assert describe(APIError(err_code=10013)) == "JetStream error 10013"
    assert server_reason(nats.errors.Error()) == "Error"
