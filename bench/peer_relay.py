"""The stock httpx relay: nats-py and httpx with nothing between, for the figures per streamed token.

It is the lightest program one would write with these two libraries; uvloop, one client for the process.
"""

import asyncio
import json
import os
import time

import httpx
import nats
import uvloop
from nats.aio.msg import Msg

from handler_messages import ChatRequest, ChatResponse, ChatStreamChunk

LLM = f"{os.environ['LLM_URL']}/v1/chat/completions"
MODEL = os.environ.get("LLM_MODEL", "bench")


async def main() -> None:
    connection = await nats.connect(os.environ["NATS_URL"])
    limits = httpx.Limits(max_connections=256, max_keepalive_connections=256)
    async with httpx.AsyncClient(timeout=60, limits=limits) as http, asyncio.TaskGroup() as tasks:

        async def serve(message: Msg) -> None:
            request = ChatRequest.FromString(message.data)
            subject = f"ai.chat.response.stream.{request.request_id}"
            body = {
                "model": MODEL,
                "messages": [
                    {"role": "system", "content": "You are a helpful assistant."},
                    {"role": "user", "content": request.message},
                ],
                "stream": True,
            }
            index = 0
            pieces = []
            async with http.stream("POST", LLM, json=body) as answer:
                async for line in answer.aiter_lines():
                    if not line.startswith("data: "):
                        continue
                    if line == "data: [DONE]":
                        break
                    if content := json.loads(line[6:])["choices"][0]["delta"].get("content"):
                        pieces.append(content)
                        chunk = ChatStreamChunk(
                            request_id=request.request_id,
                            index=index,
                            type="chunk",
                            content=content,
                            timestamp=time.time(),
                        )
                        await connection.publish(subject, chunk.SerializeToString())
                        index += 1
            last = ChatStreamChunk(request_id=request.request_id, index=index, type="done", done=True)
            await connection.publish(subject, last.SerializeToString())
            response = ChatResponse(request_id=request.request_id, response="".join(pieces))
            await message.respond(response.SerializeToString())

        async def spawn(message: Msg) -> None:
            tasks.create_task(serve(message))

        await connection.subscribe("ai.chat.request", queue="chat-handler", cb=spawn)
        await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main())
