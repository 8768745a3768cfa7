"""The steps of ../steps as components: plain containers that get their program on the command line.

Lightweight Python components would install the Kubeflow SDK with pip each time a step starts. A step here is one text for
`python3 -c` that needs the standard library alone, so it starts at once, in any image with Python, without the internet.
"""

import re
from pathlib import Path

from kfp import dsl, kubernetes

IMAGE = "docker.io/library/python:3.13.11-slim-trixie"
RAY_SERVE = "http://ray-serve.ray.svc.cluster.local:8000"
MILVUS = "http://milvus.milvus.svc.cluster.local:19530"
STEPS = Path(__file__).resolve().parent.parent / "steps"

_SHARED = re.compile(r"^from endpoint import .*\n", re.MULTILINE)


def program(name: str) -> str:
    """Return a step's source, with what it shares with others in front of it instead of imported."""
    shared = (STEPS / "endpoint.py").read_text(encoding="utf-8")
    text, imports = _SHARED.subn("", (STEPS / f"{name}.py").read_text(encoding="utf-8"))
    if imports != 1:
        raise ValueError(f"{name}.py must have one line `from endpoint import …`, not {imports}")
    return f"{shared}\n\n{text}"


def step(name: str, **options: object) -> dsl.ContainerSpec:
    """Return the container of a step; each option becomes `--option=value`, which cannot be taken for another option."""
    args = [f"--{option.replace('_', '-')}={value}" for option, value in options.items()]
    return dsl.ContainerSpec(image=IMAGE, command=["python3", "-c", program(name)], args=args)


@dsl.container_component
def embed(query: str, url: str, vector: dsl.Output[dsl.Artifact]):
    """Turn a question into a vector."""
    return step("embed", query=query, url=url, vector=vector.path)


@dsl.container_component
def search(
    vector: dsl.Input[dsl.Artifact], url: str, collection: str, top_k: int, passages: dsl.Output[dsl.Artifact]
):
    """Find the passages nearest to it."""
    return step(
        "search", vector=vector.path, url=url, collection=collection, top_k=top_k, passages=passages.path
    )


@dsl.container_component
def rerank(
    query: str, passages: dsl.Input[dsl.Artifact], url: str, top_k: int, ranked: dsl.Output[dsl.Artifact]
):
    """Order them by how well they answer the question."""
    return step("rerank", query=query, passages=passages.path, url=url, top_k=top_k, ranked=ranked.path)


@dsl.container_component
def generate(
    query: str,
    passages: dsl.Input[dsl.Artifact],
    url: str,
    answer: dsl.OutputPath(str),
    sources: dsl.Output[dsl.Artifact],
    warnings: dsl.OutputPath(list),
):
    """Answer the question from the best ones."""
    return step(
        "generate",
        query=query,
        passages=passages.path,
        url=url,
        answer=answer,
        sources=sources.path,
        warnings=warnings,
    )


@dsl.container_component
def transcribe(audio_url: str, language: str, url: str, text: dsl.OutputPath(str)):
    """Write down what is said in a recording."""
    return step("transcribe", audio_url=audio_url, language=language, url=url, text=text)


@dsl.container_component
def synthesize(text: str, url: str, audio: dsl.Output[dsl.Artifact]):
    """Speak an answer."""
    return step("synthesize", text=text, url=url, audio=audio.path)


def run_as_usual(task: dsl.PipelineTask, **secrets: tuple[str, str]) -> dsl.PipelineTask:
    """Set what holds for all tasks: small, tried again after a lost pod, and never answered from the cache.

    Args:
        task: The task.
        secrets: Name and key of an optional Secret, by the variable that gets its value.
    """
    task.set_cpu_request("50m").set_memory_request("64Mi").set_memory_limit("256Mi")
    task.set_retry(num_retries=2, backoff_duration="10s", backoff_factor=2)
    task.set_caching_options(enable_caching=False)  # documents and models change while the question stays
    for variable, (name, key) in secrets.items():
        kubernetes.use_secret_as_env(task, name, {key: variable}, optional=True)
    return task


def answered(
    query: object,
    *,
    collection: object,
    top_k: object,
    embeddings_url: object,
    milvus_url: object,
    reranker_url: object,
    llm_url: object,
) -> dsl.PipelineTask:
    """Add the steps from a question to its answer; returns the last, with `answer`, `sources` and `warnings`."""
    vector = run_as_usual(embed(query=query, url=embeddings_url))
    found = run_as_usual(
        search(vector=vector.outputs["vector"], url=milvus_url, collection=collection, top_k=top_k),
        MILVUS_TOKEN=("milvus", "token"),
    )
    ranked = run_as_usual(
        rerank(query=query, passages=found.outputs["passages"], url=reranker_url, top_k=top_k)
    )
    return run_as_usual(
        generate(query=query, passages=ranked.outputs["ranked"], url=llm_url),
        LLM_API_KEY=("inference", "llm-api-key"),
    )
