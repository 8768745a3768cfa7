"""Calls to the API, each with the token of the moment, and what their refusals mean."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar
from urllib.parse import quote

import msgspec

from handler_base.errors import UpstreamRejected, UpstreamUnavailable
from handler_base.http import Redirect
from pipeline_bridge.engines._token import Token
from pipeline_bridge.engines.kubeflow.wire import Page, Run

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from handler_base.http import HttpPool
    from pipeline_bridge.config import KubeflowSettings
    from pipeline_bridge.engines.kubeflow.wire import NewRun

T = TypeVar("T")

BASE = "/apis/v2beta1"

ENDED = frozenset({"SUCCEEDED", "SKIPPED", "FAILED", "CANCELED"})
"""States that a run stays in."""

MAX_PAGES = 1000
"""Most pages of one list; a server that has more turns in circles."""

_JSON = {"Content-Type": "application/json", "Accept": "application/json"}


class Api:
    """The API of one Kubeflow.

    Args:
        pool: Where its connections come from.
        settings: Where it is.
    """

    def __init__(self, pool: HttpPool, settings: KubeflowSettings) -> None:
        self._endpoint = pool.endpoint(
            "kubeflow", settings.host, timeout=settings.timeout, setting="KUBEFLOW_HOST"
        )
        self._token = Token("Kubeflow", "KUBEFLOW_TOKEN", settings.token, settings.token_file)
        self._namespace = {"namespace": settings.namespace} if settings.namespace else {}

    async def get(self, path: str, type: type[T], *, here: bool = False) -> T | None:  # noqa: A002
        """Return what is at a path, or None if there is nothing.

        Args:
            path: Below the API's base.
            type: What it must be.
            here: Whether to say our namespace.

        Raises:
            UpstreamError: One of its kinds.
        """
        try:
            content = await self._call("GET", path, params=self._namespace if here else {})
        except UpstreamRejected as error:
            if error.status == 404:
                return None
            raise
        return self._endpoint.decode(content, type)

    async def pages(
        self,
        path: str,
        *,
        here: bool = False,
        equals: tuple[str, str] | None = None,
        sort_by: str = "",
        size: int = 100,
    ) -> AsyncGenerator[Page]:
        """Yield the pages of a list.

        Args:
            path: Below the API's base.
            here: Whether only what is in our namespace is meant; for what is not within something else.
            equals: A field and the value that it must have.
            sort_by: A field, and `desc` behind it for the largest first.
            size: Most things on a page.

        Raises:
            UpstreamError: One of its kinds.
        """
        params = {"page_size": str(size), **(self._namespace if here else {})}
        if equals:
            params["filter"] = _filter(*equals)
        if sort_by:
            params["sort_by"] = sort_by
        for _ in range(MAX_PAGES):
            page = self._endpoint.decode(await self._call("GET", path, params=params), Page)
            yield page
            if not page.next_page_token:
                return
            params["page_token"] = page.next_page_token
        raise self._endpoint.unreadable(f"a list of more than {MAX_PAGES} pages")

    async def runs(self, display_name: str) -> list[Run]:
        """Return the runs of a name, archived ones, too.

        Raises:
            UpstreamError: One of its kinds.
        """
        pages = self.pages("/runs", here=True, equals=("display_name", display_name), sort_by="created_at")
        # databases compare without regard to case; of a run that Kubeflow cannot read it says the id alone
        names = {display_name, ""}
        return [run async for page in pages for run in page.runs if run.display_name in names]

    async def run(self, run_id: str) -> Run | None:
        """Return a run, or None if there is none.

        Raises:
            UpstreamError: One of its kinds.
        """
        return await self.get(f"/runs/{quote(run_id, safe='')}", Run)

    async def create(self, run: NewRun) -> Run:
        """Make a run.

        Raises:
            UpstreamError: One of its kinds; after all but `UpstreamRejected` it may be there all the same.
        """
        content = await self._call("POST", "/runs", content=msgspec.json.encode(run), safe=False)
        return self._endpoint.decode(content, Run)

    async def terminate(self, run: Run) -> bool:
        """Tell a run to end; return False if it had ended, True if it ends now or is not there.

        Raises:
            UpstreamError: One of its kinds.
        """
        if run.state in ENDED or run.state == "CANCELING":
            return run.state not in ENDED
        try:
            await self._call("POST", f"/runs/{quote(run.run_id, safe='')}:terminate")
        except UpstreamRejected as error:
            if error.status not in {400, 404}:
                raise
            # what ends or has ended is refused in the words for what is not there
            now = await self.run(run.run_id)
            if now is not None and now.state not in ENDED and now.state != "CANCELING":
                raise
            return now is None or now.state not in ENDED
        return True

    async def archive(self, run: Run) -> None:
        """Put a run out of sight, unless it is gone.

        Raises:
            UpstreamError: One of its kinds.
        """
        try:
            await self._call("POST", f"/runs/{quote(run.run_id, safe='')}:archive")
        except UpstreamRejected as error:
            if error.status != 404:
                raise

    async def _call(
        self,
        method: str,
        path: str,
        *,
        content: bytes = b"",
        params: dict[str, str] | None = None,
        safe: bool = True,
    ) -> bytes:
        """Return the body of an answer; `safe` calls may be repeated."""
        repeat = "always" if safe else "never"
        try:
            return await self._token.call(
                self._endpoint,
                method,
                BASE + path,
                content=content,
                headers=_JSON,
                params=params,
                repeat=repeat,
            )
        except Redirect as error:  # what stands before Kubeflow sends who is not known to a page to log in
            raise UpstreamUnavailable(
                f"{error.message}; where that is a page to log in, check KUBEFLOW_TOKEN",
                endpoint=error.endpoint,
                status=error.status,
            ) from error


def _filter(key: str, value: str) -> str:
    """Return a filter; the server undoes its escaping once more than HTTP does."""
    predicate = {"key": key, "operation": "EQUALS", "string_value": value}
    return quote(msgspec.json.encode({"predicates": [predicate]}), safe="")
