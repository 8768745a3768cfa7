"""Answers a spoken question with speech: transcription, the steps of rag-query, synthesis."""

from typing import NamedTuple

from components import MILVUS, RAY_SERVE, answered, run_as_usual, synthesize, transcribe
from kfp import dsl

TOP_K = 5


class Outputs(NamedTuple):
    """What comes out."""

    transcription: str
    answer: str
    audio: dsl.Artifact
    sources: dsl.Artifact
    warnings: list


@dsl.pipeline(
    name="voice-pipeline",
    description="Answers a spoken question with speech: transcription, retrieval, LLM, synthesis",
)
def voice_pipeline(
    audio_url: str,
    collection: str = "documents",
    language: str = "",
    whisper_url: str = f"{RAY_SERVE}/whisper",
    embeddings_url: str = f"{RAY_SERVE}/embeddings",
    milvus_url: str = MILVUS,
    reranker_url: str = f"{RAY_SERVE}/reranker",
    llm_url: str = f"{RAY_SERVE}/llm",
    tts_url: str = f"{RAY_SERVE}/tts",
) -> Outputs:
    """Answer a spoken question.

    Args:
        audio_url: http(s) address of the recording
        collection: knowledge base to search
        language: spoken language; empty to find out
        whisper_url: base address of speech to text
        embeddings_url: base address of the embeddings
        milvus_url: base address of Milvus
        reranker_url: base address of the reranker
        llm_url: base address of the LLM
        tts_url: base address of text to speech
    """
    heard = run_as_usual(transcribe(audio_url=audio_url, language=language, url=whisper_url))
    answer = answered(
        heard.outputs["text"],
        collection=collection,
        top_k=TOP_K,
        embeddings_url=embeddings_url,
        milvus_url=milvus_url,
        reranker_url=reranker_url,
        llm_url=llm_url,
    )
    speech = run_as_usual(synthesize(text=answer.outputs["answer"], url=tts_url))
    return Outputs(
        heard.outputs["text"],
        answer.outputs["answer"],
        speech.outputs["audio"],
        answer.outputs["sources"],
        answer.outputs["warnings"],
    )
