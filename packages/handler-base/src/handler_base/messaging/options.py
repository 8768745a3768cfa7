"""From settings to nats-py's options, with every default of it that is wrong for a service overridden."""

from __future__ import annotations

import base64
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote, urlsplit

import nats.errors

from handler_base.errors import ConfigError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from handler_base.messaging.settings import NatsSettings

_JWT = re.compile(r"-BEGIN NATS USER JWT-+\s+(\S+)\s+-+END")
_INBOX = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
_SEED = re.compile(r"-BEGIN USER NKEY SEED-+\s+(\S+)\s+-+END")


def client_options(settings: NatsSettings) -> dict[str, Any]:
    """Return the keyword arguments of `Client.connect`, callbacks left out.

    Raises:
        ConfigError: If the settings cannot work on any server; no secret is in its text.
    """
    addresses, login = _servers(settings.url)
    if not _INBOX.fullmatch(settings.inbox_prefix):
        raise ConfigError(
            [f"NATS_INBOX_PREFIX={settings.inbox_prefix!r}: expected a subject without wildcards"]
        )
    options: dict[str, Any] = {
        "servers": addresses,
        "allow_reconnect": True,
        "max_reconnect_attempts": -1,
        "inbox_prefix": settings.inbox_prefix,
        "connect_timeout": settings.connect_timeout,
        "ping_interval": settings.ping_interval,
        "max_outstanding_pings": 2,
        # Connection limits what waits by itself; nats-py's limit swallows cancellation.
        "pending_size": sys.maxsize,
    }
    if settings.user:
        options |= {"user": settings.user, "password": settings.password.reveal()}
    elif settings.token:
        options["token"] = settings.token.reveal()
    else:
        options |= login
    if settings.nkey_seed:
        seed = settings.nkey_seed.reveal()
        _checked("NATS_NKEY_SEED", lambda: sign(seed, ""))
        options["nkeys_seed_str"] = seed
    if settings.creds:
        creds = Path(settings.creds)
        _checked("NATS_CREDS", lambda: sign(read_creds(creds).seed, ""))
        # Read anew at each connection: a mounted file may be renewed. nats-py's own reader of a file
        # without a JWT never ends.
        options |= _creds_callbacks(creds)
    if wants_tls(settings):
        options |= {"tls": tls_context(settings), "tls_handshake_first": settings.tls_first}
    return options


def _servers(urls: str) -> tuple[list[str], dict[str, str]]:
    """Return the servers without the login in their URLs, and that login.

    Servers that the cluster names later must get the login too, and nats-py does not decode it.
    """
    servers: list[str] = []
    logins: list[dict[str, str]] = []
    for text in filter(None, map(str.strip, urls.split(","))):
        url = text if "://" in text else f"nats://{text}"
        try:
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port or 4222
            host.encode("idna")
        except ValueError:
            host, port, parts = "", 0, None
        if parts is None or parts.scheme not in {"nats", "tls"} or not host:
            raise ConfigError([f"NATS_URL: {url.rsplit('@', 1)[-1]!r} is not a server like nats://host:4222"])
        servers.append(f"{parts.scheme}://{f'[{host}]' if ':' in host else host}:{port}")
        if parts.username is not None:
            user = unquote(parts.username)
            logins.append(
                {"token": user}
                if parts.password is None
                else {"user": user, "password": unquote(parts.password)}
            )
    if not servers:
        raise ConfigError(["NATS_URL names no server"])
    if any(login != logins[0] for login in logins):
        raise ConfigError(["NATS_URL: the servers have different logins; a cluster has one"])
    return servers, logins[0] if logins else {}


class Creds(NamedTuple):
    """What a .creds file holds: the user's JWT and the seed that signs the server's nonce."""

    jwt: str
    seed: str


def read_creds(path: Path) -> Creds:
    """Read a .creds file.

    Raises:
        nats.errors.Error: If it cannot be read, or holds no such thing.
    """
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise nats.errors.Error(f"{path} cannot be read: {error}") from error
    jwt, seed = _JWT.search(text), _SEED.search(text)
    if jwt is None or seed is None:
        raise nats.errors.Error(f"{path} is not a .creds file: it holds no user JWT and seed")
    return Creds(jwt[1], seed[1])


def _creds_callbacks(path: Path) -> dict[str, Callable[..., bytes]]:
    def jwt() -> bytes:
        return read_creds(path).jwt.encode()

    def signature(nonce: str) -> bytes:
        return sign(read_creds(path).seed, nonce)

    return {"user_jwt_cb": jwt, "signature_cb": signature}


def sign(seed: str, nonce: str) -> bytes:
    """Return the signature of the server's nonce in base64.

    Raises:
        nats.errors.Error: If `seed` is not the seed of an nkey.
    """
    import nkeys  # pyright: ignore[reportMissingTypeStubs]

    make: Any = nkeys.from_seed  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    try:
        pair: Any = make(bytearray(seed.strip().encode()))
        return base64.b64encode(pair.sign(nonce.encode()))
    except (nkeys.NkeysError, ValueError) as error:
        raise nats.errors.Error("not the seed of an nkey; one starts with SU") from error


def _checked(name: str, check: Callable[[], object]) -> None:
    try:
        check()
    except nats.errors.Error as error:
        raise ConfigError([f"{name}: {error}"]) from error


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
