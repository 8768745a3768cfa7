"""Tokens of engines: from a setting or a file, fresh at every call."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from handler_base.config import Secret
from handler_base.errors import UpstreamRejected, UpstreamUnavailable
from pipeline_bridge.engines._token import Token

if TYPE_CHECKING:
    from pathlib import Path


def of_file(file: Path) -> Token:
    return Token("the Argo Server", "ARGO_TOKEN", Secret(), str(file))


def test_no_token_is_no_header() -> None:
    assert Token("the Argo Server", "ARGO_TOKEN", Secret(), "").headers() == {}


def test_a_token_of_the_settings_is_sent() -> None:
    token = Token("the Argo Server", "ARGO_TOKEN", Secret("t1"), "")
    assert token.headers() == {"Authorization": "Bearer t1"}


def test_a_file_is_read_again_when_it_changes(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("t1\n")
    token = of_file(file)
    assert token.headers() == {"Authorization": "Bearer t1"}
    newer = tmp_path / "newer"
    newer.write_text("t2\n")
    newer.replace(file)
    assert token.headers() == {"Authorization": "Bearer t2"}
    assert token.headers() == {"Authorization": "Bearer t2"}


def test_a_file_that_is_a_link_is_followed_to_where_it_leads_now(tmp_path: Path) -> None:
    for name in ("t1", "t2"):
        (tmp_path / name).write_text(name)
    file = tmp_path / "token"
    file.symlink_to("t1")
    token = of_file(file)
    assert token.headers() == {"Authorization": "Bearer t1"}
    file.unlink()
    file.symlink_to("t2")
    assert token.headers() == {"Authorization": "Bearer t2"}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read from {file}: No such file or directory; check ARGO_TOKEN_FILE"),
        (b"\xff\xfe", "cannot be read from {file}: it is not plain text; check ARGO_TOKEN_FILE"),
        (b"a b", "{file} holds no token; check ARGO_TOKEN_FILE"),
        (b"a\r\nInjected: b", "{file} holds no token; check ARGO_TOKEN_FILE"),
    ],
)
def test_a_file_without_a_token_may_have_one_later(tmp_path: Path, content: bytes | None, said: str) -> None:
    file = tmp_path / "token"
    if content is not None:
        file.write_bytes(content)
    token = of_file(file)
    with pytest.raises(UpstreamUnavailable) as caught:
        token.headers()
    assert caught.value.message.endswith(said.format(file=file))
    file.write_text("t1")
    assert token.headers() == {"Authorization": "Bearer t1"}


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (401, "the Argo Server refuses our token (401): it is too old; check ARGO_TOKEN"),
        (403, "the Argo Server does not let us do this (403): it is too old; check ARGO_TOKEN"),
    ],
)
def test_a_refused_token_is_an_error_to_try_again_after(status: int, words: str) -> None:
    token = Token("the Argo Server", "ARGO_TOKEN", Secret("t1"), "")
    error = token.refused(UpstreamRejected("no", endpoint="argo", status=status, said="it is too old"))
    assert error.retryable
    assert error.message == f"{words} and what its account may do"
    assert (error.endpoint, error.status) == ("argo", status)
