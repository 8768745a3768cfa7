import asyncio
import os
import re
import shlex
import sys
from pathlib import Path

from document_ingestion.config import IngestionSettings
from handler_base.config import settings_of

HERE = Path(__file__).parents[1]
README = (HERE / "README.md").read_text()


def test_the_readme_names_the_settings_of_the_code():
    ours = {setting.names[0] for setting in settings_of(IngestionSettings)}
    named = set(re.findall(r"`([A-Z]+_[A-Z_]+)`", README))
    assert named <= ours
    assert {name for name in ours if not name.startswith(("HTTP_", "EMBEDDINGS_", "VECTORS_"))} <= named


async def test_the_command_of_the_readme_works(tmp_path, embeddings):
    (command,) = re.findall(r"```sh\n(.*)\n```", README)
    assert command.startswith("uv run --package document-ingestion document-ingestion ")
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "document_ingestion",
        *shlex.split(command)[5:],
        cwd=HERE.parents[1],
        env=os.environ | {"EMBEDDINGS_URL": embeddings.url, "SQLITE_PATH": str(tmp_path / "kb.db")},
        stdout=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        out, _ = await process.communicate()
    assert process.returncode == 0
    assert re.search(r"documents: \d+ added, 0 changed, .* 0 failed; \d+ chunks in ", out.decode())
