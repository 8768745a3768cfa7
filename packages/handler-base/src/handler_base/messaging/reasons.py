"""nats-py's errors in words; many of them have none of their own, or wrong ones for where they come up."""

from __future__ import annotations

import os
import ssl

import nats.errors

_KINDS: tuple[tuple[type[Exception], str], ...] = (
    (nats.errors.UnexpectedEOF, "it closed the connection"),
    (nats.errors.StaleConnectionError, "it answers no pings"),
    (ConnectionRefusedError, "connection refused"),
    (ConnectionError, "it closed the connection"),
)
_REFUSALS = {
    "authorization violation": "it refused the credentials (authorization violation)",
    "user authentication expired": "the credentials have expired",
    "account authentication expired": "the account's credentials have expired",
    "user authentication revoked": "the credentials were revoked",
    "maximum connections exceeded": "it takes no more connections",
    "stale connection": "it heard nothing of us for too long",
}


def describe(error: BaseException) -> str:
    """Say why JetStream or a request failed."""
    from nats.js.errors import APIError, NoStreamResponseError, ServiceUnavailableError

    said = error.description if isinstance(error, APIError) else None
    if not said and isinstance(error, ServiceUnavailableError | nats.errors.NoRespondersError):
        return "JetStream is not enabled on the server, or not ready yet"
    if isinstance(error, APIError):
        return said or f"JetStream error {error.err_code}"
    if isinstance(error, NoStreamResponseError):
        return "no stream takes this subject: JetStream is not enabled, or the stream is gone"
    if isinstance(error, nats.errors.ConnectionClosedError):
        return "the connection is closed"
    if isinstance(error, nats.errors.TimeoutError | TimeoutError):
        return "no answer from JetStream (is it enabled, and is this user allowed to use $JS.API?)"
    return _plain(error)


def server_reason(error: BaseException, timeout: float = 0.0) -> str:
    """Say why a server cannot be used; reads on from its name and a colon.

    Args:
        error: What nats-py or the operating system said.
        timeout: The patience that has ended when it is a time-out, in seconds.
    """
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its TLS certificate is not trusted ({error.verify_message}); NATS_TLS_CA names the CA"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed ({(getattr(error, 'reason', '') or str(error)).replace('_', ' ').lower()})"
    if isinstance(error, TimeoutError):
        return f"no answer within {timeout:g} s"
    for kind, reason in _KINDS:
        if isinstance(error, kind):
            return reason
    text = _plain(error)
    return _REFUSALS.get(text.lower(), text)


def _plain(error: BaseException) -> str:
    if isinstance(error, OSError) and error.errno is not None and error.errno > 0:
        return os.strerror(error.errno).lower()
    text = str(error).removeprefix("nats: ").strip("' ")
    return text or type(error).__name__
