"""From settings to nats-py's options, with every default of it that is wrong for a service overridden."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import nats.errors
from nats.aio.client import Client

from handler_base.errors import ConfigError

if TYPE_CHECKING:
    import ssl

    from handler_base.messaging.settings import NatsSettings


class TLSClient(Client):
    """nats-py's client, which would send credentials in the clear to a server that offers no TLS."""

    must_use_tls = False

    def _connect_command(self) -> bytes:
        transport: Any = self._transport
        if self.must_use_tls and transport._io_writer.get_extra_info("ssl_object") is None:  # noqa: SLF001
            raise nats.errors.Error("the server offers no TLS, and NATS_URL asks for it")
        return super()._connect_command()


def client_options(settings: NatsSettings) -> dict[str, Any]:
    """Return the keyword arguments of `Client.connect`, callbacks left out.

    Raises:
        ConfigError: If the settings cannot work on any server.
    """
    servers = [part.strip() for part in settings.url.split(",") if part.strip()]
    for server in servers:
        if urlsplit(server).scheme not in {"nats", "tls"} or not urlsplit(server).hostname:
            raise ConfigError([f"NATS_URL: {without_credentials(server)} is not nats://host:port"])
    options: dict[str, Any] = {
        "servers": servers,
        "allow_reconnect": True,
        "max_reconnect_attempts": -1,
        # Used by nats-py until the first connection; later waits come from _next_server.
        "reconnect_time_wait": settings.reconnect_wait * random.uniform(1, 3),
        "connect_timeout": settings.connect_timeout,
        "ping_interval": settings.ping_interval,
        "max_outstanding_pings": 2,
        "pending_size": settings.pending_bytes,
    }
    if settings.user:
        options |= {"user": settings.user, "password": settings.password.reveal()}
    if settings.token:
        options["token"] = settings.token.reveal()
    if settings.nkey_seed:
        options["nkeys_seed_str"] = settings.nkey_seed.reveal()
    if settings.creds:
        options["user_credentials"] = settings.creds
    if wants_tls(settings):
        options |= {"tls": tls_context(settings), "tls_handshake_first": settings.tls_first}
    return options


def wants_tls(settings: NatsSettings) -> bool:
    """Whether the settings ask for TLS, by the URL or by naming certificates."""
    return any(part.strip().startswith("tls://") for part in settings.url.split(",")) or bool(
        settings.tls_ca or settings.tls_cert or settings.tls_first
    )


def tls_context(settings: NatsSettings) -> ssl.SSLContext:
    """Return the TLS context of the connection.

    Raises:
        ConfigError: If a file cannot be read.
    """
    import ssl

    try:
        context = ssl.create_default_context(cafile=settings.tls_ca or None)
        if settings.tls_cert:
            context.load_cert_chain(settings.tls_cert, settings.tls_key or None)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError([f"NATS_TLS_CA, NATS_TLS_CERT or NATS_TLS_KEY cannot be read: {error}"]) from error
    return context


def without_credentials(urls: str) -> str:
    """Return server addresses as they may be logged."""
    parts = [urlsplit(url.strip()) for url in urls.split(",")]
    return ",".join(f"{part.scheme}://{part.hostname or ''}:{part.port or 4222}" for part in parts)
