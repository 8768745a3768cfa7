"""The pipelines of the local stack: those that run as processes of this machine, and what is set up elsewhere."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from handler_base.config import settings_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_CATALOGUE = """# Written by `handlers up` each time it starts. What a file of your own says is laid over this: name it in PIPELINES_FILE.

[document-ingestion]
engine = "local"
command = ["python", "-m", "document_ingestion", "--progress", "--collection={collection}", "--", "{source-url}"]

[document-ingestion.environment]
"""

_ENGINES = {"argo": "ARGO_HOST", "kubeflow": "KUBEFLOW_HOST"}


def settings(data: Path) -> dict[str, str]:
    """Return the settings of pipeline-bridge.

    The environment may add a catalogue (`PIPELINES_FILE`) and engines: by `PIPELINE_ENGINES`, or by saying where they are.

    Args:
        data: The folder of the stack's data.
    """
    engines = ["local", *(name for name, host in _ENGINES.items() if os.environ.get(host))]
    engines += [name for word in os.environ.get("PIPELINE_ENGINES", "").split(",") if (name := word.strip())]
    catalogues = [str(_file(data)), os.environ.get("PIPELINES_FILE", "")]
    return {
        "PIPELINE_ENGINES": ",".join(dict.fromkeys(engines)),
        "PIPELINES_FILE": ",".join(filter(None, catalogues)),
        "LOCAL_RUNS": os.environ.get("LOCAL_RUNS") or str(data / "runs"),
    }


def write_catalogue(data: Path, environment: Mapping[str, str]) -> None:
    """Write how pipelines run here.

    Args:
        data: The folder of the stack's data.
        environment: What the ingestion of the stack's own documents is given besides the environment of this process. A
            run gets the same: the bridge passes on neither what is a setting of its own nor what is a secret by its name.
    """
    from handler_base.clients.embeddings import EmbeddingsSettings
    from handler_base.clients.vectors import VectorSettings
    from handler_base.http import HttpSettings

    groups = (EmbeddingsSettings, VectorSettings, HttpSettings)
    names = [name for group in groups for setting in settings_of(group) for name in setting.names]
    names += [f"{name}_FILE" for name in names]
    wanted = {name: os.environ[name] for name in names if name in os.environ} | dict(environment)
    # Every JSON string without escapes of surrogates is one of TOML.
    lines = [f"{name} = {json.dumps(value, ensure_ascii=False)}\n" for name, value in wanted.items()]
    file = _file(data)
    file.unlink(missing_ok=True)
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as catalogue:
        catalogue.write(_CATALOGUE + "".join(lines))


def _file(data: Path) -> Path:
    return data / "pipelines.toml"
