"""`handlers watch` against the real server."""

from __future__ import annotations

import asyncio
import json
import sys

import pytest

from handler_base.messaging import wire
from handler_messages import (
    CancelRequest,
    ChatRequest,
    ChatResponse,
    ErrorResponse,
    PipelineStatus,
    PipelineTrigger,
    TTSAudioChunk,
    TTSFullResponse,
    VoiceRequest,
)
from handlers_cli.watch import Watch, watch


@pytest.fixture
async def watching(handler, terminal):
    """Start a watch; it is ready when its notice, or a probe in JSON, was seen."""
    tasks = []

    async def start(**options: object) -> asyncio.Task[int]:
        task = asyncio.ensure_future(watch(Watch(nats_url=handler.url, **options), terminal, asyncio.Event()))
        tasks.append(task)
        async with asyncio.timeout(10):
            while "watching" not in terminal.noted:
                await asyncio.sleep(0.005)
        return task

    yield start
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.parametrize("kind", [wire.PROTOBUF, wire.JSON, wire.MSGPACK])
async def test_messages_are_decoded_by_subject_and_content_type(
    handler, terminal, watching, kind: str
) -> None:
    task = await watching(count=1)
    await handler.client.connection.publish("ai.chat.request", ChatRequest(query="Why?", top_k=3), kind=kind)
    assert await asyncio.wait_for(task, 10) == 0
    (line,) = terminal.said.splitlines()
    assert " ai.chat.request ChatRequest" in line
    assert '"query":"Why?"' in line
    assert ("(json)" in line) == (kind == wire.JSON)


async def test_bytes_become_sizes_and_long_texts_are_cut(handler, terminal, watching) -> None:
    task = await watching(count=2)
    connection = handler.client.connection
    await connection.publish("voice.request", VoiceRequest(request_id="r", audio=bytes(12_345)))
    response = ChatResponse(response="x" * 500, warnings=["w"], timings={"total": 0.5})
    response.sources.add(text="y" * 500)
    await connection.publish("ai.chat.response.r", response)
    await asyncio.wait_for(task, 10)
    voice, chat = terminal.said.splitlines()
    assert '"audio":"<12.3 kB>"' in voice
    assert "x" * 80 + "…" in chat
    assert "x" * 81 not in chat
    assert '"sources":[{"text":"yyy' in chat
    assert '"timings":{"total":0.5}' in chat


async def test_pipelines_are_shown_with_their_parameters_and_errors(handler, terminal, watching) -> None:
    task = await watching(count=3)
    connection = handler.client.connection
    trigger = PipelineTrigger(request_id="r", pipeline="p", parameters={"source-url": "x" * 500})
    await connection.publish("ai.pipeline.trigger", trigger)
    error = ErrorResponse(error=True, type="cancelled", message="enough")
    await connection.publish("ai.pipeline.status.r", PipelineStatus(status="failed", sequence=4, error=error))
    await connection.publish("ai.pipeline.cancel.r", CancelRequest(request_id="r", reason="enough"))
    await asyncio.wait_for(task, 10)
    triggered, status, cancel = terminal.said.splitlines()
    assert (
        f'PipelineTrigger {{"request_id":"r","pipeline":"p","parameters":{{"source-url":"{"x" * 80}…"}}}}'
        in triggered
    )
    assert 'PipelineStatus {"status":"failed","sequence":4,"error":{"error":true,"message":"enough"' in status
    assert 'CancelRequest {"request_id":"r","reason":"enough"}' in cancel


async def test_full_shows_long_texts_whole(handler, terminal, watching) -> None:
    task = await watching(count=1, full=True)
    await handler.client.connection.publish("ai.chat.request", ChatRequest(query="x" * 500))
    await asyncio.wait_for(task, 10)
    assert "x" * 500 in terminal.said


async def test_errors_are_told_from_answers(handler, terminal, watching) -> None:
    task = await watching(count=1)
    await handler.answer("ai.chat.response.r", ErrorResponse(error=True, message="no", type="internal"))
    await asyncio.wait_for(task, 10)
    assert 'ErrorResponse {"error":true,"message":"no","type":"internal"}' in terminal.said


async def test_of_two_messages_on_one_subject_the_fitting_one_is_shown(handler, terminal, watching) -> None:
    task = await watching(count=2)
    connection = handler.client.connection
    await connection.publish(
        "ai.voice.tts.audio.s", TTSAudioChunk(session_id="s", chunk_index=1, is_last=True, timestamp=1)
    )
    await connection.publish(
        "ai.voice.tts.audio.s", TTSFullResponse(session_id="s", audio=b"abc", duration_seconds=2)
    )
    await asyncio.wait_for(task, 10)
    assert [line.split()[2] for line in terminal.said.splitlines()] == ["TTSAudioChunk", "TTSFullResponse"]


async def test_the_name_in_the_header_decides_where_a_subject_carries_more_than_one(
    handler, terminal, watching
) -> None:
    task = await watching(count=2)
    connection = handler.client.connection
    # In protobuf these bytes are a chunk as well as a full response.
    both = TTSFullResponse(session_id="s", request_id="r")
    for name in ("TTSFullResponse", "TTSAudioChunk"):
        await connection.publish("ai.voice.tts.audio.s", both, headers={"Message-Type": name})
    await asyncio.wait_for(task, 10)
    assert [line.split()[2] for line in terminal.said.splitlines()] == ["TTSFullResponse", "TTSAudioChunk"]


async def test_what_is_unknown_or_broken_is_shown_by_size(handler, terminal, watching) -> None:
    task = await watching(count=4, subjects=(">",))
    publish = handler.client.connection.publish_bytes
    await publish("something.else", bytes(12))
    await publish("ai.chat.request", b"\xff\xff\xff")
    await publish("ai.chat.request", b"<x/>", {"Content-Type": "text/xml"})
    await publish("ai.dlq.chat-handler", bytes(7), {"Dead-Letter-Reason": "bad \x1b[2J bytes"})
    await asyncio.wait_for(task, 10)
    lines = terminal.said.splitlines()
    assert [" ".join(line.split()[2:4]) for line in lines] == ["12 bytes", "3 bytes", "4 bytes", "7 bytes"]
    assert "(xml)" in lines[2]
    assert "Dead-Letter-Reason='bad" in lines[3]
    assert "\x1b" not in terminal.said


async def test_json_lines_hold_everything_a_program_needs(handler, terminal) -> None:
    task = asyncio.ensure_future(
        watch(Watch(nats_url=handler.url, as_json=True, count=1), terminal, asyncio.Event())
    )
    async with asyncio.timeout(10):
        while not task.done():
            await handler.client.connection.publish("ai.chat.request", ChatRequest(query="Why?"))
            await asyncio.sleep(0.01)
    line = json.loads(terminal.said)
    assert line["subject"] == "ai.chat.request"
    assert line["type"] == "ChatRequest"
    assert line["fields"] == {"query": "Why?"}
    assert line["bytes"] == 6
    assert terminal.noted == ""


async def test_it_ends_when_nobody_reads_any_more(handler) -> None:
    command = [sys.executable, "-m", "handlers_cli", "watch", "--nats-url", handler.url]
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    assert b"watching" in await process.stderr.readline()
    process._transport.get_pipe_transport(1).close()
    async with asyncio.timeout(20):
        while process.returncode is None:
            await handler.client.connection.publish("ai.chat.request", ChatRequest(query="Why?"))
            await asyncio.sleep(0.02)
    assert process.returncode == 0
    assert await process.stderr.read() == b""


async def test_it_ends_with_0_when_told_to_stop(handler, terminal) -> None:
    interrupt = asyncio.Event()
    interrupt.set()
    assert await watch(Watch(nats_url=handler.url), terminal, interrupt) == 0
