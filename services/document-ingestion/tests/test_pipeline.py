"""The ingestion against the real SQLite store (and Milvus) and an embeddings endpoint that hashes words."""

import asyncio
import uuid

import msgspec
import pytest

from document_ingestion.config import ChunkSettings, IngestionSettings
from document_ingestion.pipeline import ingest
from handler_base.clients.embeddings import EmbeddingsSettings
from handler_base.clients.vectors import VectorSettings, open_vector_store
from handler_base.config import Secret
from handler_base.errors import InvalidRequest, UpstreamError, UpstreamRejected, UpstreamUnavailable
from handler_base.http import HttpPool, HttpSettings
from handler_testkit.endpoints import HttpEndpoint, routed


@pytest.fixture
def docs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "cats.md").write_text("# Cats\n\nCats purr when they are content.\n")
    (folder / "dogs.md").write_text(
        "# Dogs\n\nDogs bark at the moon.\n\n## Puppies\n\nPuppies sleep a lot.\n"
    )
    (folder / "fish.txt").write_text("Fish swim in the sea.")
    return folder


@pytest.fixture
def settings(tmp_path, embeddings, docs):
    return configured(embeddings, VectorSettings(sqlite_path=str(tmp_path / "kb.db")))


def configured(embeddings, vectors, **changes):
    return IngestionSettings(
        http=HttpSettings(retries=0),
        embeddings=EmbeddingsSettings(url=embeddings.url, model="hash"),
        vectors=vectors,
        **changes,
    )


def configured_like(settings, **changes):
    return msgspec.structs.replace(settings, **changes)


class Store:
    """Looks into the store that an ingestion wrote."""

    def __init__(self, settings):
        self.settings = settings

    async def __aenter__(self):
        self.pool = HttpPool(self.settings.http)
        self.store = open_vector_store(self.settings.vectors, self.pool)
        return self.store

    async def __aexit__(self, *_):
        await self.store.aclose()
        await self.pool.aclose()


async def stored(settings):
    async with Store(settings) as store:
        return {document.uri: document for document in (await store.documents("")).values()}


async def passages(settings, dimension=64):
    async with Store(settings) as store:
        return await store.search("", [1.0] * dimension, 1000)


def counts(report):
    return (report.added, report.changed, report.unchanged, report.removed, len(report.failed))


async def test_a_folder_is_stored_and_a_second_run_changes_nothing(settings, docs, embeddings):
    report = await ingest(["docs"], settings)
    assert counts(report) == (3, 0, 0, 0, 0)
    assert report.chunks == 4
    found = {(p.uri, p.title, p.text) for p in await passages(settings)}
    assert ("docs/dogs.md", "Dogs > Puppies", "Puppies sleep a lot.") in found
    assert ("docs/fish.txt", "fish", "Fish swim in the sea.") in found
    assert "Dogs > Puppies\nPuppies sleep a lot." in embeddings.texts

    embeddings.batches.clear()
    again = await ingest(["docs"], settings)
    assert counts(again) == (0, 0, 3, 0, 0)
    assert again.chunks == 0
    assert embeddings.batches == []


async def test_changed_files_replace_their_chunks_and_gone_files_go(settings, docs):
    await ingest(["docs"], settings)
    (docs / "cats.md").write_text("# Cats\n\nCats hunt mice.\n")
    (docs / "dogs.md").unlink()
    (docs / "birds.md").write_text("Birds sing.")

    report = await ingest(["docs"], settings)

    assert counts(report) == (1, 1, 1, 1, 0)
    assert sorted(p.text for p in await passages(settings)) == [
        "Birds sing.",
        "Cats hunt mice.",
        "Fish swim in the sea.",
    ]


async def test_only_what_came_from_a_folder_is_removed_with_it(settings, docs, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "a.md").write_text("Alpha.")
    await ingest(["docs", "other"], settings)
    (docs / "cats.md").unlink()
    (other / "a.md").unlink()

    assert counts(await ingest(["docs"], settings)) == (0, 0, 2, 1, 0)
    assert set(await stored(settings)) == {"docs/dogs.md", "docs/fish.txt", "other/a.md"}
    assert counts(await ingest(["other"], settings)) == (0, 0, 0, 1, 0)


async def test_a_file_ingested_alone_still_belongs_to_its_folder(settings, docs):
    await ingest(["docs"], settings)
    (docs / "cats.md").write_text("New cats.")
    assert counts(await ingest(["docs/cats.md"], settings)) == (0, 1, 0, 0, 0)
    (docs / "cats.md").unlink()
    assert counts(await ingest(["docs"], settings)) == (0, 0, 2, 1, 0)


async def test_a_file_given_twice_is_stored_once(settings, docs):
    assert counts(await ingest(["docs", "docs/cats.md", str(docs)], settings)) == (3, 0, 0, 0, 0)


async def test_other_chunk_sizes_or_another_model_make_every_document_new(settings, docs, embeddings):
    await ingest(["docs"], settings)
    for changed in (
        configured(embeddings, settings.vectors, chunks=ChunkSettings(size=80)),
        configured(embeddings, settings.vectors, chunks=ChunkSettings(size=80, unit="tokens")),
    ):
        assert counts(await ingest(["docs"], changed)) == (0, 3, 0, 0, 0)


async def test_broken_files_are_reported_and_what_was_stored_of_them_stays(settings, docs, pdf):
    (docs / "paper.pdf").write_bytes(pdf("Paper text."))
    await ingest(["docs"], settings)
    (docs / "paper.pdf").write_bytes(b"%PDF-1.4 broken")
    (docs / "cats.md").write_bytes(b"caf\xe9 \xff")
    (docs / "big.txt").write_bytes(b"x" * 5000)
    limited = configured_like(settings, max_bytes=4000)

    report = await ingest(["docs", "nowhere", "http://user:pw@host/"], limited)

    assert counts(report) == (0, 0, 2, 0, 5)
    reasons = {failure.uri: failure.reason for failure in report.failed}
    assert "cannot be read as PDF" in reasons["docs/paper.pdf"]
    assert "is not UTF-8 text" in reasons["docs/cats.md"]
    assert "larger than INGEST_MAX_BYTES" in reasons["docs/big.txt"]
    assert "no file or folder" in reasons["nowhere"]
    assert "pw" not in str(report.failed)
    assert set(await stored(settings)) == {"docs/cats.md", "docs/dogs.md", "docs/fish.txt", "docs/paper.pdf"}


async def test_a_file_that_lost_its_text_is_empty_and_goes(settings, docs):
    await ingest(["docs"], settings)
    (docs / "cats.md").write_text("# Only a heading\n")
    (docs / "empty.txt").write_text("")
    report = await ingest(["docs"], settings)
    assert (report.empty, report.removed, len(report.failed)) == (2, 1, 0)
    assert "docs/cats.md" not in await stored(settings)


async def test_an_unreadable_file_is_reported(settings, docs, monkeypatch):
    monkeypatch.setattr("document_ingestion.pipeline._read_file", denied)
    report = await ingest(["docs"], settings)
    assert {failure.reason for failure in report.failed} == {"cannot be read: Permission denied"}
    assert (report.added, report.chunks) == (0, 0)


def denied(*_):
    raise PermissionError(13, "Permission denied")


async def test_chunks_are_embedded_in_batches_a_few_at_a_time(settings, docs, embeddings):
    for number in range(40):
        (docs / f"n{number:02d}.md").write_text(f"Number {number}.")
    both = asyncio.Event()

    async def together(exchange, texts):
        if len(embeddings.batches) > 1:  # the first one makes the collection
            if embeddings.at_once == 2:
                both.set()
            await asyncio.wait_for(both.wait(), 10)
        return False

    embeddings.script = together
    report = await ingest(["docs"], configured_like(settings, batch=8, concurrency=2))
    assert report.added == 43
    assert embeddings.most == 2
    assert all(len(batch) <= 8 for batch in embeddings.batches)
    assert len(embeddings.batches) <= 44 / 8 + 2


async def test_one_long_document_is_embedded_in_batches_too(settings, docs, embeddings):
    (docs / "long.txt").write_text(
        "\n\n".join(f"Paragraph {n} has quite some words in it." for n in range(200))
    )
    report = await ingest(
        ["docs/long.txt"], configured_like(settings, batch=4, chunks=ChunkSettings(size=100))
    )
    assert report.added == 1
    assert report.chunks > 50
    assert all(len(batch) <= 4 for batch in embeddings.batches)


async def test_a_dry_run_writes_nothing_and_needs_no_embeddings(settings, docs, embeddings):
    report = await ingest(["docs"], settings, dry_run=True)
    assert counts(report) == (3, 0, 0, 0, 0)
    assert report.chunks == 4
    assert report.dry_run
    assert embeddings.batches == []
    await ingest(["docs"], settings)
    (docs / "cats.md").unlink()
    assert (await ingest(["docs"], settings, dry_run=True)).removed == 1
    assert len(await stored(settings)) == 3


async def test_progress_counts_every_document(settings, docs):
    (docs / "bad.md").write_bytes(b"\xff")
    seen = []
    await ingest(["docs"], settings, progress=seen.append)
    assert [step.done for step in seen] == [1, 2, 3, 4]
    assert {step.total for step in seen} == {4}
    assert {step.uri for step in seen} == {"docs/bad.md", "docs/cats.md", "docs/dogs.md", "docs/fish.txt"}


async def test_without_embeddings_the_ingestion_fails_at_once(settings, docs, embeddings):
    await embeddings.http.stop()
    with pytest.raises(UpstreamUnavailable, match="embeddings"):
        await ingest(["docs"], settings)


async def test_embeddings_that_die_midway_fail_the_rest_without_asking_on(settings, docs, embeddings):
    for number in range(30):
        (docs / f"n{number:02d}.md").write_text(f"Number {number}.")

    async def dies(exchange, texts):
        if len(embeddings.batches) > 2:
            await exchange.json({"error": {"message": "out of memory"}}, status=503)
            return True
        return False

    embeddings.script = dies
    report = await ingest(["docs"], configured_like(settings, batch=4, concurrency=1))

    assert report.added == 7
    assert len(report.failed) == 26
    assert all("out of memory" in failure.reason for failure in report.failed)
    assert len(embeddings.batches) == 3

    embeddings.script = None
    assert counts(await ingest(["docs"], settings)) == (26, 0, 7, 0, 0)


async def test_a_document_that_the_endpoint_refuses_does_not_take_others_with_it(settings, docs, embeddings):
    (docs / "aa.md").write_text("First.")
    await ingest(["docs/aa.md"], settings)
    first = len(embeddings.batches)

    async def picky(exchange, texts):
        if any("bark" in text for text in texts) and len(embeddings.batches) > first + 1:
            await exchange.json({"error": {"message": "bad words"}}, status=400)
            return True
        return False

    embeddings.script = picky
    (docs / "ab.md").write_text("Second.")
    report = await ingest(["docs"], configured_like(settings, batch=2))
    assert report.added == 3
    assert [(failure.uri, "bad words" in failure.reason) for failure in report.failed] == [
        ("docs/dogs.md", True)
    ]


async def test_a_refusal_of_the_very_first_batch_stops_the_ingestion(settings, docs, embeddings):
    async def refuses(exchange, texts):
        await exchange.json({"error": {"message": "wrong key"}}, status=401)
        return True

    embeddings.script = refuses
    with pytest.raises(UpstreamRejected, match="401"):
        await ingest(["docs"], settings)


async def test_another_dimension_than_the_collections_is_an_error_before_anything_is_stored(
    settings, docs, embeddings
):
    await ingest(["docs"], settings)
    embeddings.dimension = 32
    (docs / "cats.md").write_text("New.")
    with pytest.raises(InvalidRequest, match=r"64 dimensions.*32"):
        await ingest(["docs"], settings)


async def test_an_impossible_collection_is_an_error(settings, docs):
    wrong = configured_like(settings, vectors=VectorSettings(collection="no spaces"))
    with pytest.raises(InvalidRequest, match="cannot be used"):
        await ingest(["docs"], wrong)


async def test_cancelling_stops_at_once_and_the_next_run_goes_on(settings, docs, embeddings):
    asked = asyncio.Event()

    async def stalls(exchange, texts):
        asked.set()
        await exchange.stall()
        return True

    embeddings.script = stalls
    run = asyncio.create_task(ingest(["docs"], settings))
    async with asyncio.timeout(10):
        await asked.wait()
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    embeddings.script = None
    assert counts(await ingest(["docs"], settings)) == (3, 0, 0, 0, 0)


async def test_pages_are_read_and_kept_under_their_url(settings, docs):
    async def html(exchange):
        await exchange.answer(
            b"<title>Site</title><h1>Hello</h1><p>World.</p>", headers={"content-type": "text/html"}
        )

    async def gone(exchange):
        await exchange.answer(b"", status=404)

    async with HttpEndpoint(routed({"/page": html, "/gone": gone})) as site:
        report = await ingest([f"{site.url}/page#top", f"{site.url}/gone"], settings)
        assert counts(report) == (1, 0, 0, 0, 1)
        assert "404" in report.failed[0].reason
        (passage,) = await passages(settings)
        assert (passage.uri, passage.title, passage.text) == (f"{site.url}/page", "Site > Hello", "World.")
        assert counts(await ingest([f"{site.url}/page"], settings)) == (0, 0, 1, 0, 0)


async def test_a_page_that_stalls_is_given_up(settings, docs):
    async def stall(exchange):
        await exchange.stall()

    async with HttpEndpoint(stall) as site:
        report = await ingest([site.url], configured_like(settings, url_timeout=0.05))
    (failure,) = report.failed
    assert "0.05 s" in failure.reason


@pytest.mark.slow
async def test_the_real_milvus_is_filled_changed_and_searched(milvus, docs, embeddings):
    vectors = VectorSettings(
        milvus_host=milvus.host,
        milvus_port=str(milvus.port),
        milvus_token=Secret(milvus.token),
        collection=f"ingest_{uuid.uuid4().hex}",
    )
    settings = configured(embeddings, vectors)
    assert counts(await ingest(["docs"], settings)) == (3, 0, 0, 0, 0)
    assert counts(await ingest(["docs"], settings)) == (0, 0, 3, 0, 0)
    (docs / "cats.md").write_text("Cats climb trees.")
    (docs / "dogs.md").unlink()
    assert counts(await ingest(["docs"], settings)) == (0, 1, 1, 1, 0)
    assert sorted(p.text for p in await passages(settings)) == ["Cats climb trees.", "Fish swim in the sea."]


@pytest.mark.slow
async def test_a_wrong_token_for_milvus_names_the_setting(milvus, docs, embeddings):
    vectors = VectorSettings(
        milvus_host=milvus.host,
        milvus_port=str(milvus.port),
        milvus_token=Secret("root:wrong"),
        milvus_api="v1",
    )
    with pytest.raises(UpstreamError, match="MILVUS_TOKEN"):
        await ingest(["docs"], configured(embeddings, vectors))
