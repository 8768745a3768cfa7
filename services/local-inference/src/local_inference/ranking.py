"""BM25 over the documents of one request.

Source: Robertson and Zaragoza 2009; computed by the bm25s package.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from local_inference.words import terms

if TYPE_CHECKING:
    from collections.abc import Sequence


def bm25(query: str, documents: Sequence[str]) -> list[float]:
    """Return one score per document, in their order.

    BM25 has no upper bound; the scores are squeezed into 0 to 1 as `s / (1 + s)`, which keeps their order. A document
    without any word of the query gets 0.
    """
    import bm25s

    logging.getLogger("bm25s").setLevel(logging.WARNING)

    wanted = list(dict.fromkeys(terms(query)))
    corpus = [terms(document) for document in documents]
    known = {term for document in corpus for term in document}
    wanted = [term for term in wanted if term in known]
    if not wanted:
        return [0.0] * len(corpus)
    index = bm25s.BM25()
    index.index(corpus, show_progress=False)
    return [float(score / (1 + score)) for score in index.get_scores(wanted).tolist()]
