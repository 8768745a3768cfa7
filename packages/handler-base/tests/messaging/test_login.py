"""TLS and credentials against a real nats-server: had when asked for, never sent in the clear, never shown."""

from __future__ import annotations

import asyncio
import contextlib
import re
from typing import TYPE_CHECKING

import pytest

from handler_base.config import load
from handler_base.errors import ConfigError, MessagingError
from handler_base.messaging.options import client_options
from handler_base.messaging.settings import NatsSettings
from handler_testkit.nats import free_port, nats_server
from handler_testkit.nats_login import Certificates, Nkey, Operator, certificates
from handler_testkit.services import Client, until
from handler_testkit.sockets import tcp_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from handler_testkit.nats import NatsServer

PASSWORD = "p@ss:word/ü"


@pytest.fixture(scope="module")
def pems(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return certificates(tmp_path_factory.mktemp("pems"))


async def works(url: str, **environ: str) -> None:
    """Connect and hear an own message, or fail."""
    async with Client(url, **environ) as client:
        heard = await client.listen("a")
        await client.connection.publish_bytes("a", b"1")
        assert (await heard.next()).data == b"1"


@contextlib.asynccontextmanager
async def refused(url: str, reason: str, **environ: str) -> AsyncIterator[Client]:
    """Try to connect until `reason` (a regular expression) is given, and on, since it may change."""
    client = Client(url, **environ)
    connecting = asyncio.create_task(client.connection.connect())
    try:
        await until(
            lambda: connecting.done() or re.search(reason, client.connection.status().last_error),
        )
        tries = client.connection._client._attempts
        await until(lambda: connecting.done() or client.connection._client._attempts >= tries + 2)
        assert not connecting.done()
        yield client
    except TimeoutError:
        pytest.fail(f"{client.connection.status().last_error!r} does not match {reason!r}")
    finally:
        connecting.cancel()
        await asyncio.wait([connecting])
        await client.connection.close()


@contextlib.asynccontextmanager
async def recorder(info: bytes) -> AsyncIterator[tuple[int, bytearray]]:
    """A listener that greets like a nats-server and records what it is sent."""
    received = bytearray()

    async def record(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(info)
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                received.extend(data)
        received.extend(b"<end>")

    async with tcp_server(record) as port:
        yield port, received


# -- TLS -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [
        {"NATS_USER": "ada", "NATS_PASSWORD": "secret-1"},
        {"NATS_TOKEN": "secret-1"},
        {},
    ],
)
@pytest.mark.parametrize("info", [b"{}", b'{"auth_required":true,"nonce":"abc","max_payload":1024}'])
async def test_a_server_without_tls_is_sent_nothing_at_all(info: bytes, settings: dict[str, str]) -> None:
    async with (
        recorder(b"INFO " + info + b"\r\n") as (port, received),
        refused(f"tls://127.0.0.1:{port}", "it offers no TLS", **settings),
    ):
        await until(lambda: received.count(b"<end>") >= 3)
    assert received.replace(b"<end>", b"") == b""


async def test_naming_a_ca_asks_for_tls_too(pems: Certificates) -> None:
    async with (
        recorder(b"INFO {}\r\n") as (port, received),
        refused(f"nats://127.0.0.1:{port}", "it offers no TLS", NATS_TLS_CA=pems.ca),
    ):
        await until(lambda: received.count(b"<end>") >= 1)
    assert received.replace(b"<end>", b"") == b""


async def test_what_waits_is_not_sent_in_the_clear_by_closing(pems: Certificates) -> None:
    """nats-py writes what waits to whatever connection it has when it is closed."""
    with nats_server(config=pems.config(), scheme="tls", jetstream=False) as server:
        client = Client(server.url, NATS_TLS_CA=pems.ca)
        await client.connection.connect()
        server.kill()
        await until(lambda: not client.connection.connected)
        await client.connection.publish_bytes("a", b"secret-1")
        received = bytearray()

        async def record(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"INFO {}\r\n")
            received.extend(await reader.read())

        async with tcp_server(record, port=server.port):
            await until(lambda: "it offers no TLS" in client.connection.status().last_error)
            with pytest.raises(Exception, match="bytes of accepted messages are lost"):
                await client.connection.close()
        assert received == b""


async def test_the_real_server_without_tls_is_refused(nats: NatsServer) -> None:
    async with refused(nats.url.replace("nats://", "tls://"), "it offers no TLS, and NATS_URL"):
        pass


@pytest.mark.parametrize("scheme", ["tls", "nats"])
async def test_tls_with_a_private_ca(pems: Certificates, scheme: str) -> None:
    with nats_server(config=pems.config(), scheme=scheme, jetstream=False) as server:
        await works(server.url, NATS_TLS_CA=pems.ca)


async def test_tls_that_the_server_leaves_to_us_is_taken(pems: Certificates) -> None:
    with nats_server(config=pems.config() + "allow_non_tls: true\n", scheme="tls", jetstream=False) as server:
        async with Client(server.url, NATS_TLS_CA=pems.ca) as client:
            assert client.connection._client._transport.encrypted  # type: ignore[union-attr]


async def test_tls_survives_a_restart(pems: Certificates) -> None:
    with nats_server(config=pems.config(), scheme="tls", jetstream=False) as server:
        async with Client(server.url, NATS_TLS_CA=pems.ca) as client:
            again = asyncio.Event()

            async def reconnected() -> None:
                again.set()

            client.connection.on_reconnect(reconnected)
            heard = await client.listen("a")
            await asyncio.to_thread(server.restart)
            await asyncio.wait_for(again.wait(), 10)
            assert client.connection._client._transport.encrypted  # type: ignore[union-attr]
            await client.connection.publish_bytes("a", b"1")
            assert (await heard.next()).data == b"1"


async def test_a_server_of_another_ca_is_refused(pems: Certificates) -> None:
    with nats_server(config=pems.config(), scheme="tls", jetstream=False) as server:
        for ca in ({"NATS_TLS_CA": pems.other_ca}, {}):
            async with refused(server.url, r"its TLS certificate is not trusted \(.+\); NATS_TLS_CA", **ca):
                pass


async def test_a_certificate_for_another_name_is_refused(pems: Certificates) -> None:
    with nats_server(config=pems.config(), jetstream=False) as server:
        # 127.0.0.2 is this machine too, and not in the certificate; the server listens on 127.0.0.1 only.
        async with (
            forwarder("127.0.0.2", server.port) as port,
            refused(f"tls://127.0.0.2:{port}", r"not trusted .*127\.0\.0\.2", NATS_TLS_CA=pems.ca),
        ):
            pass


@contextlib.asynccontextmanager
async def forwarder(host: str, target: int) -> AsyncIterator[int]:
    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                writer.write(data)
        writer.close()

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", target)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(pump(reader, back))
                tasks.create_task(pump(there, writer))
        finally:
            back.close()

    async with tcp_server(forward, host=host) as port:
        yield port


async def test_a_client_certificate_is_shown_when_the_server_asks(pems: Certificates) -> None:
    with nats_server(config=pems.config("verify: true"), scheme="tls", jetstream=False) as server:
        mine = {"NATS_TLS_CERT": pems.client, "NATS_TLS_KEY": pems.client_key}
        await works(server.url, NATS_TLS_CA=pems.ca, **mine)
        async with refused(server.url, "TLS failed|it closed the connection", NATS_TLS_CA=pems.ca):
            pass


async def test_tls_first(pems: Certificates) -> None:
    config = pems.config("handshake_first: true")
    with nats_server(config=config, scheme="tls", jetstream=False, greets=False) as server:
        await works(server.url, NATS_TLS_CA=pems.ca, NATS_TLS_FIRST="true")
        async with refused(server.url, "no answer within", NATS_TLS_CA=pems.ca, NATS_CONNECT_TIMEOUT="0.2"):
            pass


async def test_tls_first_with_a_server_that_speaks_first(pems: Certificates) -> None:
    with nats_server(config=pems.config(), scheme="tls", jetstream=False) as server:
        # Whether its first line comes before or within our handshake is chance.
        first = {"NATS_TLS_FIRST": "true", "NATS_CONNECT_TIMEOUT": "0.3"}
        async with refused(server.url, "TLS failed|no answer within", NATS_TLS_CA=pems.ca, **first):
            pass


@pytest.mark.parametrize("name", ["NATS_TLS_CA", "NATS_TLS_CERT"])
async def test_a_certificate_that_cannot_be_read_is_a_wrong_setting(tmp_path: Path, name: str) -> None:
    broken = tmp_path / "broken.pem"
    broken.write_text("not a certificate")
    for path in (str(broken), str(tmp_path / "missing.pem")):
        with pytest.raises(ConfigError, match=r"NATS_TLS_CA, .* cannot be read"):
            await Client("nats://127.0.0.1:1", **{name: path}).connection.connect()


# -- credentials -----------------------------------------------------------------------------------------------

REFUSED = r"127\.0\.0\.1:\d+: it refused the credentials \(authorization violation\)"


async def test_user_and_password(caplog: pytest.LogCaptureFixture) -> None:
    config = f'authorization {{ user: "ada", password: "{PASSWORD}" }}\n'
    with nats_server(config=config, jetstream=False) as server:
        await works(server.url, NATS_USER="ada", NATS_PASSWORD=PASSWORD)
        async with refused(server.url, REFUSED, NATS_USER="ada", NATS_PASSWORD="wrong-secret") as client:
            assert "wrong-secret" not in repr(client.connection.status())
            assert "wrong-secret" not in repr(client.connection._settings)
        async with refused(server.url, REFUSED):
            pass
    assert "secret" not in caplog.text
    assert PASSWORD not in caplog.text


@pytest.mark.parametrize("user", ["ada", "a:d@a"])
async def test_user_and_password_in_the_url(caplog: pytest.LogCaptureFixture, user: str) -> None:
    """nats-py sends them as they stand in the URL, percent signs and all."""
    config = f'authorization {{ user: "{user}", password: "{PASSWORD}" }}\n'
    encoded = f"{user.replace(':', '%3A').replace('@', '%40')}:p%40ss%3Aword%2F%C3%BC"
    with nats_server(config=config, jetstream=False) as server:
        await works(f"nats://{encoded}@127.0.0.1:{server.port}")
        async with refused(f"nats://{user[:1]}:wrong-secret@127.0.0.1:{server.port}", REFUSED):
            pass
        # What is set by itself has precedence.
        await works(f"nats://x:y@127.0.0.1:{server.port}", NATS_USER=user, NATS_PASSWORD=PASSWORD)
    assert "secret" not in caplog.text
    assert "p%40ss" not in caplog.text


async def test_the_login_of_the_url_is_for_servers_that_the_cluster_names_too(
    pems: Certificates,
) -> None:
    """nats-py sends it only to servers that are in the list."""
    login = 'authorization { user: "ada", password: "b" }\n'
    with contextlib.ExitStack() as stack:
        route = free_port()
        cluster = "cluster {{ name: c, listen: 127.0.0.1:{0}, routes: [{1}], pool_size: 1 }}\n"
        one = stack.enter_context(nats_server(config=login + cluster.format(route, ""), jetstream=False))
        joined = cluster.format(-1, f"nats://127.0.0.1:{route}")
        two = stack.enter_context(nats_server(config=login + joined, jetstream=False))
        async with Client(f"nats://ada:b@127.0.0.1:{one.port}") as client:
            again = asyncio.Event()

            async def reconnected() -> None:
                again.set()

            client.connection.on_reconnect(reconnected)
            heard = await client.listen("a")
            await until(lambda: len(client.connection._client.servers) == 2)
            one.kill()
            await asyncio.wait_for(again.wait(), 10)
            assert client.connection.status().server == f"127.0.0.1:{two.port}"
            await client.connection.publish_bytes("a", b"1")
            assert (await heard.next()).data == b"1"


async def test_servers_that_have_left_the_cluster_are_forgotten(nats: NatsServer) -> None:
    async with Client(nats.url) as client:
        inner = client.connection._client
        await inner._process_info({"connect_urls": [f"127.0.0.1:{nats.port}", "10.0.0.1:4222"]})
        await inner._process_info({"connect_urls": [f"127.0.0.1:{nats.port}", "10.0.0.2:4222"]})
        assert {url.netloc for url in inner.servers} == {f"127.0.0.1:{nats.port}", "10.0.0.2:4222"}
        await inner._process_info({"connect_urls": []})
        assert len(inner.servers) == 2


async def test_a_token(caplog: pytest.LogCaptureFixture) -> None:
    with nats_server(config='authorization { token: "secret-1" }\n', jetstream=False) as server:
        await works(server.url, NATS_TOKEN="secret-1")
        await works(f"nats://secret-1@127.0.0.1:{server.port}")
        async with refused(server.url, REFUSED, NATS_TOKEN="wrong-secret"):
            pass
    assert "secret" not in caplog.text


async def test_an_nkey(caplog: pytest.LogCaptureFixture) -> None:
    mine, stranger = Nkey("U"), Nkey("U")
    config = f"authorization {{ users: [ {{nkey: {mine.public}}} ] }}\n"
    with nats_server(config=config, jetstream=False) as server:
        await works(server.url, NATS_NKEY_SEED=mine.seed)
        async with refused(server.url, REFUSED, NATS_NKEY_SEED=stranger.seed):
            pass
    assert stranger.seed not in caplog.text


@pytest.mark.parametrize("seed", ["", "x", "SUAAAA", "SU" + "A" * 56, "ÜÜ", "SU0189"])
async def test_a_seed_that_is_none_is_a_wrong_setting_and_not_shown(seed: str) -> None:
    client = Client("nats://127.0.0.1:1", NATS_NKEY_SEED=seed + "-wrong")
    with pytest.raises(ConfigError, match="NATS_NKEY_SEED: not the seed of an nkey") as caught:
        await client.connection.connect()
    assert "wrong" not in str(caught.value)


async def test_a_creds_file_with_a_jwt(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    operator = Operator()
    mine = operator.creds(tmp_path / "mine.creds")
    stranger = Operator().creds(tmp_path / "stranger.creds")
    with nats_server(config=operator.config(), jetstream=False) as server:
        await works(server.url, NATS_CREDS=str(mine))
        async with refused(server.url, REFUSED, NATS_CREDS=str(stranger)):
            pass
        async with refused(server.url, REFUSED):
            pass
    assert "eyJ" not in caplog.text


async def test_a_creds_file_that_is_renewed_is_read_again(tmp_path: Path) -> None:
    operator = Operator()
    path = operator.creds(tmp_path / "mine.creds")
    with nats_server(config=operator.config(), jetstream=False) as server:
        async with Client(server.url, NATS_CREDS=str(path)) as client:
            again = asyncio.Event()

            async def reconnected() -> None:
                again.set()

            client.connection.on_reconnect(reconnected)
            # Gone, then half written: said, and tried again until it is whole.
            path.unlink()
            await asyncio.to_thread(server.restart)
            await until(lambda: "mine.creds cannot be read" in client.connection.status().last_error)
            path.write_text("-----BEGIN NATS USER JWT-----\n")
            await until(lambda: "is not a .creds file" in client.connection.status().last_error)
            operator.creds(path)
            await asyncio.wait_for(again.wait(), 10)
            await client.connection.flush()


async def test_credentials_that_expire_are_said_and_renewed(tmp_path: Path) -> None:
    """nats-py closes for good when a JWT expires."""
    operator = Operator()
    path = operator.creds(tmp_path / "mine.creds", expires=2.0)
    with nats_server(config=operator.config(), jetstream=False) as server:
        async with Client(server.url, NATS_CREDS=str(path)) as client:
            again = asyncio.Event()

            async def reconnected() -> None:
                again.set()

            client.connection.on_reconnect(reconnected)
            heard = await client.listen("a")
            await until(lambda: not client.connection.connected)
            operator.creds(path)
            await asyncio.wait_for(again.wait(), 10)
            await client.connection.publish_bytes("a", b"1")
            assert (await heard.next()).data == b"1"


@pytest.mark.parametrize(
    "text", ["", "hello", "-----BEGIN NATS USER JWT-----\nabc\n------END NATS USER JWT------\n"]
)
async def test_a_file_that_holds_no_credentials_is_a_wrong_setting(tmp_path: Path, text: str) -> None:
    """nats-py's own reader of such a file never ends."""
    path = tmp_path / "wrong.creds"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"NATS_CREDS: .*wrong.creds is not a .creds file"):
        await Client("nats://127.0.0.1:1", NATS_CREDS=str(path)).connection.connect()
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match=r"NATS_CREDS: .*wrong.creds cannot be read"):
        await Client("nats://127.0.0.1:1", NATS_CREDS=str(path)).connection.connect()
    path.unlink()
    with pytest.raises(ConfigError, match=r"NATS_CREDS: .*wrong.creds cannot be read"):
        await Client("nats://127.0.0.1:1", NATS_CREDS=str(path)).connection.connect()


# -- NATS_URL --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "servers"),
    [
        ("nats://localhost", ["nats://localhost:4222"]),
        ("localhost:4223", ["nats://localhost:4223"]),
        ("nats://a, tls://b:1 ,,c", ["nats://a:4222", "tls://b:1", "nats://c:4222"]),
        ("nats://[::1]:4222,[::2]", ["nats://[::1]:4222", "nats://[::2]:4222"]),
        ("nats://nats.nats.svc.cluster.local:4222/", ["nats://nats.nats.svc.cluster.local:4222"]),
    ],
)
def test_server_addresses(url: str, servers: list[str]) -> None:
    assert client_options(load(NatsSettings, {"NATS_URL": url}))["servers"] == servers


@pytest.mark.parametrize(
    "url",
    [
        "http://host:4222",
        "nats://",
        "nats://host:port",
        "nats://host:99999",
        "nats://ada:pa/secret@host:4222",
        "nats://a..b",
        "nats://" + "x" * 64,
        "nats://[::1",
        ",",
        "nats://ada:secret@a,nats://bob:secret@b",
    ],
)
def test_an_address_that_cannot_be_one_is_a_wrong_setting_and_no_secret_is_shown(url: str) -> None:
    with pytest.raises(ConfigError, match="NATS_URL") as caught:
        client_options(load(NatsSettings, {"NATS_URL": url}))
    assert "secret" not in str(caught.value)


async def test_inboxes_have_the_prefix_that_is_set(nats: NatsServer) -> None:
    async with Client(nats.url, NATS_INBOX_PREFIX="_INBOX_ada") as client, Client(nats.url) as other:
        assert client.connection.new_inbox().startswith("_INBOX_ada.")
        asked = await other.listen("asked")
        with pytest.raises(MessagingError):
            await client.connection.request_bytes("asked", b"", timeout=0.1)
        assert (await asked.next()).reply.startswith("_INBOX_ada.")


@pytest.mark.parametrize("prefix", ["_INBOX.>", "in box", "$SYS", "a..b", "*"])
def test_an_inbox_prefix_that_is_no_subject_is_refused(prefix: str) -> None:
    with pytest.raises(ConfigError, match="NATS_INBOX_PREFIX"):
        client_options(NatsSettings(inbox_prefix=prefix))
