"""A thousand interrupts at random points: nothing stale is sent, nothing is left open, history is right."""

from __future__ import annotations

import asyncio
import itertools
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from handler_base.conversation.grounding import Grounds
from handler_messages import (
    ErrorResponse,
    STTInterrupt,
    TTSAudioChunk,
    TTSStatus,
    VoiceRequest,
    VoiceResponse,
    subjects,
)
from handler_testkit.clock import run_virtual
from handler_testkit.voice import answers, speaks, tone, transcribes
from voice_assistant.config import VoiceSettings
from voice_assistant.conversation import Conversation, Heard
from voice_assistant.responder import Question, Responder

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from conftest import Session, Stack


INTERRUPTS = 1000
RATE = 1000
TOKENS = [
    token
    for number in range(12)
    for token in (f"Sentence {number} ", "has words ", "in it, ", "and then ", "a few more. ")
]
ANSWER = "".join(TOKENS)


# -- in virtual time -------------------------------------------------------------------------------------------


@dataclass
class World:
    """Endpoints, bus and history of one conversation, all in virtual time.

    Attributes:
        open: Calls that are under way.
        sent: Speech with the time it was sent at.
        kept: The history: answer and whether it was interrupted, by turn.
    """

    rng: random.Random
    open: int = 0
    calls: int = 0
    sent: list[tuple[float, TTSAudioChunk]] = field(default_factory=list)
    statuses: list[TTSStatus] = field(default_factory=list)
    states: list[str] = field(default_factory=list)
    results: list[VoiceResponse | ErrorResponse] = field(default_factory=list)
    kept: dict[str, tuple[str, bool]] = field(default_factory=dict)

    def now(self) -> float:
        return asyncio.get_running_loop().time()

    # the line
    async def audio(self, chunk: TTSAudioChunk) -> None:
        self.sent.append((self.now(), chunk))

    async def status(self, status: TTSStatus) -> None:
        self.statuses.append(status)

    async def state(self, state: str) -> None:
        self.states.append(state)

    async def record(self, response: VoiceResponse | ErrorResponse) -> None:
        self.results.append(response)

    # grounding
    async def find(self, question: str, **_: Any) -> Grounds:
        async with Call(self):
            await asyncio.sleep(self.rng.uniform(0, 0.2))
        return Grounds([], [], [], {})

    async def remember(self, *_: Any, request_id: str, answer: str, interrupted: bool, **__: Any) -> str:
        await asyncio.sleep(0.002)
        self.kept[request_id] = (answer, interrupted)
        return ""


class Call:
    """A call to an endpoint: open from its first byte to its last, however it ends."""

    def __init__(self, world: World) -> None:
        self.world = world

    async def __aenter__(self) -> Any:
        self.world.open += 1
        self.world.calls += 1
        return self

    async def __aexit__(self, *_: object) -> None:
        self.world.open -= 1


class Model(Call):
    """An answer of an LLM."""

    finish_reason = "stop"
    model = "m"
    warning = ""
    prompt_tokens = completion_tokens = 0

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.text = ""

    async def __aiter__(self) -> AsyncIterator[str]:
        await asyncio.sleep(0.3)
        for token in TOKENS:
            await asyncio.sleep(self.world.rng.uniform(0.02, 0.08))
            self.text += token
            yield token


class Voice(Call):
    """Speech of a text: 20 letters a second, made in three tenths of that."""

    format = "pcm"
    sample_rate = RATE

    def __init__(self, world: World, text: str) -> None:
        super().__init__(world)
        self.left = len(text) * RATE // 20

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while self.left > 0:
            samples = min(self.left, RATE // 5)
            await asyncio.sleep(0.3 * samples / RATE)
            self.left -= samples
            yield tone(1, samples)


class Endpoints:
    def __init__(self, world: World) -> None:
        self._world = world

    def model(self, *_: Any, **__: Any) -> Model:
        return Model(self._world)

    def voice(self, text: str, **_: Any) -> Voice:
        return Voice(self._world, text)


def conversation_in(world: World) -> Conversation:
    settings = VoiceSettings()
    endpoints = Endpoints(world)

    class LLM:
        stream = staticmethod(endpoints.model)

    class TTS:
        stream = staticmethod(endpoints.voice)

    responder = Responder(settings, llm=LLM(), grounding=world, tts=TTS())  # type: ignore[arg-type]
    return Conversation(
        "s",
        world,
        responder,
        world,
        settings.conversation,
        limit=400,
        wall_clock=world.now,  # type: ignore[arg-type]
    )


def played(world: World, request_id: str, until: float) -> tuple[str, str]:
    """Return the text that was certainly heard and the text that may have been, from what was sent alone."""
    at, surely, perhaps = 0.0, "", ""
    pieces: list[list[Any]] = []
    ours: list[tuple[float, TTSAudioChunk]] = []
    for when, chunk in itertools.takewhile(lambda s: s[1].request_id == request_id, reversed(world.sent)):
        ours.append((when, chunk))
    for when, chunk in reversed(ours):
        if not chunk.audio:
            continue
        at = max(at, when)
        if chunk.text:
            pieces.append([chunk.text, at, at])
        at += chunk.samples / RATE
        pieces[-1][2] = at
    for text, begin, end in pieces:
        complete = end - begin >= len(text) / 20 - 1e-6
        if complete and end <= until:
            surely += text
        if begin <= until:
            perhaps += text
    return surely, perhaps


def squeezed(text: str) -> str:
    return text.replace(" ", "")


class Game:
    """Asks and interrupts, and looks at the world after each interrupt."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.world = World(self.rng)
        self.cut = self.over = self.unheard = 0
        self._conversation = conversation_in(self.world)
        self._questions: asyncio.Queue[Heard | None] = asyncio.Queue()
        self._history_id = ""

    async def play(self, rounds: int) -> None:
        running = asyncio.create_task(self._conversation.run(self._asked()))
        for number in range(rounds):
            await self._round(f"q{number}")
        self._questions.put_nowait(None)
        await running

    async def _asked(self) -> AsyncIterator[Heard]:
        while (heard := await self._questions.get()) is not None:
            yield heard

    async def _interrupt(self) -> None:
        """Interrupt, and see that nothing goes on, two round trips to the history later."""
        sent = len(self.world.sent)
        self._conversation.interrupt(STTInterrupt(session_id="s", type="barge_in"))
        await asyncio.sleep(0.005)
        assert self.world.open == 0, "a call is still open"
        assert len(self.world.sent) == sent, "something was sent after the interrupt"
        assert len(asyncio.all_tasks()) <= 2, "a task is left"
        assert self.world.states[-1:] in ([], ["listening"])

    async def _round(self, name: str) -> None:
        world, rng = self.world, self.rng
        if rng.random() < 0.2:  # while the question is transcribed
            await self._interrupt()
            await asyncio.sleep(rng.uniform(0, 0.5))
        question = Question("What?", session_id="s", request_id=name)
        self._questions.put_nowait(Heard(name, question, world.now()))
        # While passages are looked up, before the first token, in a sentence, after the last; and when all was played.
        await asyncio.sleep(rng.choice([rng.uniform(0, 1), rng.uniform(0, 45)]))
        at, over = world.now(), world.states[-1:] == ["listening"]
        await self._interrupt()
        surely, perhaps = played(world, name, at)
        history_id = self._history_id or name
        self._history_id = "" if perhaps else history_id
        if history_id not in world.kept:
            # The question had not even arrived; the next one is on its own.
            assert not perhaps
            self._history_id = ""
            return
        answer, cut = world.kept[history_id]
        assert cut is not over
        self.over += over
        self.cut += cut and bool(answer)
        self.unheard += cut and not answer
        if over:
            assert answer == ANSWER
            return
        assert ANSWER.startswith(answer)
        assert len(squeezed(surely)) <= len(squeezed(answer)) <= len(squeezed(perhaps))
        assert world.statuses[-1].status == "interrupted"
        assert not world.sent or world.sent[-1][1].generation < world.statuses[-1].generation


@pytest.mark.parametrize("seed", range(4))
def test_after_each_of_a_thousand_interrupts_nothing_goes_on_and_history_is_right(seed: int) -> None:
    game = Game(seed)
    run_virtual(game.play(INTERRUPTS // 4))
    assert game.world.open == 0
    indexes: dict[str, int] = {}
    for _, chunk in game.world.sent:
        assert chunk.chunk_index == indexes.get(chunk.request_id, 0)
        indexes[chunk.request_id] = chunk.chunk_index + 1
    assert min(game.cut, game.over, game.unheard) > 5


# -- in real time ----------------------------------------------------------------------------------------------


class Caller:
    """One session on the real bus that interrupts its answers, and one-shot requests in the same session."""

    def __init__(self, session: Session, seed: int) -> None:
        self.session = session
        self.rng = random.Random(seed)
        self.cut = self.answered = 0
        self.latest = 0.0

    async def converse(self, rounds: int) -> None:
        """Ask and interrupt; no sound of an answer follows its `interrupted`."""
        session, rng = self.session, self.rng
        await session.open(user_id=session.id)
        for number in range(rounds):
            before = len(session.statuses)
            await session.say(f"Question {number}?")
            await session.status.until(lambda _, n=before: len(session.statuses) > n, 20)
            await asyncio.sleep(rng.choice([rng.uniform(0, 0.15), rng.uniform(0, 0.8)]))
            generation = TTSStatus.FromString(session.status.all[-1].data).generation
            over = session.states[-1:] == ["listening"]
            loop = asyncio.get_running_loop()
            at = loop.time()
            await session.interrupt()
            if over:
                self.answered += 1
                continue
            await session.stream.until(lambda _: session.states[-1] == "listening", 20)
            if "interrupted" not in session.statuses[before:]:
                self.answered += 1  # it had been played to its end at the same moment
                continue
            self.latest = max(self.latest, loop.time() - at)
            sent = len(session.chunks)
            await session.client.connection.flush()
            assert len(session.chunks) == sent, "sound after the interrupt"
            newest = TTSStatus.FromString(session.status.all[-1].data).generation
            assert newest > generation
            assert all(chunk.generation < newest for chunk in session.chunks)
            self.cut += 1

    async def request(self, stack: Stack, rounds: int) -> None:
        """Interrupt one-shot requests, too: while transcribing, looking up, thinking, speaking."""
        connection, name = stack.client.connection, f"{self.session.id}-once"
        subject = subjects.VOICE_INTERRUPT.build(session_id=name)
        for number in range(rounds):
            request = VoiceRequest(
                request_id=f"{name}-{number}",
                session_id=name,
                audio=b"RIFF\0\0\0\0WAVEfmt " + bytes((16, 0, 0, 0, 1, 0, 1, 0, 64, 31, 0, 0, 128, 62, 0, 0, 2, 0, 16, 0))
                + b"data\4\0\0\0" + bytes(4),
                stream=True,
            )  # fmt: skip
            asking = asyncio.create_task(
                connection.request("voice.request", request, VoiceResponse, timeout=20)
            )
            await asyncio.sleep(self.rng.uniform(0, 0.4))
            await connection.publish(subject, STTInterrupt(session_id=name))
            answer = await asking
            if isinstance(answer, ErrorResponse):
                assert answer.type == "cancelled"
                self.cut += 1
            else:
                self.answered += 1


def at_work() -> list[asyncio.Task[Any]]:
    """Return the tasks of conversations, of what they call, and of what they read."""
    rooms = (
        "/voice_assistant/",
        "/handler_base/conversation/",
        "/handler_base/clients/",
        "/handler_base/http/",
    )
    return [t for t in asyncio.all_tasks() if any(room in code_of(t) for room in rooms)]


def code_of(task: asyncio.Task[Any]) -> str:
    return getattr(getattr(task.get_coro(), "cr_code", None), "co_filename", "")


async def test_a_thousand_interrupts_on_the_real_bus_leave_nothing_behind(stack: Stack) -> None:
    text = [f"{word} " for word in ANSWER.split()[:16]]
    stack.stt(transcribes(delay=0.03))
    stack.llm(answers(text, first=0.03, interval=0.004))
    stack.tts(speaks(seconds_per_letter=0.004, pace=0.3))
    names = itertools.count()
    async with stack.assistant(
        MAX_IN_FLIGHT="100", DURABLE_IN_FLIGHT="100", HTTP_MAX_CONNECTIONS="200"
    ) as service:
        callers = [Caller(stack.session(f"caller{next(names)}"), seed) for seed in range(20)]
        async with asyncio.timeout(90), asyncio.TaskGroup() as tasks:
            for caller in callers:
                tasks.create_task(caller.converse(40))
                tasks.create_task(caller.request(stack, 10))
        for caller in callers:
            await caller.session.end()
        await stack.endpoint.wait(lambda: not stack.endpoint.busy, 20)
        # The pool is whole, and the sessions that ended have left nothing behind.
        assert (await stack.ask()).response == "".join(text)
        async with asyncio.timeout(20):
            while service.in_flight or at_work():
                await asyncio.sleep(0.01)
        histories = [turn for c in callers for turn in await stack.history(c.session.id, c.session.id)]
    cut, answered = sum(c.cut for c in callers), sum(c.answered for c in callers)
    print(f"slowest interrupt: {max(c.latest for c in callers) * 1000:.1f} ms")  # for `pytest -s`
    assert cut + answered == INTERRUPTS
    assert min(cut, answered) > 50
    assert stack.endpoint.disconnects > 50
    assert histories
    for turn in histories:
        assert "".join(text).strip().startswith(turn.answer.strip())
        assert turn.interrupted or turn.answer.strip() == "".join(text).strip()
