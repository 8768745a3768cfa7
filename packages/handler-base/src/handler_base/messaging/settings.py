"""Settings of the NATS connection and of the work taken from it."""

from __future__ import annotations

from typing import Annotated

from handler_base.config import Secret, Settings, env


class NatsSettings(Settings, frozen=True, kw_only=True):
    """How to reach NATS."""

    url: Annotated[
        str, env("NATS_URL", help="server, or several separated by commas; tls:// insists on TLS")
    ] = "nats://127.0.0.1:4222"
    user: Annotated[str, env("NATS_USER", help="user name")] = ""
    password: Annotated[Secret, env("NATS_PASSWORD", help="password of NATS_USER")] = Secret()
    token: Annotated[Secret, env("NATS_TOKEN", help="token, instead of user and password")] = Secret()
    nkey_seed: Annotated[Secret, env("NATS_NKEY_SEED", help="nkey seed (SU…)")] = Secret()
    creds: Annotated[str, env("NATS_CREDS", help="path of a .creds file (JWT and seed)")] = ""
    tls_ca: Annotated[str, env("NATS_TLS_CA", help="PEM file with the CA of the server")] = ""
    tls_cert: Annotated[str, env("NATS_TLS_CERT", help="PEM file with our certificate")] = ""
    tls_key: Annotated[str, env("NATS_TLS_KEY", help="PEM file with the key of NATS_TLS_CERT")] = ""
    tls_first: Annotated[bool, env("NATS_TLS_FIRST", help="TLS before the server's first line")] = False
    inbox_prefix: Annotated[
        str, env("NATS_INBOX_PREFIX", help="first part of our inboxes; of our own where NATS has permissions")
    ] = "_INBOX"
    connect_timeout: Annotated[float, env("NATS_CONNECT_TIMEOUT", help="seconds for one attempt", ge=0.1)] = (
        5.0
    )
    ping_interval: Annotated[float, env("NATS_PING_INTERVAL", help="seconds between pings", ge=0.1)] = 10.0
    reconnect_wait: Annotated[
        float,
        env("NATS_RECONNECT_WAIT", help="seconds before the second attempt; doubles, with jitter", ge=0.01),
    ] = 0.25
    reconnect_wait_max: Annotated[
        float, env("NATS_RECONNECT_WAIT_MAX", help="longest wait between attempts, in seconds", ge=0.01)
    ] = 5.0
    pending_bytes: Annotated[
        int, env("NATS_PENDING_BYTES", help="most bytes kept while the server is away", ge=0)
    ] = 8 * 1024 * 1024


class WorkSettings(Settings, frozen=True, kw_only=True):
    """Limits and patience of a service's work."""

    max_in_flight: Annotated[
        int, env("MAX_IN_FLIGHT", help="request/reply requests at work at once; more are refused", ge=1)
    ] = 64
    durable_in_flight: Annotated[
        int, env("DURABLE_IN_FLIGHT", help="durable messages at work at once, per subject; more wait", ge=1)
    ] = 16
    request_timeout: Annotated[
        float, env("REQUEST_TIMEOUT", help="seconds for one request without a Request-Timeout-Ms", ge=0.01)
    ] = 120.0
    ack_wait: Annotated[
        float, env("ACK_WAIT", help="seconds without a heartbeat until another replica takes over", ge=1)
    ] = 15.0
    max_attempts: Annotated[
        int, env("MAX_ATTEMPTS", help="deliveries of a durable message before it is a dead letter", ge=1)
    ] = 8
    retry_delay: Annotated[
        float, env("RETRY_DELAY", help="seconds before the second attempt; doubles, with jitter", ge=0)
    ] = 1.0
    retry_delay_max: Annotated[
        float, env("RETRY_DELAY_MAX", help="longest delay between attempts, in seconds", ge=0)
    ] = 60.0
    grace: Annotated[
        float, env("SHUTDOWN_GRACE", help="seconds that running work gets to finish on SIGTERM", ge=0)
    ] = 20.0
