"""A spoken question to the whole local stack, with real engines: heard, answered from the right document, and understood again."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from handler_base.audio import PcmReader, wav
from handler_base.clients.speech_to_text import SpeechToText, STTSettings
from handler_base.http import HttpPool, HttpSettings
from handler_messages import VoiceRequest, VoiceResponse
from handler_testkit.nats import free_port
from handler_testkit.services import Client
from handler_testkit.speech import RATE, needs_flite, speak, word_error_rate
from handler_testkit.voice import chunks_of

if TYPE_CHECKING:
    from collections.abc import Iterator

DOCUMENTS = {
    "lighthouse": "The old lighthouse stands on the northern cliff. Its keeper lights the lamp every evening at sunset.",
    "bakery": "The village bakery sells fresh bread and apple cake. It opens at seven in the morning.",
    "harbour": "The ferry to the island leaves from the harbour twice a day. A ticket costs eleven dollars.",
    "garden": "The school garden grows carrots, beans and pumpkins. The children water the plants after lunch.",
}
QUESTIONS = [
    ("lighthouse", "When does the keeper light the lamp of the lighthouse?"),
    ("bakery", "When does the village bakery open in the morning?"),
    ("harbour", "How many dollars does a ticket for the ferry cost?"),
    ("garden", "What vegetables grow in the school garden?"),
]
VOICES = ["rms", "slt"]

pytestmark = [pytest.mark.slow, needs_flite]


class Running:
    """The stack: where NATS and the inference endpoints listen."""

    def __init__(self, nats: int, inference: int) -> None:
        self.nats = f"nats://127.0.0.1:{nats}"
        self.inference = f"http://127.0.0.1:{inference}"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    data, docs = tmp_path_factory.mktemp("stack"), tmp_path_factory.mktemp("docs")
    for name, text in DOCUMENTS.items():
        (docs / f"{name}.md").write_text(f"# The {name}\n\n{text}\n")
    nats, inference, health = free_port(), free_port(), free_port(following=4)
    ports = [f"--nats-port={nats}", f"--inference-port={inference}", f"--health-port={health}"]
    out = data / "out"
    with out.open("w") as file:
        up = subprocess.Popen(
            [sys.executable, "-m", "handlers_cli", "up", "--data", str(data), "--docs", str(docs), *ports],
            stdout=file, stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + 90
        while "The stack is ready" not in out.read_text():
            assert up.poll() is None, out.read_text()
            assert time.monotonic() < deadline, out.read_text()
            time.sleep(0.1)
        yield Running(nats, inference)
    finally:
        up.send_signal(signal.SIGINT)
        assert up.wait(30) == 0, out.read_text()


@pytest.mark.parametrize("voice", VOICES)
async def test_questions_are_heard_answered_from_the_right_document_and_the_answer_is_understood(
    stack: Running, voice: str
) -> None:
    errors, missing = [], []
    pool = HttpPool(HttpSettings())
    ears = SpeechToText(pool, STTSettings(url=f"{stack.inference}/whisper"))
    async with Client(stack.nats) as client:
        for document, question in QUESTIONS:
            request = VoiceRequest(
                request_id=f"{voice}-{document}", audio=wav(speak(question, voice), RATE), stream=True
            )
            heard = await client.listen(f"ai.voice.response.stream.{request.request_id}")
            answer = await client.connection.request("voice.request", request, VoiceResponse, timeout=60)
            assert isinstance(answer, VoiceResponse), answer
            errors.append(word_error_rate(question, answer.transcription))
            quoted = quotation(answer.response)
            assert quoted in DOCUMENTS[document], (question, answer.transcription, answer.response)
            assert document in {
                source.uri.rsplit("/", 1)[-1].removesuffix(".md") for source in answer.sources
            }
            again = await ears.transcribe(answer.audio)
            missing.append(missed(quoted, again.text))
            chunks = chunks_of(heard)
            assert b"".join(chunk.audio for chunk in chunks) == PcmReader().feed(answer.audio)
            assert chunks[-1].is_last
    await pool.aclose()
    assert sum(errors) / len(errors) <= 0.2, errors
    assert sum(missing) / len(missing) <= 0.25, missing


def quotation(answer: str) -> str:
    """Return what the stand-in quotes."""
    found = re.search(r"“(.+?)”", answer)
    assert found, answer
    return found[1]


def missed(said: str, heard: str) -> float:
    """Return the share of the words of `said` that are not in `heard`."""
    words = re.findall(r"[a-z]+", said.lower())
    there = set(re.findall(r"[a-z]+", heard.lower()))
    return sum(word not in there for word in words) / len(words)
