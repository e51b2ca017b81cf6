"""Keys and signatures: EC P-256 keys as PEM, and lists of public keys that say who may sign.

A folder of trust holds `release-keys.pem` (public keys that sign bundles), `reviewers.json` (who may decide, with
which key, from when to when) and `policy.json`. A cluster mounts it from a ConfigMap and names it in `YANSHAN_TRUST`;
beside a store that is a folder it is `../keys`, made on first use.
"""

import base64
import binascii
import json
import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol, cast
from urllib.parse import unquote, urlparse

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from components.shared.digests import digest_bytes
from components.shared.errors import InvalidInput, MissingCapability, Refused, ServiceFault
from components.shared.store import Store

PAYLOAD_TYPE = b"application/vnd.yanshan.record+json"


class SigningKey(Protocol):
    """What signs: a private key in memory, or a program that asks a key service."""

    def public_key(self) -> ec.EllipticCurvePublicKey: ...
    def sign(self, data: bytes, signature_algorithm: ec.ECDSA) -> bytes: ...


@dataclass(frozen=True)
class TrustedKey:
    """A public key, whose it is, and when it holds."""

    name: str
    pem: str
    valid_from: str = ""
    valid_until: str = ""
    role: str = "reviewer"
    """reviewer, or registry: the service that records what reviewers did in MLflow."""

    @property
    def id(self) -> str:
        return key_id(self.pem)

    def holds_at(self, moment: str) -> bool:
        """Whether the key was valid at an ISO time; both ends are ISO times or empty for open."""
        after = not self.valid_from or _time(self.valid_from) <= _time(moment)
        return after and (not self.valid_until or _time(moment) < _time(self.valid_until))


def trust_folder(store: Store) -> Path | None:
    """Where the lists of keys for `store` are; None when nobody said so for a store that is no folder."""
    if named := os.environ.get("YANSHAN_TRUST"):
        return Path(named)
    parts = urlparse(store.uri)
    return Path(unquote(parts.path)).parent / "keys" if parts.scheme == "file" else None


def read_key(text: str) -> SigningKey:
    """The key that `text` is or names: PEM text, a file, or `exec:COMMAND` for a key service (KMS, PKCS#11).

    `COMMAND public-key` prints the PEM public key; `COMMAND sign` reads bytes and writes a DER ECDSA-SHA256 signature.

    Raises:
        InvalidInput: not an EC P-256 private key, or no such file.
        ServiceFault: the command failed.
    """
    if text.startswith("exec:"):
        return CommandKey(text.removeprefix("exec:"))
    if "-----BEGIN" not in text:
        try:
            text = Path(text).read_text()
        except (OSError, UnicodeDecodeError) as fault:
            raise InvalidInput(f"signing key {text}: cannot be read ({fault})") from fault
    try:
        key = serialization.load_pem_private_key(text.encode(), None)
    except (ValueError, TypeError) as fault:
        raise InvalidInput(f"signing key: not an unencrypted PEM private key ({fault})") from fault
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name != "secp256r1":
        raise InvalidInput(f"signing key: got {type(key).__name__}, expected an EC key on curve P-256")
    return cast(SigningKey, key)


class CommandKey:
    """A key that never leaves its service: a command answers for it."""

    def __init__(self, command: str) -> None:
        self._command = command
        self._public = load_public(self._run("public-key", b"").decode("ascii", "replace"))

    def public_key(self) -> ec.EllipticCurvePublicKey:
        return self._public

    def sign(self, data: bytes, signature_algorithm: ec.ECDSA) -> bytes:
        return self._run("sign", data)

    def _run(self, verb: str, data: bytes) -> bytes:
        try:
            answer = subprocess.run([*self._command.split(), verb], input=data, capture_output=True, timeout=60)
        except (OSError, subprocess.TimeoutExpired) as fault:
            raise ServiceFault(f"signing command {self._command!r}: {fault}") from fault
        if answer.returncode:
            told = answer.stderr.decode(errors="replace").strip()
            raise ServiceFault(f"signing command {self._command!r} {verb}: exit code {answer.returncode}: {told}")
        return answer.stdout


def new_key_file(path: Path) -> SigningKey:
    """Make a private key in a file that only its owner reads; the key already there is kept."""
    pem = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".writing-{os.getpid()}-{path.name}")
    beside.touch(mode=0o600)
    beside.write_bytes(pem)
    try:
        os.link(beside, path)
    except FileExistsError:
        pass
    finally:
        beside.unlink()
    return read_key(str(path))


def public_pem(key: SigningKey) -> str:
    """The public half as PEM."""
    return _pem(key.public_key())


def load_public(pem: str) -> ec.EllipticCurvePublicKey:
    """A P-256 public key.

    Raises:
        InvalidInput: it is none.
    """
    try:
        key = serialization.load_pem_public_key(pem.encode())
    except ValueError as fault:
        raise InvalidInput(f"public key: not PEM ({fault})") from fault
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != "secp256r1":
        raise InvalidInput(f"public key: got {type(key).__name__}, expected an EC key on curve P-256")
    return key


def key_id(pem: str) -> str:
    """First 16 hex digits of the SHA-256 of the public key's DER form."""
    der = load_public(pem).public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return digest_bytes(der)[:16]


def sign(key: SigningKey, signer: str, payload: bytes) -> dict[str, str]:
    """One signature over `payload`, with the name and the id of the key that made it."""
    signature = key.sign(_enveloped(payload), ec.ECDSA(hashes.SHA256()))
    return {"signer": signer, "key": key_id(public_pem(key)), "signature": base64.b64encode(signature).decode()}


def signed_by(signature: Mapping[str, str], keys: Sequence[TrustedKey], payload: bytes, at: str) -> TrustedKey:
    """The trusted key that made `signature` over `payload` at the time `at`.

    Raises:
        Refused: the key is unknown, not the signer's, expired or not valid yet, or the signature is not its own.
    """
    signer = signature.get("signer", "")
    trusted = next((key for key in keys if key.id == signature.get("key") and key.name == signer), None)
    if trusted is None:
        raise Refused(f"signature of {signer!r}: key {signature.get('key')} is not in the list of trusted keys")
    if not trusted.holds_at(at):
        span = f"{trusted.valid_from or 'always'} to {trusted.valid_until or 'always'}"
        raise Refused(f"signature of {signer!r}: key {trusted.id} is valid from {span}, not at {at}")
    try:
        data = base64.b64decode(signature.get("signature", ""), validate=True)
        load_public(trusted.pem).verify(data, _enveloped(payload), ec.ECDSA(hashes.SHA256()))
    except (InvalidSignature, binascii.Error) as fault:
        raise Refused(f"signature of {signer!r}: does not fit what it stands on: that was changed") from fault
    return trusted


def read_trusted(path: Path) -> tuple[TrustedKey, ...]:
    """The keys of a `reviewers.json`: {"reviewers": [{"name", "public_key", "valid_from", "valid_until", "role"}]}.

    Raises:
        InvalidInput: not such a file.
    """
    try:
        entries = json.loads(path.read_text())["reviewers"]
        return tuple(_trusted(entry) for entry in entries)
    except FileNotFoundError:
        return ()
    except (ValueError, KeyError, TypeError, AttributeError) as fault:
        raise InvalidInput(f"{path}: not a list of reviewers' keys ({type(fault).__name__}: {fault})") from fault


def read_release_keys(path: Path) -> tuple[TrustedKey, ...]:
    """Every PEM public key in a file, one after another: those that may sign bundles.

    Raises:
        MissingCapability: there is no such file.
    """
    try:
        text = path.read_text()
    except FileNotFoundError as missing:
        raise MissingCapability(
            f"{path}: no list of release keys, so no bundle can be verified; expected PEM public keys there "
            "(in a cluster YANSHAN_TRUST names the mounted folder)"
        ) from missing
    blocks = re.findall(r"-----BEGIN PUBLIC KEY-----.+?-----END PUBLIC KEY-----\n?", text, re.DOTALL)
    return tuple(TrustedKey("release", pem, role="release") for pem in blocks)


def _trusted(entry: Mapping[str, Any]) -> TrustedKey:
    key = TrustedKey(
        str(entry["name"]),
        str(entry["public_key"]),
        str(entry.get("valid_from", "")),
        str(entry.get("valid_until", "")),
        str(entry.get("role", "reviewer")),
    )
    load_public(key.pem)
    for end in filter(None, (key.valid_from, key.valid_until)):
        _time(end)
    return key


def _enveloped(payload: bytes) -> bytes:
    """Source: DSSE v1 pre-authentication encoding, https://github.com/secure-systems-lab/dsse/blob/master/protocol.md"""
    return b"DSSEv1 %d %s %d %s" % (len(PAYLOAD_TYPE), PAYLOAD_TYPE, len(payload), payload)


def _pem(key: ec.EllipticCurvePublicKey) -> str:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_bytes(serialization.Encoding.PEM, form).decode()


def _time(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
