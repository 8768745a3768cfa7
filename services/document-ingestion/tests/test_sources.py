import os

import pytest

from document_ingestion.sources import Namer, find, without_password
from handler_base.errors import InvalidRequest, NotFound


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(root, *paths):
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text("text")


def names(source, namer=None, exclude=()):
    return [document.uri for document in find(source, namer or Namer(""), exclude).documents]


def test_a_folder_is_searched_for_what_can_be_read(here):
    write(
        here, "docs/b.md", "docs/a.TXT", "docs/sub/c.html", "docs/d.pdf", "docs/code.py", "docs/picture.png"
    )
    root = find("docs", Namer(""))
    assert root.is_folder
    assert [document.uri for document in root.documents] == [
        "docs/a.TXT",
        "docs/b.md",
        "docs/d.pdf",
        "docs/sub/c.html",
    ]
    assert len({document.document_id for document in root.documents}) == 4


def test_hidden_and_vendored_files_are_left_out(here):
    write(here, "d/.hidden.md", "d/.git/x.md", "d/node_modules/p/README.md", "d/__pycache__/x.txt", "d/a.md")
    assert names("d") == ["d/a.md"]


def test_git_ignored_files_are_left_out_with_all_of_gits_rules(here):
    write(
        here,
        "d/a.md",
        "d/build/x.md",
        "d/keep/build.md",
        "d/sub/secret.md",
        "d/sub/open.md",
        "d/sub/deep/secret.md",
    )
    (here / ".git").mkdir()
    (here / ".gitignore").write_text("build/\nsecret.md\n")
    (here / "d/sub/.gitignore").write_text("!secret.md\n/open.md\n")
    assert names("d") == ["d/a.md", "d/keep/build.md", "d/sub/deep/secret.md", "d/sub/secret.md"]


def test_rules_above_the_repository_do_not_count(here):
    (here / ".gitignore").write_text("*.md\n")
    write(here, "d/a.md")
    assert names("d") == ["d/a.md"]


def test_patterns_of_the_settings_leave_out_more(here):
    write(here, "d/a.md", "d/CHANGELOG.md", "d/old/b.md")
    assert names("d", exclude=("CHANGELOG.md", "/old")) == ["d/a.md"]


def test_links_are_followed_only_inside_the_folder(here):
    write(here, "outside/secret.md", "d/a.md")
    (here / "d/link.md").symlink_to(here / "outside/secret.md")
    (here / "d/inner.md").symlink_to(here / "d/a.md")
    (here / "d/folder").symlink_to(here / "outside")
    assert names("d") == ["d/a.md", "d/inner.md"]


def test_a_file_is_taken_whatever_it_is_called(here):
    write(here, ".hidden/notes.log")
    root = find(".hidden/notes.log", Namer(""))
    assert not root.is_folder
    assert [document.uri for document in root.documents] == [".hidden/notes.log"]


def test_a_document_keeps_its_id_from_wherever_it_is_ingested(here, monkeypatch):
    write(here, "d/a.md")
    first = find("d", Namer("")).documents[0]
    monkeypatch.chdir(here / "d")
    for source in (".", "a.md", "../d", str(here / "d/a.md")):
        (again,) = find(source, Namer("")).documents
        assert again.document_id == first.document_id
    assert find(".", Namer("")).name == find("../d", Namer("")).name


def test_with_a_base_a_moved_checkout_keeps_its_ids(here):
    write(here, "one/docs/a.md", "two/docs/a.md", "else/b.md")
    (one,) = find("one/docs", Namer("one")).documents
    (two,) = find("two/docs", Namer("two")).documents
    assert one.document_id == two.document_id
    assert one.uri == two.uri == "docs/a.md"
    assert find("one/docs", Namer("one")).name == find("two/docs", Namer("two")).name
    assert names("else", Namer("one"))[0].startswith("file:///")


def test_a_page_is_its_url_without_the_fragment():
    (document,) = find("HTTPS://example.org/a?b=c#d", Namer("")).documents
    assert (document.uri, document.path) == ("https://example.org/a?b=c", "")


def test_what_cannot_be_read_is_refused(here):
    with pytest.raises(NotFound, match="no file or folder 'nowhere'"):
        find("nowhere", Namer(""))
    for url in ("http://user:secret@example.org/", "http:///path", "http://[::1", "http://host:port/"):
        with pytest.raises(InvalidRequest, match="cannot be read"):
            find(url, Namer(""))
    os.mkfifo(here / "pipe")
    with pytest.raises(InvalidRequest, match="neither"):
        find("pipe", Namer(""))


def test_the_password_in_a_url_is_not_repeated():
    with pytest.raises(InvalidRequest) as raised:
        find("http://user:secret@example.org/", Namer(""))
    assert "secret" not in raised.value.message
    assert without_password("http://user:secret@example.org/@x") == "http://example.org/@x"
    assert without_password("odd//me@file.md") == "odd//me@file.md"
