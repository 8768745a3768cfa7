"""`chat-handler`: what comes in, what serves it, what it needs."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from chat_handler import __doc__ as description, __version__
from chat_handler.answer import Answerer
from chat_handler.config import ChatSettings
from chat_handler.people import People
from handler_base.clients.embeddings import Embeddings
from handler_base.clients.llm import LLM
from handler_base.clients.reranker import Reranker
from handler_base.clients.text_to_speech import TextToSpeech
from handler_base.clients.vectors import open_vector_store
from handler_base.conversation.grounding import Grounding
from handler_base.conversation.history import History
from handler_base.conversation.retrieval import Retrieval
from handler_base.http import HttpPool
from handler_base.messaging.keyvalue import KeyValue
from handler_base.process import run
from handler_messages import subjects

if TYPE_CHECKING:
    from handler_base.service import Service


def assemble(service: Service, settings: ChatSettings) -> None:
    """Declare the handlers of chat-handler."""
    http = HttpPool(settings.http)
    llm = LLM(http, settings.llm)
    vectors = open_vector_store(settings.vectors, http)
    retrieval = Retrieval(
        Embeddings(http, settings.embeddings), vectors, Reranker(http, settings.reranker), settings.retrieval
    )
    sessions = KeyValue(service.connection, settings.history.as_bucket)
    grounding = Grounding(History(sessions, settings.history), retrieval)
    answerer = Answerer(settings, llm=llm, grounding=grounding, tts=TextToSpeech(http, settings.tts))
    people = People(sessions, settings, llm)

    service.handle(subjects.CHAT_REQUEST, answerer.chat, response=subjects.CHAT_RESPONSE)
    service.handle(subjects.CHAT_USER_MESSAGE, answerer.chat, response=subjects.CHAT_RESPONSE)
    service.handle(subjects.CHAT_GREETING_REQUEST, people.greet, response=subjects.CHAT_GREETING_RESPONSE)
    service.handle(subjects.CHAT_LOGIN, people.login)
    service.publishes(subjects.CHAT_RESPONSE_STREAM)
    service.cancel_on(subjects.CHAT_CANCEL)

    service.needs("LLM", llm.endpoint.reachable)
    service.on_start(sessions.prepare)
    service.on_stop(vectors.aclose)
    service.on_stop(http.aclose)


def main() -> None:
    """Run the service."""
    sys.exit(run("chat-handler", __version__, ChatSettings, assemble, description=description or ""))


if __name__ == "__main__":
    main()
