"""Turns: first come, first served, within a session and among sessions."""

from __future__ import annotations

import asyncio

from tts_module.turns import Turns


class Speech:
    """Takes turns and keeps who had them."""

    def __init__(self, turns: Turns) -> None:
        self.turns = turns
        self.said: list[str] = []
        self.go_on: dict[str, asyncio.Event] = {}

    def begin(self, name: str, session: str) -> asyncio.Task[None]:
        self.go_on[name] = asyncio.Event()
        return asyncio.create_task(self._speak(name, session))

    async def _speak(self, name: str, session: str) -> None:
        async with self.turns.of(session):
            self.said.append(name)
            await self.go_on[name].wait()


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_a_session_speaks_in_order_though_one_that_waits_is_cancelled() -> None:
    speech = Speech(Turns(4))
    tasks = [speech.begin(name, "s") for name in "abcd"]
    other = speech.begin("x", "t")
    await settle()
    assert speech.said == ["a", "x"]
    tasks[1].cancel()
    await settle()
    for name in "acdx":
        speech.go_on[name].set()
    await asyncio.gather(*tasks, other, return_exceptions=True)
    assert speech.said == ["a", "x", "c", "d"]
    assert len(speech.turns) == 0


async def test_sessions_over_the_limit_wait_and_one_that_fails_gives_its_turn_back() -> None:
    speech = Speech(Turns(1))
    first, second, third = (speech.begin(name, name) for name in "abc")
    await settle()
    assert (speech.said, len(speech.turns)) == (["a"], 3)
    first.cancel()
    await settle()
    assert (speech.said, len(speech.turns)) == (["a", "b"], 2)
    second.cancel()
    speech.go_on["c"].set()
    await third
    assert (speech.said, len(speech.turns)) == (["a", "b", "c"], 0)
