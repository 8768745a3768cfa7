import io

import pypdf
import pytest

from document_ingestion.pdf import parse_pdf
from handler_base.errors import InvalidRequest


def test_each_page_is_a_section_and_hyphens_at_line_ends_go(pdf):
    parsed = parse_pdf(pdf("The quick brown fox jum-\nped over. It was late.", "Second page.", title="Foxes"))
    assert parsed.title == "Foxes"
    assert [(section.headings, section.blocks[0].text()) for section in parsed.sections] == [
        (("page 1",), "The quick brown fox jumped over. It was late."),
        (("page 2",), "Second page."),
    ]


def test_one_page_needs_no_number(pdf):
    (section,) = parse_pdf(pdf("Alone.")).sections
    assert section.headings == ()


def test_a_file_locked_by_a_password_says_so(pdf):
    writer = pypdf.PdfWriter(clone_from=io.BytesIO(pdf("secret")))
    writer.encrypt("password", algorithm="RC4-128")
    locked = io.BytesIO()
    writer.write(locked)
    with pytest.raises(InvalidRequest, match="locked by a password"):
        parse_pdf(locked.getvalue())


def test_a_file_without_text_says_so(pdf):
    with pytest.raises(InvalidRequest, match="pages may be pictures"):
        parse_pdf(pdf(""))


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: b"",
        lambda whole: b"not a PDF at all",
        lambda whole: whole[:40],
        lambda whole: whole[: len(whole) // 2],
        lambda whole: whole.replace(b"/Type /Pages", b"/Type /Nonsense").replace(b"/Kids", b"/None"),
        lambda whole: whole.replace(b"2 0 R", b"1 0 R"),
        lambda whole: b"%PDF-1.4\n" + b"\xff\x00" * 500,
    ],
)
def test_a_damaged_file_is_refused_with_a_reason(pdf, damage):
    with pytest.raises(InvalidRequest, match=r"PDF|pictures"):
        parse_pdf(damage(pdf("Some text.", "More text.")))
