"""llama.cpp's own server on a model of half a megabyte: a real LLM endpoint without any download.

`write_gguf` makes a Llama with random weights over a vocabulary of the 256 bytes, so what it says is noise, split
UTF-8 included. llama.cpp takes a `grammar` (GBNF) in the request; with one the noise becomes a known text:

    {"messages": [...], "grammar": 'root ::= "Hello, w\u00f6rld!"'}

Needs the extra `handler-testkit[llama]`.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Generator

_LISTENING = "listening on "


def write_gguf(
    path: Path, *, layers: int = 2, width: int = 64, heads: int = 4, context: int = 4096, seed: int = 7
) -> Path:
    """Write a Llama with random weights and a byte vocabulary; the defaults make a file of 0.5 MB.

    Args:
        path: Where to write it.
        layers: Number of transformer blocks.
        width: Size of the embedding; the feed-forward layer is twice as wide.
        heads: Attention heads; `width` must be a multiple of it.
        context: Longest context the model claims to support, in tokens.
        seed: Of the random weights.

    Returns:
        `path`.

    Source: the GGUF specification of ggml, as implemented by the `gguf` package.
    """
    import gguf
    import numpy as np

    random = np.random.default_rng(seed)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_context_length(context)
    writer.add_embedding_length(width)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(2 * width)
    writer.add_head_count(heads)
    writer.add_head_count_kv(heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(width // heads)

    tokens = [b"<unk>", b"<s>", b"</s>", *(f"<0x{byte:02X}>".encode() for byte in range(256))]
    types = [gguf.TokenType.UNKNOWN, *[gguf.TokenType.CONTROL] * 2, *[gguf.TokenType.BYTE] * 256]
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * len(tokens))
    writer.add_token_types(types)
    writer.add_add_space_prefix(value=False)
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)

    shapes: dict[str, tuple[int, ...]] = {"token_embd": (len(tokens), width), "output": (len(tokens), width)}
    for block in range(layers):
        shapes |= {f"blk.{block}.attn_{part}": (width, width) for part in ("q", "k", "v", "output")}
        shapes |= {f"blk.{block}.ffn_{part}": (2 * width, width) for part in ("gate", "up")}
        shapes[f"blk.{block}.ffn_down"] = (width, 2 * width)
        shapes |= {f"blk.{block}.{part}_norm": (width,) for part in ("attn", "ffn")}
    shapes["output_norm"] = (width,)
    for name, shape in shapes.items():
        weights = np.ones(shape) if name.endswith("_norm") else random.standard_normal(shape) * 0.2
        writer.add_tensor(f"{name}.weight", weights.astype(np.float32))

    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


class LlamaServer:
    """A running llama.cpp server.

    Attributes:
        url: Its base; the routes are `{url}/v1/chat/completions`, `{url}/v1/models`, `{url}/health`, `{url}/slots`.
        model: The GGUF file it serves.
        pid: Its process.
    """

    def __init__(self, url: str, model: Path, pid: int) -> None:
        self.url = url
        self.model = model
        self.pid = pid


@contextlib.contextmanager
def llama_server(
    model: Path | None = None, *, context: int = 8192, parallel: int = 4
) -> Generator[LlamaServer]:
    """Run llama.cpp's server in a process of its own, on a free port of 127.0.0.1, for a `with` block.

    Args:
        model: A GGUF file, or None for the tiny random one.
        context: Tokens of context, shared by the slots.
        parallel: Slots: requests served at the same time.

    Raises:
        RuntimeError: If it does not start; the message holds its log.
    """
    with tempfile.TemporaryDirectory(prefix="llama-") as scratch:
        model = model or write_gguf(Path(scratch) / "tiny.gguf", context=context)
        log = Path(scratch) / "server.log"
        command = [sys.executable, "-m", __name__, str(model)]
        command += ["--context", str(context), "--parallel", str(parallel)]
        with (
            log.open("wb") as errors,
            subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
            ) as process,
        ):
            try:
                yield LlamaServer(_address(process, log), model, process.pid)
            finally:
                process.kill()


def _address(process: subprocess.Popen[str], log: Path) -> str:
    assert process.stdout is not None
    # The address is the only thing it says there; at its end, or ours, the pipe closes.
    line = process.stdout.readline()
    if not line.startswith(_LISTENING):
        raise RuntimeError(f"llama.cpp did not start:\n{log.read_text(errors='replace')}")
    return line.removeprefix(_LISTENING).strip()


def _serve() -> None:
    parser = argparse.ArgumentParser(
        prog="handler_testkit.gguf", description="Serve a GGUF file until stdin closes."
    )
    parser.add_argument("model")
    parser.add_argument("--context", type=int, default=8192)
    parser.add_argument("--parallel", type=int, default=4)
    arguments = parser.parse_args()

    xllamacpp: Any = importlib.import_module("xllamacpp")

    parameters = xllamacpp.CommonParams()
    parameters.model.path = arguments.model
    parameters.n_ctx = arguments.context
    parameters.n_parallel = arguments.parallel
    parameters.cpuparams.n_threads = 1
    parameters.endpoint_slots = True
    parameters.ui = False
    server = xllamacpp.Server(parameters)
    print(_LISTENING + server.listening_address, flush=True)  # noqa: T201
    # Ends when the process that started us is gone, however it went.
    sys.stdin.read()


if __name__ == "__main__":
    _serve()
