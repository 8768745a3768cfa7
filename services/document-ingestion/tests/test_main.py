import asyncio
import json
import os
import signal
import sys

import pytest

from document_ingestion.__main__ import _Line
from document_ingestion.report import Progress


@pytest.fixture
def folder(tmp_path):
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "a.md").write_text("# Alpha\n\nFirst text.")
    return docs


async def run(tmp_path, *arguments, **environ):
    process = await start(tmp_path, *arguments, **environ)
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


async def start(tmp_path, *arguments, **environ):
    own = {
        k: v for k, v in os.environ.items() if not k.startswith(("MILVUS", "VECTOR", "INGEST", "EMBEDDINGS"))
    }
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "document_ingestion",
        *arguments,
        cwd=tmp_path,
        env=own | {"SQLITE_PATH": str(tmp_path / "kb.db"), "HTTP_RETRIES": "0"} | environ,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def test_a_run_reports_what_it_did_and_is_quiet_without_a_terminal(tmp_path, folder, embeddings):
    code, out, err = await run(tmp_path, "docs", EMBEDDINGS_URL=embeddings.url)
    assert (code, err) == (0, "")
    assert out.startswith(
        "documents: 1 added, 0 changed, 0 unchanged, 0 removed, 0 empty, 0 failed; 1 chunks in "
    )


async def test_the_report_can_be_json_and_the_collection_another(tmp_path, folder, embeddings):
    arguments = ("docs", "--json", "--collection", "other", "--base", str(tmp_path))
    code, out, _ = await run(tmp_path, *arguments, EMBEDDINGS_URL=embeddings.url)
    assert code == 0
    report = json.loads(out)
    assert (report["collection"], report["added"], report["failed"]) == ("other", 1, [])


async def test_a_failed_document_makes_the_exit_code_1(tmp_path, folder, embeddings):
    (folder / "bad.md").write_bytes(b"\xff\xff")
    code, out, _ = await run(tmp_path, "docs", EMBEDDINGS_URL=embeddings.url)
    assert code == 1
    reason, summary = out.splitlines()
    assert reason.startswith("failed: docs/bad.md: is not UTF-8 text: ")
    assert "1 added" in summary
    assert f"1 failed ({reason.removeprefix('failed: ')}); 1 chunks" in summary


@pytest.mark.parametrize(
    ("arguments", "environ", "says"),
    [
        (["docs"], {"EMBEDDINGS_URL": "http://127.0.0.1:9"}, "embeddings at 127.0.0.1:9"),
        (["docs"], {"CHUNK_SIZE": "huge", "INGEST_BATCH": "0"}, "INGEST_BATCH"),
        (["docs", "--collection", "a b"], {}, "'a b' cannot be used"),
        (["docs"], {"VECTOR_STORE": "milvus"}, "MILVUS_HOST must be set"),
    ],
)
async def test_what_makes_it_impossible_is_said_in_a_line_and_the_exit_code_is_2(
    tmp_path, folder, arguments, environ, says
):
    code, out, err = await run(tmp_path, *arguments, **environ)
    assert (code, out) == (2, "")
    assert says in err
    assert err.startswith("document-ingestion: ")
    assert len(err.splitlines()) == 1


async def test_a_dry_run_says_what_would_be_done(tmp_path, folder):
    code, out, _ = await run(tmp_path, "docs", "--dry-run", EMBEDDINGS_URL="http://127.0.0.1:9")
    assert code == 0
    assert "1 would have been added" in out


async def test_help_lists_every_setting(tmp_path):
    code, out, _ = await run(tmp_path, "--help")
    assert code == 0
    for name in (
        "CHUNK_SIZE",
        "EMBEDDINGS_URL",
        "MILVUS_TOKEN",
        "SQLITE_PATH",
        "COLLECTION_NAME",
        "INGEST_EXCLUDE",
    ):
        assert name in out


async def test_interrupting_it_says_that_the_next_run_goes_on(tmp_path, folder, embeddings):
    asked = asyncio.Event()

    async def stalls(exchange, texts):
        asked.set()
        await exchange.stall()
        return True

    embeddings.script = stalls
    process = await start(tmp_path, "docs", EMBEDDINGS_URL=embeddings.url)
    async with asyncio.timeout(60):
        await asked.wait()
        process.send_signal(signal.SIGINT)
        _, err = await process.communicate()
    assert process.returncode == 130
    assert b"the next run goes on" in err


async def test_progress_is_told_in_lines_where_that_is_wanted(tmp_path, folder, embeddings):
    code, out, err = await run(tmp_path, "docs", "--progress", EMBEDDINGS_URL=embeddings.url)
    assert code == 0
    assert out.startswith("documents: 1 added")
    assert err == "1/1 docs/a.md\n"


def test_progress_is_one_line_on_a_terminal(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    line = _Line(plain=True)
    line.show(Progress(1, 2, "docs/a.md"))
    line.clear()
    assert capsys.readouterr().err == "\r\x1b[K1/2 docs/a.md\r\x1b[K"


def test_lines_of_progress_are_at_most_one_a_second(monkeypatch, capsys):
    now = 100.0
    monkeypatch.setattr("document_ingestion.__main__.time.monotonic", lambda: now)
    line = _Line(plain=True)
    for number in range(1, 6):
        line.show(Progress(number, 9, f"docs/{number}.md"))
        now += 0.4
    line.clear()
    assert capsys.readouterr().err == "1/9 docs/1.md\n4/9 docs/4.md\n"
