"""A GGUF file behind /llm: llama.cpp's real server with a tiny random model."""

from __future__ import annotations

import openai
import pytest

from handler_base.errors import ConfigError
from handler_testkit.gguf import write_gguf
from local_inference.__main__ import server
from local_inference.config import LocalInferenceSettings

KNOWN = {"grammar": 'root ::= "Hello, w\u00f6rld! \u2603"'}
MESSAGES = [{"role": "user", "content": "Say hello."}]


@pytest.fixture(scope="module")
def gguf(tmp_path_factory):
    return write_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf", context=32768)


@pytest.fixture
def llama(run, gguf):
    return run(llm_gguf=str(gguf), llm_context_tokens=32768, llm_parallel=1, llm_threads=1)


def test_llama_cpp_answers_whole_and_streamed(llama) -> None:
    client = llama.client("llm")
    whole = client.chat.completions.create(model="tiny", messages=MESSAGES, extra_body=KNOWN)
    assert whole.choices[0].message.content == "Hello, w\u00f6rld! \u2603"
    assert whole.choices[0].finish_reason == "stop"
    assert whole.usage.prompt_tokens > 10
    chunks = list(
        client.chat.completions.create(
            model="tiny",
            messages=MESSAGES,
            stream=True,
            stream_options={"include_usage": True},
            extra_body=KNOWN,
        )
    )
    assert (
        "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "Hello, w\u00f6rld! \u2603"
    )
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens


def test_its_errors_and_other_routes_come_through(llama) -> None:
    client = llama.client("llm")
    with pytest.raises(openai.BadRequestError, match="messages"):
        client.chat.completions.create(model="tiny", messages="nonsense")
    assert [model.id for model in client.models.list()] == ["tiny"]
    response = client._client.post(f"{llama.url}/llm/tokenize?x=1", content=b'{"content":"abc"}')
    assert len(response.json()["tokens"]) == 3
    assert client._client.get(f"{llama.url}/llm/nothing").status_code == 404


def test_a_client_that_leaves_frees_the_slot(llama) -> None:
    client = llama.client("llm")

    def busy() -> bool:
        return client._client.get(f"{llama.url}/llm/slots").json()[0]["is_processing"]

    # Without an end of its own: random text up to the end of the context.
    stream = client.chat.completions.create(
        model="tiny", messages=MESSAGES, stream=True, extra_body={"ignore_eos": True, "n_predict": -1}
    )
    iterator = iter(stream)
    for _ in range(5):
        next(iterator)
    assert busy()
    stream.close()
    llama.until(lambda: not busy(), seconds=1)
    decoded = client._client.get(f"{llama.url}/llm/slots").json()[0]["next_token"][0]["n_decoded"]
    assert decoded < 20_000


def test_embeddings_work_beside_it(llama) -> None:
    answer = llama.client("embeddings").embeddings.create(model="", input="text")
    assert len(answer.data[0].embedding) == 384


def test_a_missing_file_is_named_at_start() -> None:
    with pytest.raises(ConfigError, match=r"/nowhere\.gguf: there is no such file"):
        server(LocalInferenceSettings(llm_gguf="/nowhere.gguf"))
