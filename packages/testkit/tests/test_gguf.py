"""The tiny model on llama.cpp's real server."""

import json
import urllib.request
from pathlib import Path

import pytest

from handler_testkit.gguf import LlamaServer, llama_server, write_gguf


def post(url: str, body: object) -> bytes:
    with urllib.request.urlopen(
        urllib.request.Request(url, json.dumps(body).encode()), timeout=30
    ) as response:
        return response.read()


def test_the_model_is_small_and_the_same_each_time(tmp_path: Path) -> None:
    one, two = write_gguf(tmp_path / "one.gguf"), write_gguf(tmp_path / "two.gguf")
    assert one.read_bytes() == two.read_bytes()
    assert one.stat().st_size < 600_000


def test_it_says_noise_and_with_a_grammar_a_known_text(llama_cpp: LlamaServer) -> None:
    chat = f"{llama_cpp.url}/v1/chat/completions"
    body = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 40, "seed": 1}
    noise = json.loads(post(chat, body))["choices"][0]["message"]["content"]
    assert noise
    known = json.loads(post(chat, body | {"grammar": 'root ::= "h\u00e9!"'}))["choices"][0]
    assert known["message"]["content"] == "h\u00e9!"
    assert known["finish_reason"] == "stop"


def test_a_stream_ends_with_usage_and_done(llama_cpp: LlamaServer) -> None:
    body = {
        "messages": [{"role": "user", "content": "hi"}],
        "max_tokens": 7,
        "stream": True,
        "stream_options": {"include_usage": True},
        "ignore_eos": True,
    }
    events = post(f"{llama_cpp.url}/v1/chat/completions", body).decode().strip().split("\n\n")
    assert events[-1] == "data: [DONE]"
    assert json.loads(events[-2].removeprefix("data: "))["usage"]["completion_tokens"] == 7


def test_a_file_that_is_no_model_fails_with_the_servers_log(tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + bytes(64))
    with pytest.raises(RuntimeError, match="did not start"), llama_server(broken):
        pass
