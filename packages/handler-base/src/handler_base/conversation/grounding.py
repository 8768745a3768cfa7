"""What an answer stands on: the conversation so far and passages for the question, found side by side.

Nothing here fails an answer: what cannot be had is left out, and a warning says so.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

from handler_base.errors import MessagingError
from handler_messages import DocumentSource

if TYPE_CHECKING:
    from handler_base.clients.vectors import Passage
    from handler_base.conversation.history import History, Turn
    from handler_base.conversation.retrieval import Retrieval, Retrieved
    from handler_messages import ChatResponse, VoiceResponse


class Grounds(NamedTuple):
    """What was found.

    Attributes:
        turns: The conversation so far, oldest first.
        passages: Best first.
        warnings: One sentence for each step that could not be done.
        timings: Seconds by step.
    """

    turns: list[Turn]
    passages: list[Passage]
    warnings: list[str]
    timings: dict[str, float]

    def cite(self, response: ChatResponse | VoiceResponse, used: int) -> None:
        """Put into a response what the model was shown, and what could not be had.

        Args:
            response: The response.
            used: How many of the passages fitted into the prompt.
        """
        response.sources.extend(
            DocumentSource(text=p.text, score=p.score, title=p.title, uri=p.uri, document_id=p.document_id)
            for p in self.passages[:used]
        )
        response.warnings.extend(self.warnings)
        for step, seconds in self.timings.items():
            response.timings[step] = seconds


class Grounding:
    """Looks up what answers stand on, and keeps what was said.

    Args:
        history: The conversations.
        retrieval: The knowledge base.
    """

    def __init__(self, history: History, retrieval: Retrieval) -> None:
        self._history = history
        self._retrieval = retrieval

    async def find(
        self,
        question: str,
        *,
        user_id: str = "",
        session_id: str = "",
        request_id: str = "",
        rag: bool = True,
        collection: str = "",
        top_k: int = 0,
        rerank: bool | None = None,
    ) -> Grounds:
        """Load the conversation and find passages, side by side.

        Args:
            question: What is asked.
            user_id: Whose conversation it continues.
            session_id: Which one; without both, none.
            request_id: The request itself: what an earlier attempt of it left in the conversation is left out.
            rag: Whether to look into the knowledge base.
            collection: Where to look; "" for the default collection.
            top_k: How many passages; 0 for the default.
            rerank: Whether to rerank; None for the default.
        """
        grounds = Grounds([], [], [], {})

        async def recall() -> None:
            await self._recall(user_id, session_id, request_id, grounds)

        async def retrieve() -> None:
            found = await self._retrieval.retrieve(
                question, collection=collection, top_k=top_k, rerank=rerank
            )
            _merge(grounds, found)

        personal = bool(user_id or session_id)
        if rag and personal:
            async with asyncio.TaskGroup() as steps:
                steps.create_task(recall())
                steps.create_task(retrieve())
        elif personal:
            await recall()
        elif rag:
            await retrieve()
        return grounds

    async def remember(
        self,
        user_id: str,
        session_id: str,
        *,
        request_id: str,
        question: str,
        answer: str,
        interrupted: bool,
        seconds: float,
    ) -> str:
        """Keep a turn of the conversation.

        Args:
            user_id: Whose conversation it is.
            session_id: Which one; without both, nothing is kept.
            request_id: The request that made it; a repeated one replaces its turn.
            question: What the person said.
            answer: What was answered, or heard of it.
            interrupted: Whether the answer was cut short.
            seconds: Longest wait.

        Returns:
            Why it could not be kept, or "".
        """
        if not (user_id or session_id):
            return ""
        try:
            async with asyncio.timeout(seconds):
                await self._history.append(
                    user_id,
                    session_id,
                    request_id=request_id,
                    question=question,
                    answer=answer,
                    interrupted=interrupted,
                )
        except (MessagingError, TimeoutError) as error:
            return f"the conversation was not saved: {str(error) or 'no answer in time'}"
        return ""

    async def _recall(self, user_id: str, session_id: str, request_id: str, grounds: Grounds) -> None:
        loop = asyncio.get_running_loop()
        started = loop.time()
        try:
            turns = await self._history.load(user_id, session_id)
            grounds.turns.extend(turn for turn in turns if turn.request_id != request_id)
        except MessagingError as error:
            grounds.warnings.append(f"answered without the earlier conversation: {error}")
        finally:
            grounds.timings["history"] = loop.time() - started


def _merge(grounds: Grounds, found: Retrieved) -> None:
    grounds.passages.extend(found.passages)
    grounds.warnings.extend(found.warnings)
    grounds.timings.update(found.timings)
