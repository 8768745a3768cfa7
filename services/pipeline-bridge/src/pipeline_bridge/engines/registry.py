"""The engines of this process, each made when its first run comes: a start does not pay for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from handler_base.http import HttpPool
    from pipeline_bridge.catalogue import EngineName
    from pipeline_bridge.config import PipelineBridgeSettings
    from pipeline_bridge.engines import Engine


class Engines:
    """Makes engines, and keeps them.

    Args:
        pool: Where their connections come from.
        settings: Where they are.

    Raises:
        ConfigError: If an address in use is none.

    Raises:
        ConfigError: If an address cannot be used.
    """

    def __init__(self, pool: HttpPool, settings: PipelineBridgeSettings) -> None:
        self._pool = pool
        self._settings = settings
        self._made: dict[str, Engine] = {}
        for name, one, setting in (
            ("argo", settings.argo, "ARGO_HOST"),
            ("kubeflow", settings.kubeflow, "KUBEFLOW_HOST"),
        ):
            if name in settings.runs.engines:
                pool.endpoint(name, one.host, timeout=one.timeout, setting=setting)

    def get(self, name: EngineName) -> Engine:
        """Return an engine.

        Raises:
            ConfigError: If its settings cannot be used.
        """
        engine = self._made.get(name)
        if engine is None:
            engine = self._made[name] = self._make(name)
        return engine

    def _make(self, name: EngineName) -> Engine:
        if name == "argo":
            from pipeline_bridge.engines.argo import Argo

            return Argo(self._pool, self._settings.argo)
        if name == "kubeflow":
            from pipeline_bridge.engines.kubeflow import Kubeflow

            return Kubeflow(self._pool, self._settings.kubeflow)
        from pipeline_bridge.engines.local import Local

        return Local(self._settings.local)

    async def aclose(self) -> None:
        """Let go of what is open; runs go on."""
        for engine in self._made.values():
            await engine.aclose()
