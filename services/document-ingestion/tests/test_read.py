import pytest

from document_ingestion.read import kind_of, parse
from handler_base.errors import InvalidRequest


@pytest.mark.parametrize(
    ("uri", "content_type", "kind"),
    [
        ("docs/a.md", "", "markdown"),
        ("a.HTML", "", "html"),
        ("a.pdf", "", "pdf"),
        ("notes", "", "text"),
        ("https://x/page", "text/html; charset=utf-8", "html"),
        ("https://x/a.md", "text/plain", "markdown"),
        ("https://x/a.pdf?download=1", "application/octet-stream", "pdf"),
        ("https://x/a.md", "text/html", "html"),
    ],
)
def test_the_kind_is_told_by_the_type_then_by_the_suffix(uri, content_type, kind):
    assert kind_of(uri, content_type) == kind


def test_other_kinds_are_refused():
    with pytest.raises(InvalidRequest, match="image/png"):
        kind_of("https://x/picture", "image/png")


def words(content, kind="text", charset=""):
    parsed = parse(content, kind, charset)
    return " ".join(block.text() for section in parsed.sections for block in section.blocks)


def test_text_is_utf_8_unless_it_says_otherwise():
    assert words("Zoë".encode()) == "Zoë"
    assert words("Zoë".encode("utf-8-sig")) == "Zoë"
    assert words("Zoë".encode("utf-16")) == "Zoë"
    assert words("Zoë".encode("latin-1"), charset="latin-1") == "Zoë"
    assert words(b"a\r\n\r\nb\rc") == "a b c"


@pytest.mark.parametrize(
    ("content", "charset", "reason"),
    [
        (b"\xff\xfe\x00", "", "is not"),
        (b"caf\xe9", "", "UTF-8"),
        (b"x", "no-such", "NO-SUCH"),
        (b"a\0b", "", "zero bytes"),
    ],
)
def test_bytes_that_are_no_text_are_refused(content, charset, reason):
    with pytest.raises(InvalidRequest, match=reason):
        parse(content, "text", charset)
