"""A JetStream key-value bucket: values by key, with the revision that makes a change safe."""

from __future__ import annotations

import base64
import hashlib
import re
from typing import TYPE_CHECKING, Any, NamedTuple

import nats.errors

from handler_base.errors import MessagingError, TooLarge
from handler_base.messaging.reasons import describe
from handler_base.messaging.streams import Bucket, ensure_bucket

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from handler_base.messaging.connection import Connection
    from handler_base.messaging.subscription import RawMessage

_PLAIN_KEY = re.compile(r"[A-Za-z0-9_-]{1,64}")
_LONGEST_ENCODED = 96
_TOO_LARGE = 10054
_OPERATION = "KV-Operation"  # on what is no value: deleted, purged
_ENVELOPE = 1024
"""Room for the headers of a value, in bytes; the server counts them."""


class Conflict(MessagingError):
    """Somebody else changed the value since it was read."""

    type = "conflict"


class Value(NamedTuple):
    """What a key holds.

    Attributes:
        data: The bytes.
        revision: Its revision, for `KeyValue.put`.
    """

    data: bytes
    revision: int


class KeyValue:
    """One bucket, made when it is first prepared."""

    def __init__(self, connection: Connection, bucket: Bucket) -> None:
        self._connection = connection
        self._bucket = bucket
        self._inner: Any = None

    async def prepare(self) -> None:
        """Make sure that the bucket exists; call it at start and after a reconnect.

        Raises:
            MessagingError: If it cannot be made.
        """
        self._inner = await ensure_bucket(self._connection.jetstream, self._bucket)

    async def get(self, key: str) -> Value | None:
        """Return the value of a key, or None.

        Raises:
            MessagingError: If the bucket does not answer.
        """
        from nats.js.errors import KeyNotFoundError

        inner = await self._ready()
        try:
            entry = await inner.get(key)
        except KeyNotFoundError:
            return None
        except nats.errors.Error as error:
            raise self._failed(error) from error
        return Value(entry.value or b"", entry.revision or 0)

    async def put(self, key: str, data: bytes, revision: int | None = None) -> int:
        """Write a value.

        Args:
            key: Its key.
            data: The bytes.
            revision: The revision that was read; None to overwrite whatever is there, 0 for a new key.

        Returns:
            The new revision.

        Raises:
            Conflict: If the key has another revision by now.
            TooLarge: If the value is larger than the bucket or the server takes.
            MessagingError: If the bucket does not answer.
        """
        from nats.js.errors import APIError, KeyWrongLastSequenceError

        if len(data) + _ENVELOPE > self._connection.max_payload:
            raise self._too_large(data)
        inner = await self._ready()
        try:
            if revision is None:
                return await inner.put(key, data)
            if revision == 0:
                return await inner.create(key, data)  # takes a deleted key for a new one, as `get` does
            return await inner.update(key, data, last=revision)
        except KeyWrongLastSequenceError as error:
            raise Conflict(f"{key} in bucket {self._bucket.name} was changed meanwhile") from error
        except APIError as error:
            if error.err_code == _TOO_LARGE:
                raise self._too_large(data) from error
            raise self._failed(error) from error
        except nats.errors.Error as error:
            raise self._failed(error) from error

    async def delete(self, key: str) -> None:
        """Forget a key; it need not exist.

        Raises:
            MessagingError: If the bucket does not answer.
        """
        inner = await self._ready()
        try:
            await inner.delete(key)
        except nats.errors.Error as error:
            raise self._failed(error) from error

    async def all(self, prefix: str) -> dict[str, Value]:
        """Return what there is under a prefix, by key, oldest first; the bucket is asked once per value.

        Args:
            prefix: The first parts of the keys, as `key_of` joins them.

        Raises:
            MessagingError: If the bucket does not answer.
        """
        await self._ready()
        found: dict[str, Value] = {}
        sequence = 0
        subject = self._subject(f"{prefix}.>")
        while True:
            stored = await self._connection.next_stored(f"KV_{self._bucket.name}", subject, sequence + 1)
            if stored is None:
                return found
            sequence = stored.sequence
            key = stored.subject.removeprefix(self._subject(""))
            found.pop(key, None)  # was written again while we read
            if _OPERATION not in stored.headers:
                found[key] = Value(stored.data, sequence)

    async def listen(self, prefix: str, changed: Callable[[str, bytes], Awaitable[None]]) -> None:
        """Call `changed` with key and data of what is written under a prefix from now on.

        A hint, not the truth: a write is heard before it is accepted, and none is heard while NATS is away. Who acts
        on one reads the value first.

        Raises:
            MessagingError: If the connection is closed.
        """

        async def heard(message: RawMessage) -> None:
            if _OPERATION not in (message.headers or {}):
                await changed(message.subject.removeprefix(self._subject("")), message.data)

        await self._connection.subscribe(self._subject(f"{prefix}.>"), heard)

    def _subject(self, key: str) -> str:
        return f"$KV.{self._bucket.name}.{key}"

    def _too_large(self, data: bytes) -> TooLarge:
        return TooLarge(f"{len(data)} bytes are more than bucket {self._bucket.name} takes")

    def _failed(self, error: nats.errors.Error) -> MessagingError:
        self._inner = None  # the bucket may be gone with its disk: made again at the next use
        return MessagingError(f"bucket {self._bucket.name} does not answer: {describe(error)}")

    async def _ready(self) -> Any:
        if self._inner is None:
            await self.prepare()
        return self._inner


def key_of(*parts: str) -> str:
    """Return a valid key for ids of any text, joined by dots; different parts give different keys.

    Plain ids stand as they are, others are encoded, long ones (a key is part of a subject) hashed.
    """
    return ".".join(map(_token, parts))


def _token(part: str) -> str:
    if _PLAIN_KEY.fullmatch(part):
        return part
    data = part.encode("utf-8", "surrogatepass")
    if len(data) > _LONGEST_ENCODED:
        return "/" + hashlib.sha256(data).hexdigest()
    return "=" + base64.urlsafe_b64encode(data).decode().rstrip("=")
