"""What the command of a local pipeline may know of the bridge's environment: what is neither secret nor the bridge's own."""

from __future__ import annotations

import functools
import os
import re

from handler_base.config import settings_of
from pipeline_bridge.config import PipelineBridgeSettings

_OWN_PREFIXES = ("NATS_", "ARGO_", "KUBEFLOW_")
_OWN = {"HEALTH_PORT"}
_SECRET = re.compile(
    r"(^|_)(TOKEN|PASSWORD|PASSWD|PASSPHRASE|PASS|SECRETS?|CREDENTIALS?|CREDS|APIKEY|KEY|SEED|AUTH|COOKIE|DSN)(_|$)",
    re.IGNORECASE,
)
_LOGIN = re.compile(r"://[^/?#@\s]*:[^/?#@\s]+@")
_PROXY = re.compile(r"_proxy$", re.IGNORECASE)  # without it, a command would reach nothing


def inherited() -> dict[str, str]:
    """Return the variables of this process that the command of a pipeline gets.

    Left out is every setting of the bridge, since it is none of the command's, and what is a secret by its name or is an
    address with a password. A command that needs one of them is given it by its pipeline's `environment`.
    """
    return {
        name: value
        for name, value in os.environ.items()
        if not _is_own(name)
        and not _SECRET.search(name)
        and (_PROXY.search(name) or not _LOGIN.search(value))
    }


def _is_own(name: str) -> bool:
    return name in _settings() or name.startswith(_OWN_PREFIXES)


@functools.cache
def _settings() -> frozenset[str]:
    names = {name for setting in settings_of(PipelineBridgeSettings) for name in setting.names}
    return frozenset(_OWN | names | {f"{name}_FILE" for name in names})
