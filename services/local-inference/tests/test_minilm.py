import math

import numpy as np
import pytest

from local_inference.minilm import DIMENSIONS, MiniLM, _gelu, map_safetensors, model_folder

TEXTS = [
    "The weather is lovely today.",
    "It's so sunny outside!",
    "He drove to the stadium.",
]


def embed(model: MiniLM, *texts: str) -> np.ndarray:
    return model.embed(model.tokenize(texts))


def test_likeness_equals_the_figures_that_sentence_transformers_publishes(model: MiniLM) -> None:
    vectors = embed(model, *TEXTS)
    published = [[1.0, 0.6660, 0.1046], [0.6660, 1.0, 0.1411], [0.1046, 0.1411, 1.0]]
    assert np.allclose(vectors @ vectors.T, published, atol=6e-5)


def test_vectors_have_length_one(model: MiniLM) -> None:
    vectors = embed(model, *TEXTS, "", "\u2603" * 40, "a" * 5000)
    assert vectors.shape == (6, DIMENSIONS)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


def test_a_text_gets_the_same_vector_in_any_company(model: MiniLM) -> None:
    texts = [*TEXTS, " ".join(TEXTS * 20), "short", "A question about streams and how long they are kept."]
    together = embed(model, *texts)
    alone = np.concatenate([embed(model, text) for text in texts])
    assert np.abs(together - alone).max() < 1e-5


def test_paraphrases_are_closer_than_strangers(model: MiniLM) -> None:
    ask, paraphrase, stranger = embed(
        model,
        "How do I reset my password?",
        "I forgot my login secret, what now?",
        "Bake it for forty minutes.",
    )
    assert ask @ paraphrase > ask @ stranger + 0.2


@pytest.mark.parametrize("limit", [16, 256, 512])
def test_text_beyond_the_limit_is_cut(limit: int) -> None:
    model = MiniLM(model_folder(), max_tokens=limit)
    (tokens,) = model.tokenize(["word " * 3000])
    assert len(tokens) == limit
    fits = "word " * (limit - 2)
    assert np.allclose(embed(model, fits + "zebra " * 50), embed(model, fits), atol=1e-6)


def test_no_text_gives_no_vector(model: MiniLM) -> None:
    assert model.embed([]).shape == (0, DIMENSIONS)


def test_gelu_is_exact_to_float_precision() -> None:
    x = np.linspace(-8, 8, 4001, dtype=np.float32)
    exact = [v * 0.5 * (1 + math.erf(v / math.sqrt(2))) for v in x.astype(float)]
    assert np.abs(_gelu(x) - exact).max() < 1e-6


def test_weights_of_another_type_are_refused(tmp_path) -> None:
    header = b'{"w":{"dtype":"F16","shape":[1],"data_offsets":[0,2]}}'
    file = tmp_path / "w.safetensors"
    file.write_bytes(len(header).to_bytes(8, "little") + header + b"\0\0")
    with pytest.raises(ValueError, match="F16"):
        map_safetensors(file)
