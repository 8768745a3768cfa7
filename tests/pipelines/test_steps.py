"""What all steps keep: they run in an image of ours, on a command line of Kubeflow's, and say plainly what went wrong."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from handler_base.conversation.prompt import CONTEXT_RULE, PromptSettings
from handler_testkit.endpoints import HttpEndpoint, answering, resetting
from handler_testkit.models import embeddings, models, rerank, routed, vector_of

from .conftest import PIPELINES, ROOT, STEPS, template

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable
    from pathlib import Path

ARGO = ("batch-inference", "model-evaluation")
PASSAGES = [
    {
        "text": f"text {number}",
        "title": f"Title {number}",
        "uri": f"{number}.md",
        "document_id": "d",
        "score": 0.5,
    }
    for number in range(4)
]

REFUSING = """
import sys, runpy
LEFT_OUT = {left_out!r}
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in LEFT_OUT:
            raise ModuleNotFoundError(f"{{name}} is not in the image")
for name in LEFT_OUT & sys.modules.keys():
    del sys.modules[name]
sys.meta_path.insert(0, Refuse())
sys.path.insert(0, {folder!r})
runpy.run_path({program!r})
"""


@pytest.mark.parametrize("name", ARGO)
def test_an_argo_step_needs_nothing_that_is_left_out_of_images(name: str) -> None:
    spec = importlib.util.spec_from_file_location("assemble", ROOT / "images" / "assemble.py")
    assert spec
    assert spec.loader
    assemble = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(assemble)
    left_out = {one.removesuffix(".py") for one in assemble.STDLIB_LEFT_OUT}
    (step,) = template(name)["templates"]
    program = STEPS / step["container"]["command"][-1].rsplit("/", 1)[-1]
    code = REFUSING.format(left_out=left_out, folder=str(STEPS), program=str(program))
    done = subprocess.run(
        [sys.executable, "-ESsBc", code], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr


def commands() -> list[tuple[str, list[str], list[str]]]:
    """Return the name, command and arguments of each container of the compiled Kubeflow pipelines."""
    found = []
    for file in sorted((PIPELINES / "kubeflow").glob("*.yaml")):
        body = next(yaml.safe_load_all(file.read_text()))
        for name, executor in body["deploymentSpec"]["executors"].items():
            container = executor["container"]
            found.append((f"{file.stem}/{name}", container["command"], container["args"]))
    return found


@pytest.mark.parametrize(
    ("command", "args"), [one[1:] for one in commands()], ids=[one[0] for one in commands()]
)
def test_a_kubeflow_step_is_one_program_of_the_standard_library(command: list[str], args: list[str]) -> None:
    python, flag, program = command
    assert (python, flag) == ("python3", "-c")
    compile(program, "step", "exec")
    # Kubeflow and the kubelet would put something in the place of these.
    assert "{{" not in program
    assert "$(" not in program
    assert len(program) < 64 * 1024  # Linux takes 128 KiB as one argument
    modules = set(re.findall(r"^\s*(?:from|import) (\w+)", program, re.MULTILINE))
    assert modules <= sys.stdlib_module_names
    assert all(re.fullmatch(r"--[a-z-]+=\{\{\$\.[^{}]+\}\}", one) for one in args)


def test_the_prompt_is_that_of_chat_handler(step_module: Callable[[str], Any]) -> None:
    generate = step_module("generate")
    assert generate.RULE == CONTEXT_RULE
    settings = PromptSettings()
    assert settings.system_prompt == generate.SYSTEM
    assert settings.max_tokens * settings.context_share * 4 == generate.CONTEXT_CHARS


def test_passages_go_into_the_prompt_as_far_as_there_is_room(step_module: Callable[[str], Any]) -> None:
    generate = step_module("generate")
    long = {"title": "A\ntitle", "uri": "a.md", "text": " x" * 4000}
    blocks = generate.context([long, long, long])
    assert len(blocks) == 1
    assert blocks[0].startswith("[1] A title (a.md)\nx x")
    assert generate.context([]) == []


@pytest.fixture
def options(tmp_path: Path) -> Callable[..., Namespace]:
    """Return a function that makes options; files hold what is given for them."""
    from argparse import Namespace

    def made(**values: Any) -> Namespace:
        for name in ("vector", "passages"):
            if name in values:
                (tmp_path / name).write_text(json.dumps(values[name]))
                values[name] = tmp_path / name
        return Namespace(**values)

    return made


async def in_thread(work: Callable[..., Any], *arguments: Any) -> Any:
    import asyncio

    return await asyncio.to_thread(work, *arguments)


async def test_a_question_becomes_the_vector_of_the_endpoint(
    step_module: Callable[[str], Any], options: Callable[..., Namespace]
) -> None:
    routes = {"/v1/embeddings": embeddings(), "/v1/models": models("minilm")}
    async with HttpEndpoint(routed(routes)) as endpoint:
        vector = await in_thread(step_module("embed").embed, options(query="why?", url=f"{endpoint.url}/v1"))
    assert vector == vector_of("why?")
    assert endpoint.requests[-1].json() == {"model": "minilm", "input": ["why?"]}


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({"data": []}, "answered without a vector"),
        ({"error": {"message": "out of memory"}}, "answered: out of memory"),
        ([1], "something else than a JSON object"),
    ],
)
async def test_an_endpoint_that_gives_no_vector_is_named(
    step_module: Callable[[str], Any], options: Callable[..., Namespace], answer: object, said: str
) -> None:
    embed = step_module("embed")
    routes = {"/v1/embeddings": answering(answer), "/v1/models": answering({}, 404)}
    async with HttpEndpoint(routed(routes)) as endpoint:
        with pytest.raises(embed.Failed, match=said):
            await in_thread(embed.embed, options(query="why?", url=endpoint.url))


async def test_a_missing_knowledge_base_and_a_complaint_of_milvus_are_said(
    step_module: Callable[[str], Any], options: Callable[..., Namespace]
) -> None:
    search = step_module("search")
    for answer, said in (
        ({"code": 100, "message": "can't find collection"}, "there is no knowledge base 'none'"),
        ({"code": 65535, "message": "dimension mismatch"}, "Milvus answered code 65535: dimension mismatch"),
    ):
        async with HttpEndpoint(answering(answer)) as endpoint:
            given = options(vector=[1.0], url=endpoint.url, collection="none", top_k=3)
            with pytest.raises(search.Failed, match=re.escape(said)):
                await in_thread(search.search, given)
        assert endpoint.requests[0].json()["limit"] == 12


async def test_passages_are_ordered_by_the_reranker(
    step_module: Callable[[str], Any], options: Callable[..., Namespace]
) -> None:
    async with HttpEndpoint(routed({"/v1/rerank": rerank()})) as endpoint:
        given = options(query="text 2", url=endpoint.url, top_k=2)
        found = await in_thread(step_module("rerank").rerank, given, PASSAGES)
    assert [one["uri"] for one in found] == ["2.md", "0.md"]
    assert found[0]["score"] > found[1]["score"]


@pytest.mark.parametrize(
    "script",
    [
        resetting,
        answering({"results": [{"index": 9, "relevance_score": 1}]}),
        answering({"results": [{"index": 0, "relevance_score": 1}] * 2}),
        answering({"results": []}),
    ],
)
async def test_without_a_ranking_the_order_of_the_search_stays_and_a_warning_says_so(
    step_module: Callable[[str], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: Any
) -> None:
    step = step_module("rerank")
    monkeypatch.setattr(step, "PATIENCE", 0.3)
    (tmp_path / "found").write_text(json.dumps({"passages": PASSAGES, "warnings": []}))
    async with HttpEndpoint(script) as endpoint:
        arguments = {
            "query": "why?", "passages": tmp_path / "found", "url": endpoint.url, "top-k": 2,
            "ranked": tmp_path / "new" / "ranked",
        }  # fmt: skip
        monkeypatch.setattr(sys, "argv", ["rerank", *(f"--{k}={v}" for k, v in arguments.items())])
        assert await in_thread(step.main) == 0
    ranked = json.loads((tmp_path / "new" / "ranked").read_text())
    assert ranked["passages"] == PASSAGES[:2]
    (warning,) = ranked["warnings"]
    assert warning.startswith("passages are in the order of the search, not reranked: ")


async def test_a_recording_without_words_is_no_question(
    step_module: Callable[[str], Any], options: Callable[..., Namespace]
) -> None:
    transcribe = step_module("transcribe")
    routes = {"/v1/audio/transcriptions": answering({"text": " \n"}), "/a.ogg": answering("audio")}
    async with HttpEndpoint(routed(routes)) as endpoint:
        given = options(audio_url=f"{endpoint.url}/a.ogg", language="de-AT", url=endpoint.url)
        with pytest.raises(transcribe.Failed, match="nothing is said in the recording"):
            await in_thread(transcribe.transcribe, given)
    body = endpoint.requests[-1].body
    assert b'filename="audio.ogg"\r\nContent-Type: audio/ogg\r\n' in body
    assert b'name="language"\r\n\r\nde\r\n' in body


def test_what_is_only_for_the_eye_is_not_spoken(step_module: Callable[[str], Any]) -> None:
    spoken = step_module("synthesize").spoken
    assert spoken("At **sunset** [1], says `lamp.md` [2][3].") == "At sunset, says lamp.md."
    assert spoken("2 * 3 is 6") == "2 * 3 is 6"


def test_a_body_that_ends_early_is_not_taken_for_whole(step_module: Callable[[str], Any]) -> None:
    endpoint = step_module("endpoint")
    cut = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"

    import http.client
    import io

    class Socket:
        def makefile(self, *_: object) -> io.BytesIO:
            return io.BytesIO(cut)

    answer = http.client.HTTPResponse(Socket())  # type: ignore[arg-type]
    answer.begin()
    with pytest.raises(http.client.IncompleteRead):
        endpoint.take(answer, 100, None, "here")


@pytest.mark.parametrize(
    ("value", "seconds"), [("3", 3.0), ("", 0.0), ("soon", 0.0), ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0)]
)
def test_the_pause_that_an_endpoint_asks_for_is_read(
    step_module: Callable[[str], Any], value: str, seconds: float
) -> None:
    assert step_module("endpoint").retry_after(value) == seconds
