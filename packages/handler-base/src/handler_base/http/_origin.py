"""Where an endpoint is: its address, taken apart once, and the proxy that leads there.

Proxies come from the environment as operators expect: `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY`, in
lower case too, which wins. Loopback addresses are never reached through a proxy. Proxies themselves are spoken to
in plain HTTP (a CONNECT tunnel for `https` endpoints); other kinds are refused by name.
"""

from __future__ import annotations

import base64
import os
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import SplitResult, unquote, urlsplit

from handler_base.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping


class Proxy(NamedTuple):
    """A proxy to go through.

    Attributes:
        host: Its host name or address.
        port: Its port.
        authorization: Value of `Proxy-Authorization`, or "".
    """

    host: str
    port: int
    authorization: str


class Origin(NamedTuple):
    """Scheme, host and port, and how to get there. Connections are kept by it.

    Attributes:
        tls: Whether to speak TLS.
        host: Host name or address, without the brackets of IPv6.
        port: Its port.
        proxy: The proxy to go through, or None.
    """

    tls: bool
    host: str
    port: int
    proxy: Proxy | None = None

    @property
    def authority(self) -> str:
        """Host and port as a person writes them."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Address(NamedTuple):
    """A base URL taken apart.

    Attributes:
        origin: Where to connect.
        path: What every path is appended to; no slash at its end.
        authorization: Value of `Authorization` from user and password in the URL, or "".
    """

    origin: Origin
    path: str
    authorization: str


def parse(name: str, url: str, environ: Mapping[str, str] | None = None) -> Address:
    """Take a base URL apart.

    Args:
        name: What to call the endpoint in errors.
        url: `http` or `https`, without query and fragment.
        environ: Where to look for proxies; the process's environment by default.

    Raises:
        ConfigError: If it is not such a URL, or its proxy is not one that we can use.
    """
    environ = os.environ if environ is None else environ
    parts = _split(name, url)
    if parts.query or parts.fragment:
        raise ConfigError([f"{name}: {_shown(parts)} must not have a query or a fragment"])
    host, port = _host_and_port(name, parts)
    tls = parts.scheme == "https"
    proxy = _proxy(tls, host, port, environ)
    return Address(Origin(tls, host, port, proxy), parts.path.rstrip("/"), _basic(parts))


def _split(name: str, url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise ConfigError([f"{name}: the address is not a URL: {error}"]) from None
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ConfigError([f"{name}: {_shown(parts)} is not an http or https URL with a host"])
    if not url.isascii() or any(character <= " " for character in url):
        raise ConfigError([f"{name}: {_shown(parts)} has spaces or characters outside ASCII"])
    return parts


def _host_and_port(name: str, parts: SplitResult) -> tuple[str, int]:
    try:
        port = parts.port
    except ValueError:
        raise ConfigError([f"{name}: {_shown(parts)} has a port that is not a number up to 65535"]) from None
    return parts.hostname or "", port or (443 if parts.scheme == "https" else 80)


def _shown(parts: SplitResult) -> str:
    """Return the URL without user and password, query and fragment."""
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}" if parts.scheme else "it"


def _basic(parts: SplitResult) -> str:
    if parts.username is None:
        return ""
    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return "Basic " + base64.b64encode(pair.encode()).decode()


def _proxy(tls: bool, host: str, port: int, environ: Mapping[str, str]) -> Proxy | None:
    if _is_loopback(host):
        return None
    scheme = "https" if tls else "http"
    url = _variable(environ, f"{scheme}_proxy") or _variable(environ, "all_proxy")
    if not url or _excluded(host, port, _variable(environ, "no_proxy")):
        return None
    name = f"proxy for {scheme}"
    parts = _split(name, url if "://" in url else f"http://{url}")
    if parts.scheme != "http":
        raise ConfigError([f"{name}: {_shown(parts)} cannot be used: only http:// proxies are supported"])
    proxy_host, proxy_port = _host_and_port(name, parts)
    return Proxy(proxy_host, proxy_port, _basic(parts))


def _variable(environ: Mapping[str, str], name: str) -> str:
    if value := environ.get(name):
        return value
    if name == "http_proxy" and "REQUEST_METHOD" in environ:
        return ""  # in a CGI process HTTP_PROXY is a request header of the client (httpoxy)
    return environ.get(name.upper(), "")


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    import ipaddress

    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _excluded(host: str, port: int, no_proxy: str) -> bool:
    import ipaddress

    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        address = None
    for entry in filter(None, map(str.strip, no_proxy.lower().split(","))):
        if entry in {"*", f"{host}:{port}"}:
            return True
        if address is not None:
            try:
                if address in ipaddress.ip_network(entry, strict=False):
                    return True
            except ValueError:
                continue
        domain = entry.removeprefix("*").removeprefix(".")
        if host == domain or host.endswith(f".{domain}"):
            return True
    return False
