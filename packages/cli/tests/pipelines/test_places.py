import pytest

from handlers_cli.pipelines.places import absolute_places


@pytest.fixture
def here(tmp_path, monkeypatch):
    (tmp_path / "docs").mkdir()
    (tmp_path / "a.md").write_text("a")
    (tmp_path / "link").symlink_to(tmp_path / "docs")
    inside = tmp_path / "inside"
    inside.mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    ("name", "value", "path"),
    [
        ("source-url", "docs", "docs"),
        ("source-url", "./docs/", "docs"),
        ("source-url", "inside/../a.md", "a.md"),
        ("source-url", "link", "link"),
        ("source-url", "~/docs", "docs"),
        ("output-folder", "docs", "docs"),
        ("path", "a.md", "a.md"),
        ("anything", "./a.md", "a.md"),
        ("anything", ".", ""),
    ],
)
def test_what_names_a_file_or_folder_here_is_named_from_the_root(here, name, value, path) -> None:
    assert absolute_places({name: value, "other": "x"}) == {name: str(here / path)}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("source-url", "https://example.org/docs"),
        ("source-url", "nothing-here"),
        ("source-url", "./nothing-here"),
        ("source-url", "/usr"),
        ("source-url", ""),
        ("source-url", "x" * 5000),
        ("source-url", "a\0b"),
        ("collection", "docs"),
        ("query", "docs"),
        ("source-url", "~nobody-of-this-name"),
    ],
)
def test_everything_else_stays_as_it_was_said(here, name, value) -> None:
    assert absolute_places({name: value}) == {}
