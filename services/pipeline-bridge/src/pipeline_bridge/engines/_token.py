"""The bearer token of an engine, read again when its file changes: Kubernetes gives a new one every hour.

What an engine says of a token may pass, for the next one may be better: a refusal is an error to try again after.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from handler_base.errors import UpstreamRejected, UpstreamUnavailable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from handler_base.config import Secret
    from handler_base.errors import UpstreamError
    from handler_base.http import Endpoint, Repeat


class Token:
    """What an engine knows us by.

    Args:
        who: What to call the engine in errors: `the Argo Server`.
        setting: The setting of the token; the one of its file has `_FILE` behind it.
        token: The token; empty for none.
        file: A file with the token, instead; empty for none.
    """

    def __init__(self, who: str, setting: str, token: Secret, file: str) -> None:
        self._who = who
        self._setting = f"{setting}_FILE" if file else setting
        self._file = file
        self._token = token.reveal()
        self._seen: tuple[int, int, int] | None = None

    def headers(self) -> dict[str, str]:
        """Return the headers that a request must have.

        Raises:
            UpstreamUnavailable: If the file cannot be read, or holds what no header can carry.
        """
        if self._file:
            self._look()
        return {"Authorization": f"Bearer {self._token}"} if self._token else {}

    def refused(self, error: UpstreamError) -> UpstreamUnavailable:
        """Return the error for a call that was answered 401 or 403."""
        what = "refuses our token" if error.status == 401 else "does not let us do this"
        says = f": {error.said}" if error.said else ""
        return UpstreamUnavailable(
            f"{self._who} {what} ({error.status}){says}; check {self._setting} and what its account may do",
            endpoint=error.endpoint,
            status=error.status,
            said=error.said,
        )

    async def call(
        self,
        endpoint: Endpoint,
        method: str,
        path: str,
        *,
        content: bytes,
        headers: Mapping[str, str],
        params: Mapping[str, str] | None,
        repeat: Repeat,
    ) -> bytes:
        """Return the body of the engine's answer; see `Endpoint.request`.

        Raises:
            UpstreamUnavailable: If the token is refused, too.
            UpstreamError: One of its kinds.
            Overloaded: If no connection becomes free in time.
        """
        try:
            response = await endpoint.request(
                method,
                path,
                content=content,
                headers={**self.headers(), **headers},
                params=params,
                repeat=repeat,
            )
        except UpstreamRejected as error:
            if error.status in {401, 403}:
                raise self.refused(error) from error
            raise
        return response.content

    def _look(self) -> None:
        try:
            found = os.stat(self._file)  # noqa: PTH116 - a path need not be made for every request
            seen = found.st_mtime_ns, found.st_ino, found.st_size
            if seen == self._seen:
                return
            token = Path(self._file).read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not plain text"
            raise UpstreamUnavailable(
                f"the token for {self._who} cannot be read from {self._file}: {reason}; check {self._setting}"
            ) from error
        if not token.isprintable() or " " in token:
            raise UpstreamUnavailable(f"{self._file} holds no token; check {self._setting}")
        self._token, self._seen = token, seen
