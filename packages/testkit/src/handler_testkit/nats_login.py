"""Certificates, nkeys and JWTs for a nats-server that asks who comes.

Sources: https://docs.nats.io/running-a-nats-service/configuration/securing_nats and ADR-14 of the NATS design
documents (JWT library).
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import time
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import nacl.signing
import nkeys  # pyright: ignore[reportMissingTypeStubs]
import trustme

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


class Certificates(NamedTuple):
    """PEM files of one private CA: a server for 127.0.0.1, a client, and the CA of somebody else."""

    ca: str
    server: str
    server_key: str
    client: str
    client_key: str
    other_ca: str

    def config(self, *more: str) -> str:
        """Return the block `tls` of a server's configuration, with more lines in it."""
        lines = [f'cert_file: "{self.server}"', f'key_file: "{self.server_key}"', f'ca_file: "{self.ca}"']
        return "tls {\n" + "\n".join([*lines, *more]) + "\n}\n"


def certificates(folder: Path) -> Certificates:
    """Write a CA and its certificates into `folder`."""
    ca, other = trustme.CA(), trustme.CA()
    server, client = ca.issue_cert("127.0.0.1", "localhost"), ca.issue_cert("client@example.org")
    paths = Certificates(*(str(folder / f"{name}.pem") for name in Certificates._fields))
    ca.cert_pem.write_to_path(paths.ca)
    other.cert_pem.write_to_path(paths.other_ca)
    server.cert_chain_pems[0].write_to_path(paths.server)
    server.private_key_pem.write_to_path(paths.server_key)
    client.cert_chain_pems[0].write_to_path(paths.client)
    client.private_key_pem.write_to_path(paths.client_key)
    return paths


class Nkey:
    """A pair of keys: `seed` is secret, `public` is its name.

    Args:
        prefix: `O` for an operator, `A` for an account, `U` for a user.
    """

    def __init__(self, prefix: str = "U") -> None:
        prefixes = {
            "O": nkeys.PREFIX_BYTE_OPERATOR,
            "A": nkeys.PREFIX_BYTE_ACCOUNT,
            "U": nkeys.PREFIX_BYTE_USER,
        }
        library = cast("Any", nkeys)
        seed: bytes = library.encode_seed(bytes(nacl.signing.SigningKey(os.urandom(32))), prefixes[prefix])
        self._pair: Any = library.from_seed(bytearray(seed))
        self.seed = seed.decode()
        self.public: str = self._pair.public_key.decode()

    def sign(self, data: bytes) -> bytes:
        """Return the signature of `data`."""
        return self._pair.sign(data)


class Operator:
    """An operator with one account: the configuration of a server that trusts it, and .creds for its users."""

    def __init__(self) -> None:
        self._operator, self._account, self._system = Nkey("O"), Nkey("A"), Nkey("A")

    def config(self) -> str:
        """Return a configuration with JWT authentication."""
        operator = _jwt(self._operator, self._operator.public, "operator", {"type": "operator"})
        limits = dict.fromkeys(("subs", "data", "payload", "imports", "exports", "conn", "leaf"), -1)
        stored = {"mem_storage": -1, "disk_storage": -1, "streams": -1, "consumer": -1}
        accounts = {
            key.public: _jwt(
                self._operator,
                key.public,
                name,
                {"type": "account", "limits": {**limits, "wildcards": True, **more}},
            )
            for key, name, more in ((self._account, "test", stored), (self._system, "system", {}))
        }
        preload = "\n".join(f"{public}: {jwt}" for public, jwt in accounts.items())
        return (
            f"operator: {operator}\nsystem_account: {self._system.public}\n"
            f"resolver: MEMORY\nresolver_preload {{\n{preload}\n}}\n"
        )

    def creds(self, path: Path, *, expires: float = 0.0) -> Path:
        """Write the .creds file of a new user; it ends after `expires` seconds when given."""
        user = Nkey("U")
        permissions: dict[str, Any] = {"pub": {}, "sub": {}, "subs": -1, "data": -1, "payload": -1}
        jwt = _jwt(self._account, user.public, "user", {"type": "user", **permissions}, expires)
        path.write_text(
            f"-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n"
            "************************* IMPORTANT *************************\n\n"
            f"-----BEGIN USER NKEY SEED-----\n{user.seed}\n------END USER NKEY SEED------\n"
        )
        return path


def _jwt(issuer: Nkey, subject: str, name: str, claims: Mapping[str, Any], expires: float = 0.0) -> str:
    body: dict[str, Any] = {
        "iat": int(time.time()),
        "iss": issuer.public,
        "name": name,
        "sub": subject,
        "nats": {**claims, "version": 2},
    }
    if expires:
        body["exp"] = int(time.time() + expires)
    body["jti"] = base64.b32encode(hashlib.sha256(json.dumps(body).encode()).digest()).decode().rstrip("=")
    signed = f"{_encoded({'typ': 'JWT', 'alg': 'ed25519-nkey'})}.{_encoded(body)}"
    return f"{signed}.{_base64(issuer.sign(signed.encode()))}"


def _encoded(value: Mapping[str, Any]) -> str:
    return _base64(json.dumps(value).encode())


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
