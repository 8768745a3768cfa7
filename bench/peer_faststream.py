"""The peer: what chat-handler does with retrieval off, in FastStream and httpx as their documentation has it.

Protobuf ChatRequest in on a queue group, one POST to an OpenAI chat endpoint, protobuf ChatResponse as the reply; with
`enable_streaming` each token goes out as a ChatStreamChunk. It is treated kindly: uvloop, one client for the process,
no logging, concurrency on.
"""

import json
import os
import time

import httpx
import uvloop
from faststream import FastStream
from faststream.nats import NatsBroker, NatsMessage
from faststream.params import NoCast

from handler_messages import ChatRequest, ChatResponse, ChatStreamChunk

LLM = f"{os.environ['LLM_URL']}/v1/chat/completions"
MODEL = os.environ.get("LLM_MODEL", "bench")

broker = NatsBroker(os.environ["NATS_URL"], logger=None)
app = FastStream(broker, logger=None)
http: httpx.AsyncClient


@app.on_startup
async def open_client() -> None:
    global http  # noqa: PLW0603
    limits = httpx.Limits(max_connections=256, max_keepalive_connections=256)
    http = httpx.AsyncClient(timeout=60, limits=limits)


@app.after_shutdown
async def close_client() -> None:
    await http.aclose()


async def decode(message: NatsMessage) -> ChatRequest:
    return ChatRequest.FromString(message.body)


@broker.subscriber("ai.chat.request", queue="chat-handler", decoder=decode, max_workers=256)
async def chat(request: NoCast[ChatRequest]) -> bytes:
    body = {
        "model": MODEL,
        "messages": [
            {"role": "system", "content": request.system_prompt or "You are a helpful assistant."},
            {"role": "user", "content": request.query or request.message},
        ],
        "stream": request.enable_streaming,
    }
    if request.enable_streaming:
        response = await relay(request, body)
    else:
        answer = await http.post(LLM, json=body)
        answer.raise_for_status()
        data = answer.json()
        response = ChatResponse(
            request_id=request.request_id,
            response=data["choices"][0]["message"]["content"],
            model=data["model"],
            finish_reason=data["choices"][0]["finish_reason"],
            prompt_tokens=data["usage"]["prompt_tokens"],
            completion_tokens=data["usage"]["completion_tokens"],
        )
    return response.SerializeToString()


async def relay(request: ChatRequest, body: dict[str, object]) -> ChatResponse:
    subject = f"ai.chat.response.stream.{request.request_id}"
    response = ChatResponse(request_id=request.request_id)
    index = 0
    pieces = []
    async with http.stream("POST", LLM, json=body) as answer:
        answer.raise_for_status()
        async for line in answer.aiter_lines():
            if not line.startswith("data: "):
                continue
            if line == "data: [DONE]":
                break
            data = json.loads(line[6:])
            choice = data["choices"][0]
            response.model = data["model"]
            response.finish_reason = choice["finish_reason"] or ""
            if content := choice["delta"].get("content"):
                pieces.append(content)
                chunk = ChatStreamChunk(
                    request_id=request.request_id,
                    index=index,
                    type="chunk",
                    content=content,
                    timestamp=time.time(),
                )
                await broker.publish(chunk.SerializeToString(), subject)
                index += 1
    last = ChatStreamChunk(
        request_id=request.request_id, index=index, type="done", done=True, timestamp=time.time()
    )
    await broker.publish(last.SerializeToString(), subject)
    response.response = "".join(pieces)
    return response


if __name__ == "__main__":
    uvloop.run(app.run())
