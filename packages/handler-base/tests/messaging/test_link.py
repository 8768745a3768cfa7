"""The connection against a real nats-server that comes late, goes, stalls, and comes back."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
from typing import TYPE_CHECKING

import pytest

from handler_base.config import load
from handler_base.errors import InvalidRequest, MessagingError, NotFound, TooLarge
from handler_base.messaging.backoff import Backoff
from handler_base.messaging.settings import NatsSettings
from handler_base.messaging.transport import Transport
from handler_testkit.nats import NatsServer, free_port, nats_server
from handler_testkit.services import Client, until
from handler_testkit.sockets import tcp_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from handler_base.messaging.connection import Connection
    from handler_base.messaging.subscription import RawMessage


@pytest.fixture
def stopped() -> Iterator[NatsServer]:
    """A nats-server that has not been started."""
    server = NatsServer()
    yield server
    server.close()


class Reconnects:
    """Counts how often a connection was made again."""

    def __init__(self, connection: Connection) -> None:
        self.event = asyncio.Event()
        connection.on_reconnect(self._count)

    async def _count(self) -> None:
        self.event.set()

    async def wait(self) -> None:
        async with asyncio.timeout(20):
            await self.event.wait()
        self.event.clear()


@contextlib.asynccontextmanager
async def accepting() -> AsyncIterator[tuple[int, list[float]]]:
    """A listener that hangs up on everybody; yields its port and the times of the calls."""
    calls: list[float] = []

    async def hang_up(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
        calls.append(asyncio.get_running_loop().time())

    async with tcp_server(hang_up) as port:
        yield port, calls


# -- connecting ------------------------------------------------------------------------------------------------


async def test_the_first_connect_waits_for_a_server_that_starts_later(stopped: NatsServer) -> None:
    client = Client(stopped.url)
    connecting = asyncio.create_task(client.connection.connect())
    await until(lambda: client.connection.status().last_error)
    assert client.connection.status().last_error == f"127.0.0.1:{stopped.port}: connection refused"
    assert not client.connection.connected
    await asyncio.to_thread(stopped.start)
    await asyncio.wait_for(connecting, 10)
    assert client.connection.connected
    assert client.connection.status().last_error == ""
    await client.connection.close()


async def test_a_first_connect_can_be_cancelled_and_closed(stopped: NatsServer) -> None:
    client = Client(stopped.url)
    connecting = asyncio.create_task(client.connection.connect())
    await until(lambda: client.connection.status().last_error)
    connecting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await connecting
    await client.connection.close()


async def test_a_connection_that_was_never_made_can_be_closed() -> None:
    await Client("nats://127.0.0.1:1").connection.close()


async def test_a_server_that_hangs_up_at_once_is_tried_again_and_named() -> None:
    """nats-py takes the end of the stream for success, and reports a connection that is none."""
    async with accepting() as (port, calls):
        client = Client(f"nats://127.0.0.1:{port}")
        connecting = asyncio.create_task(client.connection.connect())
        await until(lambda: len(calls) >= 3)
        assert not connecting.done()
        assert client.connection.status().last_error == f"127.0.0.1:{port}: it closed the connection"
        connecting.cancel()
        await asyncio.wait([connecting])
        await client.connection.close()


@pytest.mark.parametrize(
    ("greeting", "reason"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", "empty response from server when expecting INFO message"),
        (b"INFO {nonsense\r\n", "info message, json parse error"),
        (b"x" * 100_000, "it does not speak the NATS protocol"),
        (b"-ERR 'maximum connections exceeded'\r\n", "it takes no more connections"),
        (b"INFO {\"max_payload\":1024}\r\n-ERR 'Whatever It Is'\r\n", "Whatever It Is"),
        (b"", "no answer within 0.2 s"),
    ],
)
async def test_what_is_no_usable_server_is_said_in_words(greeting: bytes, reason: str) -> None:
    done = asyncio.Event()

    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)
        await done.wait()

    async with tcp_server(greet) as port:
        client = Client(f"nats://127.0.0.1:{port}", NATS_CONNECT_TIMEOUT="0.2")
        connecting = asyncio.create_task(client.connection.connect())
        await until(lambda: client.connection.status().last_error)
        assert client.connection.status().last_error == f"127.0.0.1:{port}: {reason}"
        connecting.cancel()
        await asyncio.wait([connecting])
        await client.connection.close()
        done.set()


async def test_a_warning_is_logged_once_per_reason_not_once_per_attempt(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with accepting() as (port, calls):
        client = Client(f"nats://127.0.0.1:{port}")
        connecting = asyncio.create_task(client.connection.connect())
        await until(lambda: len(calls) >= 4)
        connecting.cancel()
        await asyncio.wait([connecting])
        await client.connection.close()
    assert [r.message for r in caplog.records if r.levelno >= logging.WARNING] == [
        f"NATS: 127.0.0.1:{port}: it closed the connection"
    ]


def test_waits_grow_to_a_limit_and_are_spread() -> None:
    longest = Backoff(0.25, 5.0, jitter=lambda _, high: high)
    assert [longest.wait(n) for n in (1, 2, 3, 4, 5, 6, 10_000)] == [0.25, 0.5, 1, 2, 4, 5, 5]
    shortest = Backoff(0.25, 5.0, jitter=lambda low, _: low)
    assert [shortest.wait(n) for n in (1, 2, 6)] == [0.125, 0.25, 2.5]
    spread = {Backoff(1, 60).wait(4) for _ in range(50)}
    assert len(spread) > 40
    assert all(4 <= wait <= 8 for wait in spread)


async def test_the_waits_between_attempts_are_those_of_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    rounds: list[int] = []

    def wait(self: Backoff, number: int) -> float:
        rounds.append(number)
        return 0.0

    monkeypatch.setattr(Backoff, "wait", wait)
    async with accepting() as (one, first), accepting() as (two, second):
        client = Client(f"nats://127.0.0.1:{one},nats://127.0.0.1:{two}")
        connecting = asyncio.create_task(client.connection.connect())
        await until(lambda: len(rounds) >= 6)
        connecting.cancel()
        await asyncio.wait([connecting])
        await client.connection.close()
    assert rounds[:6] == [1, 2, 3, 4, 5, 6]
    # Both are tried in each round, and the wait comes between rounds.
    assert abs(len(first) - len(second)) <= 1
    assert len(first) + len(second) >= 12


async def test_one_of_several_servers_is_enough(nats: NatsServer) -> None:
    async with Client(f"nats://127.0.0.1:{free_port()}, {nats.url}") as client:
        assert client.connection.status().server == f"127.0.0.1:{nats.port}"


async def test_the_other_server_is_used_when_one_dies() -> None:
    with nats_server(jetstream=False) as one, nats_server(jetstream=False) as two:
        async with Client(f"{one.url},{two.url}") as client:
            reconnects = Reconnects(client.connection)
            heard = await client.listen("a")
            here, there = (one, two) if str(one.port) in client.connection.status().server else (two, one)
            here.kill()
            await reconnects.wait()
            assert client.connection.status().server == f"127.0.0.1:{there.port}"
            await client.connection.publish_bytes("a", b"still here")
            assert (await heard.next()).data == b"still here"


def test_pings_go_out_every_ten_seconds_by_default() -> None:
    assert load(NatsSettings, {}).ping_interval == 10.0


# -- losing and finding the server again -----------------------------------------------------------------------


async def test_subscriptions_work_again_after_a_restart(nats: NatsServer) -> None:
    async with Client(nats.url) as client:
        reconnects = Reconnects(client.connection)
        plain, queued, seen = await client.listen("plain"), await client.listen("wild.>"), []

        async def collect(message: RawMessage) -> None:
            seen.append(message.data)

        await client.connection.subscribe("group", collect, queue="workers")
        await asyncio.to_thread(nats.restart)
        await reconnects.wait()
        assert client.connection.status().reconnects == 1
        for subject in ("plain", "wild.a.b", "group"):
            await client.connection.publish_bytes(subject, subject.encode())
        assert (await plain.next()).data == b"plain"
        assert (await queued.next()).subject == "wild.a.b"
        await until(lambda: seen == [b"group"])


async def test_it_reconnects_again_and_again(nats: NatsServer) -> None:
    async with Client(nats.url) as client:
        reconnects = Reconnects(client.connection)
        heard = await client.listen("a")
        for number in range(1, 6):
            nats.kill()
            await until(lambda: not client.connection.connected)
            await asyncio.to_thread(nats.start)
            await reconnects.wait()
            assert client.connection.status().reconnects == number
        await client.connection.publish_bytes("a", b"1")
        assert (await heard.next()).data == b"1"
        assert len(heard.all) == 1


async def test_a_dead_link_is_noticed_by_pings(caplog: pytest.LogCaptureFixture) -> None:
    with nats_server(jetstream=False) as one, nats_server(jetstream=False) as two:
        # The frozen server would still take connections, and be silent for as long as we wait.
        patient = {"NATS_PING_INTERVAL": "0.1", "NATS_CONNECT_TIMEOUT": "60"}
        async with Client(f"{one.url},{two.url}", **patient) as client:
            reconnects = Reconnects(client.connection)
            here, there = (one, two) if str(one.port) in client.connection.status().server else (two, one)
            here.pause()
            await reconnects.wait()
            assert client.connection.status().server == f"127.0.0.1:{there.port}"
            here.resume()
    assert f"NATS: 127.0.0.1:{here.port}: it answers no pings" in caplog.messages


async def test_a_dead_link_with_a_full_send_buffer_is_left_too() -> None:
    """nats-py closes it politely and waits for its buffer to be read, for ever."""
    with nats_server(jetstream=False) as one, nats_server(jetstream=False) as two:
        async with Client(f"{one.url},{two.url}", NATS_PING_INTERVAL="0.1") as client:
            reconnects = Reconnects(client.connection)
            here = one if str(one.port) in client.connection.status().server else two
            here.pause()
            for _ in range(16):
                await client.connection.publish_bytes("a", bytes(500_000))
            await reconnects.wait()
            await client.connection.flush()


async def test_a_flush_that_timed_out_does_not_break_the_connection(nats: NatsServer) -> None:
    """nats-py's read loop dies of the PONG that comes after all."""
    async with Client(nats.url) as client:
        heard = await client.listen("a")
        nats.pause()
        with pytest.raises(MessagingError, match=r"NATS does not answer within 0\.05 s"):
            await client.connection.flush(0.05)
        nats.resume()
        await client.connection.flush()
        await client.connection.publish_bytes("a", b"1")
        assert (await heard.next()).data == b"1"
        assert client.connection.status().reconnects == 0


async def test_a_flush_means_that_the_server_has_seen_all(nats: NatsServer) -> None:
    """nats-py's PING overtakes what waits to be sent, the subscription included."""
    async with Client(nats.url) as one, Client(nats.url) as two:
        for number in range(50):
            heard = await one.listen(f"a{number}")
            await two.connection.publish_bytes(f"a{number}", b"x")
            await two.connection.flush()
            assert (await heard.next()).data == b"x"


USERS = 'authorization {{ users: [ {{user: "ada", password: "{ada}"}}, {{user: "bob", password: "b"}} ] }}\n'


async def test_a_user_who_is_thrown_out_comes_back_when_allowed_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """nats-py closes for good after an authorization error."""
    with nats_server(config=USERS.format(ada="secret-1")) as server:
        async with Client(server.url, NATS_USER="ada", NATS_PASSWORD="secret-1") as client:
            reconnects = Reconnects(client.connection)
            heard = await client.listen("a")
            await asyncio.to_thread(server.reload, USERS.format(ada="another"))
            refused = "it refused the credentials (authorization violation)"
            await until(lambda: client.connection.status().last_error.endswith(refused))
            assert not client.connection.connected
            await client.connection.publish_bytes("a", b"kept")
            await asyncio.to_thread(server.reload, USERS.format(ada="secret-1"))
            await reconnects.wait()
            assert (await heard.next()).data == b"kept"
            assert client.connection.status().last_error == ""
    assert "secret-1" not in caplog.text


async def test_a_server_that_is_full_is_waited_for() -> None:
    with nats_server(config="max_connections: 1\n", jetstream=False) as server:
        async with Client(server.url) as first:
            second = Client(server.url)
            connecting = asyncio.create_task(second.connection.connect())
            await until(lambda: "takes no more connections" in second.connection.status().last_error)
            await first.connection.close()
            await asyncio.wait_for(connecting, 10)
            await second.connection.flush()
            await second.connection.close()


async def test_the_reason_is_known_even_when_the_server_cuts_us_off_in_the_middle() -> None:
    """Its last words are there, but reading them fails as the connection is broken by then."""
    transport = Transport()
    transport._io_reader = asyncio.StreamReader()
    assert transport.last_words() is None
    transport._io_reader.feed_data(b"PONG\r\n-ERR 'maximum connections exceeded'\r\n")
    transport._io_reader.set_exception(BrokenPipeError())
    assert str(transport.last_words()) == "maximum connections exceeded"


async def test_a_client_thrown_out_by_the_server_returns_with_its_subscriptions(nats: NatsServer) -> None:
    """Any `-ERR` that is not about permissions closes nats-py for good; here a subject that is too long."""
    async with Client(nats.url) as client:
        reconnects = Reconnects(client.connection)
        heard = await client.listen("a")
        await client.connection._client.publish("x" * 5000, b"")
        await reconnects.wait()
        await client.connection.publish_bytes("a", b"1")
        assert (await heard.next()).data == b"1"


async def test_a_server_that_takes_us_and_throws_us_out_is_not_hammered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A connection that does not last does not start the waits anew."""
    rounds: list[int] = []

    def wait(self: Backoff, number: int) -> float:
        rounds.append(number)
        return 0.001

    async def throw_out(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'INFO {"max_payload":1024}\r\n')
        while await reader.readline() not in {b"PING\r\n", b""}:
            pass
        writer.write(b"PONG\r\n-ERR 'No Reason'\r\n")

    monkeypatch.setattr(Backoff, "wait", wait)
    async with tcp_server(throw_out) as port:
        client = Client(f"nats://127.0.0.1:{port}", NATS_RECONNECT_WAIT_MAX="60")
        await client.connection.connect()
        await until(lambda: len(rounds) >= 6)
        try:
            await client.connection.close()
        except MessagingError as error:  # thrown out while it flushed; but nothing was published
            assert "NATS does not answer" in error.message  # noqa: PT017
    assert rounds[:6] == [1, 2, 3, 4, 5, 6]


async def test_permission_errors_are_reported_and_do_not_disconnect() -> None:
    config = 'authorization { users: [ {user: ada, password: s, permissions: {publish: "a", subscribe: ["a", "_INBOX.>"]}} ] }\n'
    with nats_server(config=config, jetstream=False) as server:
        async with Client(server.url, NATS_USER="ada", NATS_PASSWORD="s") as client:
            heard = await client.listen("a")
            await client.connection.publish_bytes("b", b"")
            await until(
                lambda: 'permissions violation for publish to "b"' in client.connection.status().last_error
            )
            await client.connection.publish_bytes("a", b"1")
            assert (await heard.next()).data == b"1"
            assert client.connection.status().reconnects == 0


# -- lame duck -------------------------------------------------------------------------------------------------

LAME_DUCK = 'lame_duck_grace_period: "0s"\nlame_duck_duration: "30s"\n'


async def test_a_lame_duck_is_left_for_the_other_server() -> None:
    with nats_server(config=LAME_DUCK) as one, nats_server(config=LAME_DUCK) as two:
        async with Client(f"{one.url},{two.url}") as client:
            reconnects = Reconnects(client.connection)
            heard = await client.listen("a")
            here, there = (one, two) if str(one.port) in client.connection.status().server else (two, one)
            here.signal(signal.SIGUSR2)
            await reconnects.wait()
            assert client.connection.status().server == f"127.0.0.1:{there.port}"
            assert not client.connection.lame_duck.is_set()
            await client.connection.publish_bytes("a", b"1")
            assert (await heard.next()).data == b"1"


async def test_a_lone_lame_duck_is_used_until_it_ends_and_awaited() -> None:
    config = 'lame_duck_grace_period: "10s"\nlame_duck_duration: "30s"\n'
    with nats_server(config=config) as server:
        async with Client(server.url) as client:
            reconnects = Reconnects(client.connection)
            heard = await client.listen("a")
            server.signal(signal.SIGUSR2)
            await asyncio.wait_for(client.connection.lame_duck.wait(), 10)
            await client.connection.publish_bytes("a", b"1")
            assert (await heard.next()).data == b"1"
            server.kill()
            await asyncio.to_thread(server.start)
            await reconnects.wait()
            assert not client.connection.lame_duck.is_set()


# -- publishing ------------------------------------------------------------------------------------------------


async def test_more_than_the_server_takes_is_refused_headers_included() -> None:
    with nats_server(config="max_payload: 1024\n", jetstream=False) as server:
        async with Client(server.url) as client:
            heard = await client.listen("a")
            assert client.connection.max_payload == 1024
            with pytest.raises(TooLarge, match="1025 bytes are more than the 1024 that NATS takes"):
                await client.connection.publish_bytes("a", bytes(1025))
            with pytest.raises(TooLarge):
                await client.connection.publish_bytes("a", bytes(1000), {"Name": "välue"})
            with pytest.raises(TooLarge):
                await client.connection.request_bytes("a", bytes(1025), timeout=1)
            # The largest that fits, with headers: 12 for the frame, 4 and the two texts for the header.
            await client.connection.publish_bytes("a", bytes(1024 - 12 - 4 - 4 - 6), {"Name": "välue"})
            assert (await heard.next()).headers == {"Name": "välue"}
            assert client.connection.status().reconnects == 0


@pytest.mark.parametrize("subject", ["", "a b", "a\r\nPING", "a\udcff", "x" * 4000])
async def test_a_subject_that_cannot_be_sent_is_refused(nats: NatsServer, subject: str) -> None:
    async with Client(nats.url) as client:
        with pytest.raises(InvalidRequest):
            await client.connection.publish_bytes(subject, b"")
        with pytest.raises(InvalidRequest):
            await client.connection.request_bytes(subject, b"", timeout=1)
        if subject:
            with pytest.raises(InvalidRequest):
                await client.connection.publish_bytes("a", b"", reply=subject)
        await client.connection.flush()
        assert client.connection.status().reconnects == 0


@pytest.mark.parametrize("headers", [{"a b": "c"}, {"a": "\udcff"}, {"ü": "x"}])
async def test_a_header_that_cannot_be_sent_is_refused(nats: NatsServer, headers: dict[str, str]) -> None:
    async with Client(nats.url) as client:
        with pytest.raises(InvalidRequest):
            await client.connection.publish_bytes("a", b"", headers)


async def test_what_is_published_while_the_server_is_away_is_delivered_later(nats: NatsServer) -> None:
    async with Client(nats.url) as client:
        reconnects = Reconnects(client.connection)
        heard = await client.listen("a")
        nats.kill()
        await until(lambda: not client.connection.connected)
        for number in range(20):
            await client.connection.publish_bytes("a", str(number).encode())
        assert client.connection.status().pending_bytes > 200
        await asyncio.to_thread(nats.start)
        await reconnects.wait()
        assert [m.data for m in await heard.count(20)] == [str(number).encode() for number in range(20)]
        assert client.connection.status().pending_bytes == 0


async def test_more_than_may_wait_is_refused_while_the_server_is_away(nats: NatsServer) -> None:
    async with Client(nats.url, NATS_PENDING_BYTES="1000") as client:
        await client.connection.publish_bytes("a", bytes(5000))
        await client.connection.flush()
        nats.kill()
        await until(lambda: not client.connection.connected)
        await client.connection.publish_bytes("a", bytes(500))
        with pytest.raises(MessagingError, match="wait for it; NATS_PENDING_BYTES is 1000"):
            await client.connection.publish_bytes("a", bytes(500))
        with pytest.raises(MessagingError, match="bytes of accepted messages are lost"):
            await client.connection.close()


async def test_a_publisher_waits_for_a_slow_server_and_can_be_stopped(nats: NatsServer) -> None:
    """nats-py's own wait for room swallows cancellation."""
    async with Client(nats.url, NATS_PENDING_BYTES="100000", NATS_CONNECT_TIMEOUT="30") as client:
        nats.pause()

        async def flood() -> None:
            for _ in range(100):
                await client.connection.publish_bytes("a", bytes(1_000_000))

        flooding = asyncio.create_task(flood())
        await asyncio.wait([flooding], timeout=0.3)
        assert not flooding.done()
        assert 0 < client.connection.status().pending_bytes < 3_000_000
        flooding.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(flooding, 5)
        nats.resume()
        await client.connection.flush()


async def test_a_publisher_is_told_when_a_server_takes_nothing(nats: NatsServer) -> None:
    client = Client(nats.url, NATS_PENDING_BYTES="100000", NATS_CONNECT_TIMEOUT="0.2")
    await client.connection.connect()
    nats.pause()

    async def flood() -> None:
        for _ in range(100):
            await client.connection.publish_bytes("a", bytes(1_000_000))

    with pytest.raises(MessagingError, match=r"NATS takes nothing; \d+ bytes wait for it"):
        await flood()
    with pytest.raises(MessagingError, match="closed, and the last messages may be lost"):
        await asyncio.wait_for(client.connection.close(0.2), 10)


async def test_before_connecting_and_after_closing_nothing_is_accepted(nats: NatsServer) -> None:
    client = Client(nats.url)

    async def ignore(_: RawMessage) -> None: ...

    async def refused(text: str) -> None:
        with pytest.raises(MessagingError, match=text):
            await client.connection.publish_bytes("a", b"")
        with pytest.raises(MessagingError, match=text):
            await client.connection.subscribe("a", ignore)
        with pytest.raises(MessagingError, match=text):
            await client.connection.flush()
        with pytest.raises(MessagingError, match=text):
            await client.connection.request_bytes("a", b"", timeout=1)

    await refused("not connected yet")
    await client.connection.connect()
    await client.connection.close()
    await refused("closed")
    await client.connection.close()


async def test_close_sends_what_waits(nats: NatsServer) -> None:
    async with Client(nats.url) as listener:
        heard = await listener.listen("a")
        async with Client(nats.url) as client:
            for _ in range(100):
                await client.connection.publish_bytes("a", bytes(10_000))
        assert len(await heard.count(100)) == 100


# -- requests --------------------------------------------------------------------------------------------------


async def test_a_request_that_nobody_hears_is_told_at_once(nats: NatsServer) -> None:
    async with Client(nats.url) as client:
        with pytest.raises(NotFound, match="no service listens on nobody"):
            await client.connection.request_bytes("nobody", b"", timeout=10)


async def test_a_request_without_an_answer_times_out(nats: NatsServer) -> None:
    async with Client(nats.url) as client:
        await client.listen("silent")
        with pytest.raises(MessagingError, match=r"no answer from silent within 0\.05 s$"):
            await client.connection.request_bytes("silent", b"", timeout=0.05)


async def test_a_request_says_when_the_server_is_away(nats: NatsServer) -> None:
    client = Client(nats.url)
    await client.connection.connect()
    nats.kill()
    await until(lambda: "refused" in client.connection.status().last_error)
    with pytest.raises(MessagingError, match=r"no answer from a within 0.05 s; NATS is away: .*refused"):
        await client.connection.request_bytes("a", b"", timeout=0.05)
    with pytest.raises(MessagingError, match="NATS is away"):
        await client.connection.flush()
    with pytest.raises(MessagingError, match="closed without a server"):
        await client.connection.close()


# -- subscriptions ---------------------------------------------------------------------------------------------


async def test_a_full_subscription_drops_and_counts(
    nats: NatsServer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nats.aio.client.Client.subscribe.__defaults__", ("", None, None, 0, 10, 1 << 20))
    release, seen = asyncio.Event(), []

    async def slow(message: RawMessage) -> None:
        await release.wait()
        seen.append(message.data)

    async with Client(nats.url) as client:
        await client.connection.subscribe("a", slow)
        for number in range(100):
            await client.connection.publish_bytes("a", str(number).encode())
        await client.connection.flush()
        status = client.connection.status()
        assert status.pending_messages in {9, 10}
        assert status.dropped + status.pending_messages == 99  # one is in the callback
        release.set()
        await until(lambda: len(seen) == 100 - status.dropped)
        assert client.connection.status().pending_messages == 0
    warnings = [r for r in caplog.records if "dropped" in r.message]
    assert 1 <= len(warnings) <= 7


async def test_a_callback_that_fails_is_logged_and_the_next_message_comes(
    nats: NatsServer, caplog: pytest.LogCaptureFixture
) -> None:
    seen = []

    async def picky(message: RawMessage) -> None:
        if message.data == b"bug":
            raise ZeroDivisionError
        if message.data == b"known":
            raise MessagingError("it was expected")
        seen.append(message.data)

    async with Client(nats.url) as client:
        await client.connection.subscribe("a", picky)
        for data in (b"bug", b"known", b"fine"):
            await client.connection.publish_bytes("a", data)
        await until(lambda: seen == [b"fine"])
        assert client.connection.status().last_error == ""
    assert "a subscription's callback failed: it was expected" in caplog.messages
    bug = next(r for r in caplog.records if r.exc_info)
    assert bug.exc_info is not None
    assert bug.exc_info[0] is ZeroDivisionError


async def test_drain_handles_what_came_and_takes_no_more(nats: NatsServer) -> None:
    release, seen = asyncio.Event(), []

    async def slow(message: RawMessage) -> None:
        await release.wait()
        seen.append(message.data)

    async with Client(nats.url) as client, Client(nats.url) as other:
        subscription = await client.connection.subscribe("a", slow)
        for number in range(5):
            await client.connection.publish_bytes("a", str(number).encode())
        await client.connection.flush()
        draining = asyncio.create_task(subscription.drain())
        await client.connection.flush()
        with pytest.raises(NotFound):
            await other.connection.request_bytes("a", b"late", timeout=5)
        assert not draining.done()
        release.set()
        await asyncio.wait_for(draining, 10)
        assert len(seen) == 5
        await subscription.close()


@pytest.mark.parametrize("subject", ["", "a b", "a..b", "a.>.b"])
async def test_a_subject_that_cannot_be_listened_to_is_said(nats: NatsServer, subject: str) -> None:
    async def ignore(_: RawMessage) -> None: ...

    async with Client(nats.url) as client:
        with pytest.raises(MessagingError, match=r"cannot subscribe to .*: invalid subject"):
            await client.connection.subscribe(subject, ignore)
        assert client.connection.status().pending_messages == 0


async def test_close_drops_what_waits(nats: NatsServer) -> None:
    release, seen = asyncio.Event(), []

    async def slow(message: RawMessage) -> None:
        seen.append(message.data)
        await release.wait()

    async with Client(nats.url) as client:
        subscription = await client.connection.subscribe("a", slow)
        for number in range(5):
            await client.connection.publish_bytes("a", str(number).encode())
        await until(lambda: seen)
        await subscription.close()
        release.set()
        with pytest.raises(NotFound):
            await client.connection.request_bytes("a", b"late", timeout=5)
        assert len(seen) == 1


async def test_a_subscription_drained_while_the_server_is_away_does_not_come_back(nats: NatsServer) -> None:
    """nats-py renews it after the reconnect, and hands its messages to nobody or to a service that stops."""
    async with Client(nats.url) as client:
        reconnects = Reconnects(client.connection)
        heard = await client.listen("a")
        subscription = client.connection._subscriptions[0]
        nats.kill()
        await until(lambda: not client.connection.connected)
        await asyncio.wait_for(subscription.drain(), 5)
        await asyncio.to_thread(nats.start)
        await reconnects.wait()
        with pytest.raises(NotFound):
            await client.connection.request_bytes("a", b"", timeout=5)
        assert not heard.all


async def test_a_subscription_whose_drain_is_cut_off_does_not_come_back(nats: NatsServer) -> None:
    """After a drain that failed nats-py takes no second one, and renews the subscription for ever."""
    async with Client(nats.url) as client:
        reconnects = Reconnects(client.connection)
        await client.listen("a")
        subscription = client.connection._subscriptions[0]
        nats.pause()
        draining = asyncio.create_task(subscription.drain())
        await asyncio.wait([draining], timeout=0.05)
        assert not draining.done()
        nats.kill()
        await asyncio.wait_for(draining, 5)
        await asyncio.to_thread(nats.start)
        await reconnects.wait()
        with pytest.raises(NotFound):
            await client.connection.request_bytes("a", b"", timeout=5)


async def test_a_failing_reconnect_callback_does_not_keep_the_others_from_running(
    nats: NatsServer, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail() -> None:
        raise MessagingError("not now")

    async with Client(nats.url) as client:
        client.connection.on_reconnect(fail)
        reconnects = Reconnects(client.connection)
        await asyncio.to_thread(nats.restart)
        await reconnects.wait()
        await client.connection.flush()
    assert "after the reconnect: not now" in caplog.messages


# -- what a hostile publisher can put on the wire --------------------------------------------------------------


@pytest.mark.parametrize(
    "raw",
    [
        b"PUB a.\xff 2\r\nxx\r\n",
        b"PUB a.\xc3\x28 2\r\nxx\r\n",
        b"PUB a.b \xff 2\r\nxx\r\n",
        b"PUB a.q\x0bz 2\r\nxx\r\n",
        b"PUB a.q\x0b2 2\r\nxx\r\n",
        b"PUB a.q\x0c2 b 2\r\nxx\r\n",
        b"PUB a.q\x00z 2\r\nxx\r\n",
        b"PUB a.\xe2\x80\xa8 2\r\nxx\r\n",
        b"HPUB a.b 2 4\r\n\r\nxx\r\n",
        b"HPUB a.b 12 14\r\nNATS/1.0\r\n\r\nxx\r\n",
        b"HPUB a.b 16 18\r\nNATS/1.0 \xff\xff\xff\r\n\r\nxx\r\n",
        b"HPUB a.b 16 18\r\nNATS/1.0 404\r\n\r\nxx\r\n",
        b"HPUB a.b 17 19\r\nNATS/1.0\r\n\xff: \r\n\r\nxx\r\n",
        b"HPUB a.b 16 18\r\n0123456789012345xx\r\n",
    ],
)
async def test_no_published_bytes_break_the_connection_of_those_who_listen(
    nats: NatsServer, raw: bytes
) -> None:
    async with Client(nats.url) as client:
        heard, other = await client.listen("a.*"), await client.listen("other")
        with socket.create_connection(("127.0.0.1", nats.port)) as hostile:
            hostile.sendall(
                b'CONNECT {"verbose":false,"headers":true}\r\n' + raw + b"PUB a.ok 2\r\nhi\r\nPING\r\n"
            )
            first, second = await heard.count(2)
            assert first.data == b"xx"
            assert (second.subject, second.reply, second.data) == ("a.ok", "", b"hi")
        assert not other.all
        assert client.connection.status().reconnects == 0


@pytest.mark.parametrize(
    "line",
    [
        b"NONSENSE\r\n",
        b"MSG a 1\r\n",
        b"MSG a x 1\r\n",
        b"HMSG a 1 2 3 4 5 6\r\n",
        b"INFO {\r\n",
        b"x" * 1_100_000,
    ],
)
async def test_a_server_that_makes_no_sense_is_left_and_tried_again(line: bytes) -> None:
    calls, done = 0, asyncio.Event()

    async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal calls
        calls += 1
        writer.write(b'INFO {"max_payload":1024}\r\n')
        while await reader.readline() not in {b"PING\r\n", b""}:
            pass
        writer.write(b"PONG\r\n+OK\r\n" + (line if calls == 1 else b""))
        await done.wait()

    async with tcp_server(babble) as port:
        client = Client(f"nats://127.0.0.1:{port}")
        await client.connection.connect()
        await until(lambda: calls == 2 and client.connection.connected)
        done.set()
        client.connection._client._pings_outstanding = 0
        await client.connection._client.shut(1)
