"""Answers one question from the knowledge base: embed, search, rerank, generate."""

from typing import NamedTuple

from components import MILVUS, RAY_SERVE, answered
from kfp import dsl


class Outputs(NamedTuple):
    """What comes out."""

    answer: str
    sources: dsl.Artifact
    warnings: list


@dsl.pipeline(name="rag-query", description="Answers one question from the knowledge base, step by step")
def rag_query(
    query: str,
    collection: str = "documents",
    top_k: int = 5,
    embeddings_url: str = f"{RAY_SERVE}/embeddings",
    milvus_url: str = MILVUS,
    reranker_url: str = f"{RAY_SERVE}/reranker",
    llm_url: str = f"{RAY_SERVE}/llm",
) -> Outputs:
    """Answer one question.

    Args:
        query: the question
        collection: knowledge base to search
        top_k: passages for the prompt
        embeddings_url: base address of the embeddings
        milvus_url: base address of Milvus
        reranker_url: base address of the reranker
        llm_url: base address of the LLM
    """
    answer = answered(
        query,
        collection=collection,
        top_k=top_k,
        embeddings_url=embeddings_url,
        milvus_url=milvus_url,
        reranker_url=reranker_url,
        llm_url=llm_url,
    )
    return Outputs(answer.outputs["answer"], answer.outputs["sources"], answer.outputs["warnings"])
