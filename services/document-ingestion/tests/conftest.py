"""Documents and endpoints that several tests need."""

import hashlib
import math

import pytest

from handler_testkit.endpoints import HttpEndpoint


def _pdf(*pages: str, title: str = "") -> bytes:
    """Write a PDF file by hand: one line of text per line of each page."""
    objects = ["<< /Type /Catalog /Pages 2 0 R >>", ""]
    font = "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"
    kids = []
    for text in pages:
        drawn = " T* ".join(f"({line}) Tj" for line in text.split("\n"))
        content = f"BT /F1 12 Tf 14 TL 72 720 Td {drawn} ET"
        objects.append(f"<< /Length {len(content)} >>\nstream\n{content}\nendstream")
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents {len(objects)} 0 R "
            f"/Resources << /Font << /F1 {font} >> >> >>"
        )
        kids.append(f"{len(objects)} 0 R")
    objects[1] = f"<< /Type /Pages /Kids [{' '.join(kids)}] /Count {len(kids)} >>"
    objects.append(f"<< /Title ({title}) >>")
    out = b"%PDF-1.4\n"
    offsets = []
    for number, body in enumerate(objects, 1):
        offsets.append(len(out))
        out += f"{number} 0 obj\n{body}\nendobj\n".encode()
    table = "".join(f"{offset:010d} 00000 n \n" for offset in offsets)
    out += (
        f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{table}"
        f"trailer\n<< /Size {len(objects) + 1} /Root 1 0 R /Info {len(objects)} 0 R >>\n"
        f"startxref\n{len(out)}\n%%EOF\n"
    ).encode()
    return out


@pytest.fixture
def pdf():
    """Return a function that writes a PDF file."""
    return _pdf


def _vector(text: str, dimension: int) -> list[float]:
    """Embed a text by hashing its words: the same words give the same direction."""
    vector = [0.0] * dimension
    for word in text.lower().split():
        vector[int.from_bytes(hashlib.md5(word.encode()).digest()[:4]) % dimension] += 1.0
    length = math.hypot(*vector) or 1.0
    return [value / length for value in vector]


class EmbeddingsEndpoint:
    """`/v1/embeddings` by hashing words.

    Attributes:
        batches: The texts of each request so far.
        script: Plays instead when it returns True.
        most: Most requests at once so far.
    """

    def __init__(self, dimension: int = 64) -> None:
        self.dimension = dimension
        self.batches: list[list[str]] = []
        self.script = None
        self.at_once = self.most = 0
        self.http = HttpEndpoint(self._serve)

    @property
    def url(self) -> str:
        return self.http.url

    @property
    def texts(self) -> list[str]:
        return [text for batch in self.batches for text in batch]

    async def _serve(self, exchange) -> None:
        if exchange.request.path == "/v1/models":
            await exchange.json({"data": [{"id": "hash"}]})
            return
        texts = exchange.request.json()["input"]
        self.batches.append(texts)
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        try:
            if self.script is not None and await self.script(exchange, texts):
                return
            data = [{"index": i, "embedding": _vector(t, self.dimension)} for i, t in enumerate(texts)]
            await exchange.json({"data": data})
        finally:
            self.at_once -= 1


@pytest.fixture
async def embeddings():
    """An embeddings endpoint that hashes words."""
    endpoint = EmbeddingsEndpoint()
    async with endpoint.http:
        yield endpoint
