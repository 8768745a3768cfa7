"""Settings of the HTTP room; they hold for every endpoint of a process."""

from __future__ import annotations

from typing import Annotated

from handler_base.config import Settings, env


class HttpSettings(Settings, frozen=True, kw_only=True):
    """Limits of the connections to all endpoints. Durations are in seconds."""

    connect_timeout: Annotated[
        float, env("HTTP_CONNECT_TIMEOUT", help="seconds to establish a connection, TLS included", ge=0.001)
    ] = 5.0
    pool_timeout: Annotated[
        float,
        env("HTTP_POOL_TIMEOUT", help="seconds to wait for a free connection before `overloaded`", ge=0),
    ] = 10.0
    max_connections: Annotated[
        int, env("HTTP_MAX_CONNECTIONS", help="requests under way at one endpoint", ge=1)
    ] = 100
    idle_timeout: Annotated[
        float,
        env(
            "HTTP_IDLE_TIMEOUT",
            help="seconds an unused connection is kept; shorter than the endpoint's own limit (uvicorn: 5)",
            ge=0,
        ),
    ] = 4.0
    retries: Annotated[
        int, env("HTTP_RETRIES", help="further tries of a call that is safe to repeat", ge=0, le=10)
    ] = 2
    retry_max_delay: Annotated[
        float, env("HTTP_RETRY_MAX_DELAY", help="longest pause before a further try, in seconds", ge=0)
    ] = 5.0
    max_response_bytes: Annotated[
        int, env("HTTP_MAX_RESPONSE_BYTES", help="largest response body read into memory", ge=1024)
    ] = 64 * 1024 * 1024
    ca_file: Annotated[
        str, env("HTTP_CA_FILE", help="PEM file of certificate authorities to trust besides the system's")
    ] = ""
