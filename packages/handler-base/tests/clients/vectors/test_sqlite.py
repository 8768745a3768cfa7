import asyncio
import os
import subprocess
import sys
import textwrap
import threading

import apsw
import pytest

from handler_base.clients.vectors import Chunk
from handler_base.clients.vectors.sqlite import SqliteVectorStore
from handler_base.errors import (
    ConfigError,
    InvalidRequest,
    NotFound,
    UpstreamProtocol,
    UpstreamUnavailable,
)


def chunk(document_id="a", position=0, vector=(1.0, 0.0), content_hash="h"):
    return Chunk(document_id, position, "text", "title", "uri", "source", content_hash, vector)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "folder" / "knowledge.db"


@pytest.fixture
async def store(path):
    store = SqliteVectorStore(path, busy_timeout=0.2)
    yield store
    await store.aclose()


async def test_reading_before_anything_was_ingested_makes_no_file(store, path):
    with pytest.raises(NotFound, match="nothing has been ingested yet"):
        await store.search("", [1.0, 0.0], 3)
    assert await store.collections() == []
    await store.reachable()
    assert not path.parent.exists()


async def test_readiness_and_construction_do_not_load_sqlite():
    code = """
        import asyncio, sys
        from pathlib import Path
        from handler_base.clients.vectors.sqlite import SqliteVectorStore
        asyncio.run(SqliteVectorStore(Path("none.db")).reachable())
        assert "apsw" not in sys.modules and "sqlite_vec" not in sys.modules
    """
    await asyncio.to_thread(subprocess.run, [sys.executable, "-c", textwrap.dedent(code)], check=True)


async def test_a_search_loads_nothing_but_the_engine(store, path):
    await store.ensure_collection("", 2)
    await store.upsert("", [chunk()])
    code = """
        import asyncio, sys
        from pathlib import Path
        from handler_base.clients.vectors.sqlite import SqliteVectorStore
        async def main():
            store = SqliteVectorStore(Path(sys.argv[1]))
            assert len(await store.search("", [1.0, 0.0], 3)) == 1
            await store.aclose()
        asyncio.run(main())
        assert "apsw" in sys.modules and not {"numpy", "sqlite3", "sqlite_vec"} & set(sys.modules)
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(path)]
    plain = {k: v for k, v in os.environ.items() if not k.startswith("COV")}  # coverage itself loads sqlite3
    await asyncio.to_thread(subprocess.run, command, env=plain, check=True)


async def test_what_was_stored_is_there_after_a_restart(store, path):
    await store.ensure_collection("", 2)
    await store.upsert("", [chunk()])
    await store.aclose()

    again = SqliteVectorStore(path)
    assert [passage.document_id for passage in await again.search("", [1.0, 0.0], 3)] == ["a"]
    await again.aclose()


async def test_other_processes_read_while_one_writes(store, path):
    await store.ensure_collection("", 2)
    await store.upsert("", [chunk()])
    code = """
        import asyncio, sys
        from pathlib import Path
        from handler_base.clients.vectors.sqlite import SqliteVectorStore
        async def main():
            store = SqliteVectorStore(Path(sys.argv[1]))
            while True:
                found = len(await store.search("", [1.0, 0.0], 100))
                print(found, flush=True)
                if found == 31:
                    break
            await store.aclose()
        asyncio.run(main())
    """
    readers = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", textwrap.dedent(code), str(path), stdout=asyncio.subprocess.PIPE
        )
        for _ in range(2)
    ]
    firsts = [await reader.stdout.readline() for reader in readers]
    for number in range(30):
        await store.upsert("", [chunk(f"d{number}")])
    async with asyncio.timeout(30):
        rests = [(await reader.communicate())[0] for reader in readers]

    assert firsts == [b"1\n", b"1\n"]
    for rest in rests:
        counts = [int(line) for line in rest.split()]
        assert counts == sorted(counts)
        assert counts[-1] == 31
    assert [reader.returncode for reader in readers] == [0, 0]


async def test_a_writer_that_holds_the_file_too_long_makes_writes_busy_but_not_reads(store, path):
    await store.ensure_collection("", 2)
    await store.upsert("", [chunk()])
    other = apsw.Connection(str(path))
    other.execute("BEGIN IMMEDIATE")

    with pytest.raises(UpstreamUnavailable, match="busy") as raised:
        await store.upsert("", [chunk("b")])
    assert raised.value.retryable
    assert len(await store.search("", [1.0, 0.0], 3)) == 1

    other.execute("ROLLBACK")
    await store.upsert("", [chunk("b")])
    other.close()


async def test_two_processes_may_make_the_same_collection_at_once(path):
    stores = [SqliteVectorStore(path) for _ in range(4)]
    await asyncio.gather(*(store.ensure_collection("", 2) for store in stores))
    await asyncio.gather(*(store.upsert("", [chunk(str(n))]) for n, store in enumerate(stores)))
    assert set(await stores[0].documents("")) == {"0", "1", "2", "3"}
    for store in stores:
        await store.aclose()


async def test_a_document_is_stored_whole_or_not_at_all(store):
    await store.ensure_collection("", 2)
    await store.upsert("", [chunk(), chunk(position=1)])
    broken = [chunk(content_hash="h2"), chunk(content_hash="h2", position=0)]

    with pytest.raises(UpstreamUnavailable, match="cannot be used"):
        await store.upsert("", broken)

    assert (await store.documents(""))["a"].content_hash == "h"
    assert len(await store.search("", [1.0, 0.0], 9)) == 2


async def test_a_file_put_in_its_place_is_read_instead(store, path, tmp_path):
    ingestion = SqliteVectorStore(path)
    await ingestion.ensure_collection("", 2)
    assert await store.documents("") == {}
    await ingestion.upsert("", [chunk("old")])
    await ingestion.aclose()
    assert set(await store.documents("")) == {"old"}
    fresh = SqliteVectorStore(tmp_path / "fresh.db")
    await fresh.ensure_collection("", 2)
    await fresh.upsert("", [chunk("new")])
    await fresh.aclose()

    (tmp_path / "fresh.db").replace(path)
    assert set(await store.documents("")) == {"new"}

    path.unlink()
    with pytest.raises(NotFound):
        await store.documents("")
    await store.ensure_collection("", 2)
    assert await store.documents("") == {}


async def test_what_is_not_a_knowledge_base_is_left_alone(store, path):
    path.parent.mkdir()
    path.write_text("dear diary" * 100)
    with pytest.raises(UpstreamProtocol, match="not a SQLite file"):
        await store.reachable()
    with pytest.raises(UpstreamProtocol, match="not a knowledge base"):
        await store.collections()
    with pytest.raises(UpstreamProtocol, match="not a knowledge base"):
        await store.ensure_collection("", 2)
    assert path.read_text() == "dear diary" * 100


async def test_the_database_of_another_program_is_left_alone(store, path):
    path.parent.mkdir()
    other = apsw.Connection(str(path))
    other.execute("CREATE TABLE bookmarks (url)")
    other.close()
    await store.reachable()
    with pytest.raises(UpstreamProtocol, match="another program"):
        await store.ensure_collection("", 2)


async def test_a_file_of_a_later_format_is_refused(store, path):
    await store.ensure_collection("", 2)
    await store.aclose()
    other = apsw.Connection(str(path))
    other.execute("PRAGMA user_version = 99")
    other.close()
    with pytest.raises(UpstreamProtocol, match="another version"):
        await store.collections()


async def test_an_empty_file_counts_as_nothing_ingested(store, path):
    path.parent.mkdir()
    path.touch()
    await store.reachable()
    with pytest.raises(NotFound):
        await store.documents("")
    await store.ensure_collection("", 2)
    assert await store.collections() == ["documents"]


async def test_a_path_that_cannot_be_opened_is_an_error_of_the_store(tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path / "file" / "kb.db", tmp_path):
        store = SqliteVectorStore(path)
        with pytest.raises(UpstreamUnavailable):
            await store.ensure_collection("", 2)
        with pytest.raises(UpstreamUnavailable):
            await store.reachable()
        await store.aclose()


async def test_a_read_only_mount_can_be_searched(store, path, monkeypatch):
    await store.ensure_collection("", 2)
    await store.upsert("", [chunk()])
    await store.aclose()
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    path.chmod(0o444)
    path.parent.chmod(0o555)
    # Root may write whatever the mode says, so the mount is told by what `access` answers.
    monkeypatch.setattr(os, "access", lambda *_: False)

    reader = SqliteVectorStore(path)
    assert len(await reader.search("", [1.0, 0.0], 3)) == 1
    with pytest.raises(UpstreamUnavailable, match="cannot be used"):
        await reader.upsert("", [chunk("b")])
    await reader.aclose()
    path.parent.chmod(0o755)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


async def test_a_vector_without_direction_resembles_nothing(store):
    await store.ensure_collection("", 2)
    await store.upsert("", [chunk("zero", vector=(0.0, 0.0)), chunk("one")])
    assert [passage.document_id for passage in await store.search("", [1.0, 0.0], 9)] == ["one"]
    assert await store.search("", [0.0, 0.0], 9) == []


@pytest.mark.parametrize("dimension", [0, -1, 100_000])
async def test_dimensions_that_cannot_be_are_refused(store, dimension):
    with pytest.raises(InvalidRequest, match="dimensions"):
        await store.ensure_collection("", dimension)


@pytest.mark.parametrize("missing", ["apsw", "sqlite_vec"])
async def test_a_missing_library_says_what_to_install(path, monkeypatch, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    store = SqliteVectorStore(path)
    with pytest.raises(ConfigError, match=r"handler-base\[sqlite\]"):
        await store.ensure_collection("", 2)
    monkeypatch.undo()
    await store.aclose()


async def test_the_loop_goes_on_while_the_disk_is_slow(store, path):
    await store.ensure_collection("", 2)
    other = apsw.Connection(str(path))
    other.execute("BEGIN IMMEDIATE")
    write = asyncio.create_task(store.upsert("", [chunk()]))
    for _ in range(3):
        await asyncio.to_thread(lambda: None)
    assert not write.done()
    other.execute("ROLLBACK")
    other.close()
    await write


async def test_a_cancelled_call_leaves_the_store_whole(store):
    await store.ensure_collection("", 2)
    gate = threading.Event()
    blocked = asyncio.create_task(store._run(gate.wait))
    write = asyncio.create_task(store.upsert("", [chunk()]))
    await asyncio.sleep(0)
    write.cancel()
    with pytest.raises(asyncio.CancelledError):
        await write
    gate.set()
    await blocked

    await store.upsert("", [chunk("b")])
    assert "b" in await store.documents("")


async def test_closing_twice_or_before_use_is_fine(path):
    store = SqliteVectorStore(path)
    await store.aclose()
    await store.ensure_collection("", 2)
    await store.aclose()
    await store.aclose()
    assert await store.collections() == ["documents"]
    await store.aclose()
