"""Pieces of text into audio: in order, ahead, held back, and stopped at once."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from handler_base.clients.text_to_speech import TextToSpeech, TTSSettings
from handler_base.conversation.synthesis import Manner, Sound, Synthesis, SynthesisSettings
from handler_base.errors import MessagingError, UpstreamRejected, UpstreamUnavailable
from handler_testkit.endpoints import Exchange, HttpEndpoint, answering
from handler_testkit.speaking import RATE, breaking_midway, samples_of, spelling, stalling_midway, when

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from handler_base.http import HttpPool


async def each(pieces: Iterable[str]) -> AsyncIterator[str]:
    for piece in pieces:
        yield piece


def synthesis(pool: HttpPool, server: HttpEndpoint, parallel: int = 2) -> Synthesis:
    tts = TextToSpeech(pool, TTSSettings(url=server.url, idle_timeout=10))
    return Synthesis(tts, SynthesisSettings(parallel=parallel))


class Sink:
    """Keeps what comes."""

    def __init__(self) -> None:
        self.sounds: list[Sound] = []
        self.came = asyncio.Event()

    async def __call__(self, sound: Sound) -> None:
        self.sounds.append(sound)
        self.came.set()

    @property
    def audio(self) -> bytes:
        return b"".join(sound.audio for sound in self.sounds)


@pytest.mark.parametrize("parallel", [1, 2, 5])
async def test_pieces_come_in_their_order_though_the_first_is_the_slowest(
    pool: HttpPool, parallel: int
) -> None:
    pieces = ["slow one", "two", "three", "four"]
    async with HttpEndpoint(when({"slow": spelling(interval=0.02)}, spelling())) as server:
        sink = Sink()
        assert await synthesis(pool, server, parallel).run(each(pieces), Manner(), sink) == 4
    assert sink.audio == samples_of("".join(pieces)).tobytes()
    assert [s.number for s in sink.sounds] == sorted(s.number for s in sink.sounds)
    for number in range(4):
        mine = [s for s in sink.sounds if s.number == number]
        assert [s.first for s in mine] == [True] + [False] * (len(mine) - 1)
        assert [s.last for s in mine] == [False] * (len(mine) - 1) + [True]
        assert {(s.format, s.sample_rate) for s in mine} == {("pcm", RATE)}


async def test_no_pieces_are_no_sound(pool: HttpPool) -> None:
    async with HttpEndpoint(spelling()) as server:
        sink = Sink()
        assert await synthesis(pool, server).run(each([]), Manner(), sink) == 0
        assert (sink.sounds, server.requests) == ([], [])


async def test_the_manner_goes_to_the_endpoint(pool: HttpPool) -> None:
    async with HttpEndpoint(spelling()) as server:
        await synthesis(pool, server).run(each(["a"]), Manner("slt", "en", b"", "mp3"), Sink())
        body = server.requests[0].json()
        assert (body["voice"], body["response_format"]) == ("slt", "mp3")


async def test_it_runs_ahead_as_far_as_it_may_and_a_slow_sink_holds_it_back(pool: HttpPool) -> None:
    go_on = asyncio.Event()

    async def slow(sound: Sound) -> None:
        if sound.number == 0:
            await go_on.wait()

    async with HttpEndpoint(spelling()) as server:
        run = asyncio.create_task(synthesis(pool, server, 3).run(each("abcdef"), Manner(), slow))
        await server.wait(lambda: len(server.requests) == 3)
        await asyncio.sleep(0.05)  # nothing tells that no more will come
        assert len(server.requests) == 3
        go_on.set()
        assert await run == 6


async def test_pieces_are_spoken_while_more_are_still_to_come(pool: HttpPool) -> None:
    more = asyncio.Event()

    async def growing() -> AsyncIterator[str]:
        yield "first"
        await more.wait()
        yield "second"

    async with HttpEndpoint(spelling()) as server:
        sink = Sink()
        run = asyncio.create_task(synthesis(pool, server).run(growing(), Manner(), sink))
        async with asyncio.timeout(10):
            await sink.came.wait()
        more.set()
        assert await run == 2
    assert sink.audio == samples_of("firstsecond").tobytes()


@pytest.mark.parametrize(
    ("failure", "error"), [(answering({}, 400), UpstreamRejected), (breaking_midway, UpstreamUnavailable)]
)
async def test_what_was_before_a_failing_piece_is_given_out_and_the_rest_stopped(
    pool: HttpPool, failure, error: type[Exception]
) -> None:
    async with HttpEndpoint(when({"bad": failure, "endless": stalling_midway}, spelling())) as server:
        sink = Sink()
        with pytest.raises(error):
            await synthesis(pool, server, 3).run(each(["good", "bad", "endless"]), Manner(), sink)
        assert sink.audio.startswith(samples_of("good").tobytes())
        assert {s.number for s in sink.sounds} <= {0, 1}
        await server.wait(lambda: server.disconnects >= 1 or len(server.requests) < 3)


async def test_a_sink_that_fails_stops_the_endpoint(pool: HttpPool) -> None:
    async def failing(sound: Sound) -> None:
        raise MessagingError("NATS is away")

    async with HttpEndpoint(stalling_midway) as server:
        with pytest.raises(MessagingError, match="NATS is away"):
            await synthesis(pool, server).run(each(["a", "b"]), Manner(), failing)
        await server.wait(lambda: not server.open)


async def test_text_that_fails_to_come_stops_the_endpoint(pool: HttpPool) -> None:
    async def breaking() -> AsyncIterator[str]:
        yield "endless"
        raise UpstreamUnavailable("the model is gone")

    async with HttpEndpoint(stalling_midway) as server:
        with pytest.raises(UpstreamUnavailable, match="the model is gone"):
            await synthesis(pool, server).run(breaking(), Manner(), Sink())
        await server.wait(lambda: not server.open)


async def test_a_cancel_closes_every_connection_at_once(pool: HttpPool) -> None:
    async with HttpEndpoint(stalling_midway) as server:
        sink = Sink()
        run = asyncio.create_task(synthesis(pool, server, 4).run(each("abcdef"), Manner(), sink))
        await server.wait(lambda: len(server.requests) == 4)
        await sink.came.wait()
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        came = len(sink.sounds)
        await server.wait(lambda: server.disconnects == 4)
        assert len(sink.sounds) == came
        server.script = spelling()
        assert await synthesis(pool, server, 4).run(each("abcdef"), Manner(), sink) == 6


async def test_a_cancel_while_nothing_is_answered_closes_them_too(pool: HttpPool) -> None:
    async def silent(exchange: Exchange) -> None:
        await exchange.stall()

    async with HttpEndpoint(silent) as server:
        run = asyncio.create_task(synthesis(pool, server).run(each("ab"), Manner(), Sink()))
        await server.wait(lambda: len(server.requests) == 2)
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        await server.wait(lambda: server.disconnects == 2)
