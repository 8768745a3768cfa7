"""The openai client and plain HTTP against the running service."""

from __future__ import annotations

import base64
import concurrent.futures
import json
import socket

import numpy as np
import openai
import pytest

CONTEXT = "Context:\n[1] Tower (tower.md)\nThe tower is 120 metres high. It was built in 1889 by many people."
QUESTION = [{"role": "system", "content": CONTEXT}, {"role": "user", "content": "How high is the tower?"}]


def post(service, path: str, body: object, **headers: str):
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return service.client("llm")._client.post(f"{service.url}{path}", content=content, headers=headers)


def test_chat_answers_whole(service) -> None:
    answer = service.client("llm").chat.completions.create(model="extractive", messages=QUESTION)
    (choice,) = answer.choices
    assert "The tower is 120 metres high." in choice.message.content
    assert choice.finish_reason == "stop"
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_chat_streams_the_same_words_with_role_first_and_usage_last(service) -> None:
    client = service.client("llm")
    whole = client.chat.completions.create(model="", messages=QUESTION)
    chunks = list(
        client.chat.completions.create(
            model="default", messages=QUESTION, stream=True, stream_options={"include_usage": True}
        )
    )
    assert chunks[0].choices[0].delta.role == "assistant"
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == whole.choices[0].message.content
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
    assert all(c.usage is None for c in chunks[:-1])


def test_a_stream_ends_with_done_and_has_no_usage_unless_asked(service) -> None:
    response = post(service, "/llm/v1/chat/completions", {"messages": QUESTION, "stream": True})
    assert response.headers["content-type"].startswith("text/event-stream")
    events = response.text.strip().split("\n\n")
    assert events[-1] == "data: [DONE]"
    assert '"usage"' not in response.text


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
def test_the_answer_ends_at_max_tokens(service, field: str) -> None:
    answer = service.client("llm").chat.completions.create(model="", messages=QUESTION, **{field: 4})
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens == 4
    assert len(answer.choices[0].message.content.split()) == 4


def test_the_answer_ends_before_a_stop_word(service) -> None:
    client = service.client("llm")
    for stop in ("120", ["metres", "120", "never"]):
        answer = client.chat.completions.create(model="", messages=QUESTION, stop=stop)
        assert answer.choices[0].message.content.endswith("The tower is ")
        assert answer.choices[0].finish_reason == "stop"


def test_text_parts_are_read_and_others_refused(service) -> None:
    client = service.client("llm")
    parts = [{"type": "text", "text": "How high is the tower?"}]
    answer = client.chat.completions.create(
        model="", messages=[QUESTION[0], {"role": "user", "content": parts}]
    )
    assert "120" in answer.choices[0].message.content
    image = [{"type": "image_url", "image_url": {"url": "data:,"}}]
    with pytest.raises(openai.BadRequestError, match="image_url"):
        client.chat.completions.create(model="", messages=[{"role": "user", "content": image}])


def test_an_unknown_model_is_named(service) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        service.client("llm").chat.completions.create(model="gpt-9", messages=QUESTION)
    assert caught.value.code == "model_not_found"
    assert "gpt-9" in caught.value.message


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b'{"messages":', "JSON"),
        (b"\xff\xfe", "JSON"),
        (b"", "JSON"),
        (b'{"x":' + b"[" * 100_000, "nested"),
        (b"[]", "object"),
        ({}, "messages"),
        ({"messages": []}, "at least one"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "role"),
        ({"messages": [{"role": "user", "content": 3}]}, "content"),
        ({"messages": QUESTION, "n": 2}, "n must be 1"),
        ({"messages": QUESTION, "max_tokens": 0}, "max_tokens"),
        ({"messages": QUESTION, "stream": "yes"}, "stream"),
    ],
)
def test_a_wrong_chat_request_is_answered_with_400_in_openais_shape(service, body, says: str) -> None:
    response = post(service, "/llm/v1/chat/completions", body)
    assert response.status_code == 400
    error = response.json()["error"]
    assert error["type"] == "invalid_request_error"
    assert says in error["message"]


def test_too_much_context_is_refused_with_openais_code(service) -> None:
    messages = [{"role": "user", "content": "word " * 20_000}]
    with pytest.raises(openai.BadRequestError) as caught:
        service.client("llm").chat.completions.create(model="", messages=messages)
    assert caught.value.code == "context_length_exceeded"


def test_too_large_a_body_is_refused(run) -> None:
    service = run(max_body_bytes=2048)
    response = post(service, "/embeddings/v1/embeddings", {"input": "x" * 4000})
    assert response.status_code == 413
    assert "2048" in response.json()["error"]["message"]


def test_unknown_paths_and_methods_are_answered_in_openais_shape(service) -> None:
    http = service.client("llm")._client
    response = http.get(f"{service.url}/llm/v1/nothing")
    assert (response.status_code, "nothing" in response.json()["error"]["message"]) == (404, True)
    response = http.get(f"{service.url}/llm/v1/chat/completions")
    assert (response.status_code, "GET" in response.json()["error"]["message"]) == (405, True)


@pytest.mark.parametrize(("prefix", "name"), [("llm", "extractive"), ("embeddings", "all-MiniLM-L6-v2")])
def test_models_are_listed(service, prefix: str, name: str) -> None:
    assert [model.id for model in service.client(prefix).models.list()] == [name]


def test_embeddings_come_to_the_openai_client_in_order(service, model) -> None:
    texts = ["The tower is high.", "Bake it for forty minutes.", "A tall building."]
    answer = service.client("embeddings").embeddings.create(model="all-MiniLM-L6-v2", input=texts)
    vectors = np.array([item.embedding for item in answer.data])
    assert [item.index for item in answer.data] == [0, 1, 2]
    assert np.allclose(vectors, model.embed(model.tokenize(texts)), atol=1e-6)
    assert answer.usage.prompt_tokens == sum(map(len, model.tokenize(texts)))


def test_embeddings_come_as_numbers_or_base64(service) -> None:
    plain = post(service, "/embeddings/v1/embeddings", {"input": "one text"}).json()["data"][0]["embedding"]
    packed = post(service, "/embeddings/v1/embeddings", {"input": ["one text"], "encoding_format": "base64"})
    raw = base64.b64decode(packed.json()["data"][0]["embedding"])
    assert np.allclose(np.frombuffer(raw, np.float32), plain)
    assert len(plain) == 384


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"input": [1, 2, 3]}, "token arrays"),
        ({"input": [[1, 2], [3]]}, "token arrays"),
        ({"input": []}, "at least one"),
        ({"input": "  "}, "empty"),
        ({"input": ["a", ""]}, "empty"),
        ({"input": "a", "dimensions": 128}, "384"),
        ({"input": "a", "encoding_format": "hex"}, "encoding_format"),
        ({"input": ["a"] * 3000}, "2048"),
        ({}, "input"),
    ],
)
def test_a_wrong_embeddings_request_is_answered_with_400(service, body, says: str) -> None:
    response = post(service, "/embeddings/v1/embeddings", body)
    assert response.status_code == 400
    assert says in response.json()["error"]["message"]


def test_rerank_puts_the_best_document_first(service) -> None:
    documents = ["Cats", {"text": "The tower is 120 metres high"}, "A high wall"]
    body = {"query": "high tower", "documents": documents, "return_documents": True}
    results = post(service, "/reranker/v1/rerank", body).json()["results"]
    assert [result["index"] for result in results] == [1, 2, 0]
    assert results[0]["document"] == {"text": "The tower is 120 metres high"}
    scores = [result["relevance_score"] for result in results]
    assert scores == sorted(scores, reverse=True)
    top = post(service, "/reranker/v1/rerank", {**body, "top_n": 1, "return_documents": False}).json()[
        "results"
    ]
    assert top == [{"index": 1, "relevance_score": scores[0]}]


def test_rerank_speaks_the_text_embeddings_inference_form(service) -> None:
    body = {"query": "high tower", "texts": ["Cats", "A high tower"], "return_text": True}
    results = post(service, "/reranker/rerank", body).json()
    assert results[0]["index"] == 1
    assert results[0]["text"] == "A high tower"
    assert results[1]["score"] == 0


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"query": "q", "documents": []}, "no documents"),
        ({"query": "q", "documents": ["a"], "top_n": 0}, "top_n"),
        ({"query": "q", "documents": ["a"] * 3000}, "2048"),
        ({"documents": ["a"]}, "query"),
    ],
)
def test_a_wrong_rerank_request_is_answered_with_400(service, body, says: str) -> None:
    response = post(service, "/reranker/v1/rerank", body)
    assert response.status_code == 400
    assert says in response.json()["error"]["message"]


def test_many_clients_at_once_each_get_their_own_answer(service) -> None:
    client = service.client("llm")

    def ask(number: int) -> str:
        context = f"Context:\n[1] Tower {number} (t)\nThe tower number {number} is {number * 7} metres high."
        messages = [{"role": "system", "content": context}, QUESTION[1]]
        stream = client.chat.completions.create(model="", messages=messages, stream=True)
        return "".join(chunk.choices[0].delta.content or "" for chunk in stream)

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(ask, range(48)))
    assert all(f"The tower number {n} is {n * 7} metres high." in answer for n, answer in enumerate(answers))


def test_a_client_that_leaves_a_stream_ends_it_at_once(run) -> None:
    service = run(llm_tokens_per_second=0.2)
    stream = service.client("llm").chat.completions.create(model="", messages=QUESTION, stream=True)
    next(iter(stream))
    assert service.in_flight == 1
    stream.close()
    service.until(lambda: service.in_flight == 0, seconds=1)


def test_a_client_that_leaves_a_long_batch_ends_it(service) -> None:
    body = json.dumps({"input": ["a sentence of some length to compute " * 30] * 400}).encode()
    with socket.create_connection(("127.0.0.1", service.port)) as client:
        head = f"POST /embeddings/v1/embeddings HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        client.sendall(head.encode() + body)
        service.until(lambda: service.in_flight == 1)
    # The whole batch would take many seconds.
    service.until(lambda: service.in_flight == 0, seconds=3)


def test_a_short_question_need_not_wait_for_a_long_batch(service) -> None:
    texts = ["a sentence of some length to compute " * 30] * 24
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        client = service.client("embeddings")
        long = pool.submit(client.embeddings.create, model="", input=texts)
        service.until(lambda: service.in_flight == 1)
        service.client("embeddings").embeddings.create(model="", input="short")
        assert not long.done()
        assert len(long.result().data) == 24


def test_more_requests_than_the_limit_are_told_to_try_again(run) -> None:
    service = run(max_in_flight=1, llm_tokens_per_second=0.2)
    client = service.client("llm")
    stream = client.chat.completions.create(model="", messages=QUESTION, stream=True)
    next(iter(stream))
    with pytest.raises(openai.InternalServerError) as caught:
        client.chat.completions.create(model="", messages=QUESTION)
    assert caught.value.status_code == 503
    assert caught.value.code == "overloaded"
    assert caught.value.response.headers["retry-after"] == "1"
    assert client._client.get(f"{service.url}/healthz").status_code == 200
    stream.close()
