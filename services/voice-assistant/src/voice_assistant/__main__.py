"""`voice-assistant`: what comes in, what serves it, what it needs."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from handler_base.clients.embeddings import Embeddings
from handler_base.clients.llm import LLM
from handler_base.clients.reranker import Reranker
from handler_base.clients.speech_to_text import SpeechToText
from handler_base.clients.text_to_speech import TextToSpeech
from handler_base.clients.vectors import open_vector_store
from handler_base.conversation.grounding import Grounding
from handler_base.conversation.history import History
from handler_base.conversation.retrieval import Retrieval
from handler_base.http import HttpPool
from handler_base.messaging.keyvalue import KeyValue
from handler_base.process import run
from handler_messages import subjects
from voice_assistant import __doc__ as description, __version__
from voice_assistant.config import VoiceSettings
from voice_assistant.requests import Requests
from voice_assistant.responder import Responder
from voice_assistant.sessions import Sessions

if TYPE_CHECKING:
    from handler_base.service import Service


def assemble(service: Service, settings: VoiceSettings) -> None:
    """Declare the handlers of voice-assistant."""
    http = HttpPool(settings.http)
    stt, llm, tts = (
        SpeechToText(http, settings.stt),
        LLM(http, settings.llm),
        TextToSpeech(http, settings.tts),
    )
    vectors = open_vector_store(settings.vectors, http)
    retrieval = Retrieval(
        Embeddings(http, settings.embeddings), vectors, Reranker(http, settings.reranker), settings.retrieval
    )
    sessions = KeyValue(service.connection, settings.history.as_bucket)
    grounding = Grounding(History(sessions, settings.history), retrieval)
    responder = Responder(settings, llm=llm, grounding=grounding, tts=tts)
    requests = Requests(settings, stt=stt, responder=responder, grounding=grounding)
    conversations = Sessions(settings, service.connection, responder=responder, grounding=grounding)

    service.handle(subjects.VOICE_REQUEST, requests.answer, response=subjects.VOICE_PLAIN_RESPONSE)
    service.handle(subjects.VOICE_USER_REQUEST, requests.answer, response=subjects.VOICE_RESPONSE)
    service.handle(
        subjects.VOICE_SESSION,
        conversations.follow,
        timeout=settings.conversation.longest,
        follows_session=True,
    )
    for subject in (subjects.VOICE_TRANSCRIPTION, subjects.VOICE_RESPONSE, subjects.TTS_AUDIO):
        service.publishes(subject)
    service.cancel_on(subjects.VOICE_CANCEL)
    service.cancel_on(subjects.CHAT_CANCEL)
    service.interrupt_on(subjects.VOICE_INTERRUPT)

    service.needs("STT", stt.endpoint.reachable)
    service.needs("LLM", llm.endpoint.reachable)
    service.on_start(sessions.prepare)
    service.on_stop(vectors.aclose)
    service.on_stop(http.aclose)


def main() -> None:
    """Run the service."""
    sys.exit(run("voice-assistant", __version__, VoiceSettings, assemble, description=description or ""))


if __name__ == "__main__":
    main()
