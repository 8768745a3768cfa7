"""Settings of pipeline-bridge."""

from __future__ import annotations

from typing import Annotated, Literal

from handler_base.config import Secret, Settings, env
from handler_base.http import HttpSettings
from handler_base.service import ServiceSettings


class ArgoSettings(Settings, frozen=True, kw_only=True):
    """Where the Argo Server is. Durations are in seconds."""

    host: Annotated[str, env("ARGO_HOST", help="base URL of the Argo Server")] = "http://127.0.0.1:2746"
    namespace: Annotated[str, env("ARGO_NAMESPACE", help="namespace of workflows and their templates")] = (
        "argo"
    )
    token: Annotated[Secret, env("ARGO_TOKEN", help="bearer token for the Argo Server")] = Secret()
    token_file: Annotated[
        str, env("ARGO_TOKEN_FILE", help="file with the token; read again when it changes")
    ] = ""
    timeout: Annotated[float, env("ARGO_TIMEOUT", help="seconds to the answer of a call", ge=0.001)] = 15.0
    watch: Annotated[bool, env("ARGO_WATCH", help="whether to watch workflows; else they are polled")] = True
    watch_idle: Annotated[
        float, env("ARGO_WATCH_IDLE", help="seconds of silence until a watch is begun anew", ge=0.01)
    ] = 120.0
    poll: Annotated[float, env("ARGO_POLL", help="seconds between polls where no watch works", ge=0.01)] = 5.0


class KubeflowSettings(Settings, frozen=True, kw_only=True):
    """Where the Kubeflow Pipelines API is. Durations are in seconds."""

    host: Annotated[str, env("KUBEFLOW_HOST", help="base URL of the Kubeflow Pipelines API")] = (
        "http://127.0.0.1:8888"
    )
    namespace: Annotated[
        str, env("KUBEFLOW_NAMESPACE", help="namespace of pipelines and runs where Kubeflow has many users")
    ] = ""
    token: Annotated[Secret, env("KUBEFLOW_TOKEN", help="bearer token for Kubeflow Pipelines")] = Secret()
    token_file: Annotated[
        str, env("KUBEFLOW_TOKEN_FILE", help="file with the token; read again when it changes")
    ] = ""
    timeout: Annotated[float, env("KUBEFLOW_TIMEOUT", help="seconds to the answer of a call", ge=0.001)] = (
        15.0
    )
    poll: Annotated[
        float, env("KUBEFLOW_POLL", help="seconds between the first polls of a run; they grow", ge=0.01)
    ] = 1.0
    poll_max: Annotated[
        float, env("KUBEFLOW_POLL_MAX", help="longest pause between polls, in seconds", ge=0.01)
    ] = 30.0


class LocalSettings(Settings, frozen=True, kw_only=True):
    """Pipelines as processes of this machine. Durations are in seconds."""

    folder: Annotated[
        str, env("LOCAL_RUNS", help="folder for the state and output of local runs; shared by replicas")
    ] = "runs"
    kept: Annotated[
        float,
        env(
            "LOCAL_RUNS_KEPT",
            help="seconds that an ended run's folder is kept; longer than no bridge may be there",
            ge=60,
        ),
    ] = 7 * 86400.0
    max_output: Annotated[
        int, env("LOCAL_MAX_OUTPUT", help="bytes of output kept of a run; its end is kept", ge=1024)
    ] = 1024 * 1024
    grace: Annotated[
        float, env("LOCAL_GRACE", help="seconds between SIGTERM and SIGKILL for a run that is stopped", ge=0)
    ] = 10.0
    poll: Annotated[float, env("LOCAL_POLL", help="seconds between looks at a run", ge=0.01)] = 0.25


class RunSettings(Settings, frozen=True, kw_only=True):
    """How runs are seen through. Durations are in seconds."""

    catalogue: Annotated[
        tuple[str, ...],
        env("PIPELINES_FILE", help="files or folders of TOML laid over the shipped catalogue"),
    ] = ()
    engines: Annotated[
        tuple[Literal["argo", "kubeflow", "local"], ...],
        env("PIPELINE_ENGINES", help="engines in use: argo, kubeflow, local"),
    ] = ("argo", "kubeflow")
    bucket: Annotated[str, env("PIPELINE_BUCKET", help="key-value bucket of the runs")] = "pipeline-runs"
    kept: Annotated[float, env("RUNS_KEPT", help="seconds that a run is remembered", ge=3600)] = 30 * 86400.0
    lease: Annotated[
        float,
        env("RUN_LEASE", help="seconds without a sign of life until another replica takes over", ge=0.3),
    ] = 15.0
    max_runs: Annotated[
        int, env("MAX_RUNS", help="runs that a replica follows at once; more wait in the stream", ge=1)
    ] = 1000
    patience: Annotated[
        float, env("ENGINE_PATIENCE", help="seconds that an engine may be out of reach before `error`", ge=0)
    ] = 600.0
    retry_delay: Annotated[
        float,
        env("ENGINE_RETRY_DELAY", help="seconds before a failed call is tried again; they grow", ge=0.01),
    ] = 1.0
    retry_delay_max: Annotated[
        float, env("ENGINE_RETRY_DELAY_MAX", help="longest such pause, in seconds", ge=0.01)
    ] = 30.0
    progress: Annotated[
        float, env("PROGRESS_INTERVAL", help="seconds between two statuses that tell progress only", ge=0)
    ] = 2.0


class PipelineBridgeSettings(ServiceSettings, frozen=True, kw_only=True):
    """Everything that pipeline-bridge can be told by the environment."""

    http: HttpSettings = HttpSettings()
    runs: RunSettings = RunSettings()
    argo: ArgoSettings = ArgoSettings()
    kubeflow: KubeflowSettings = KubeflowSettings()
    local: LocalSettings = LocalSettings()
