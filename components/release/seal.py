"""The seal of a bundle: a `model-signing` signature over all of its files, release.json among them."""

import logging
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from components.shared.digests import digest_bytes
from components.shared.errors import InvalidInput, Refused
from components.shared.releases import Release, bring_release
from components.shared.signatures import SigningKey, TrustedKey
from components.shared.store import Store

logger = logging.getLogger(__name__)


def seal_name(prefix: str, release_json: bytes) -> str:
    """Where the seal over these very bytes lies; another release.json would have another seal."""
    return f"{prefix}/release.{digest_bytes(release_json)[:16]}.sig"


def seal(files: Sequence[Mapping[str, Any]], key: SigningKey, signature: Path) -> None:
    """Sign the digests of `files` (path and sha256 each) into `signature`, a Sigstore bundle.

    What `model_signing sign` writes for a folder that holds these files, without reading them once more.
    """
    from model_signing import manifest
    from model_signing._hashing.hashing import Digest
    from model_signing._signing import sign_ec_key, signing

    kind = manifest.SerializationType.from_args({"method": "files", "hash_type": "sha256", "allow_symlinks": False})
    items = [kind.new_item(file["path"], Digest("sha256", bytes.fromhex(file["sha256"]))) for file in files]
    # The public call takes a key in a file only; a key service has no file, so the signer is handed its key.
    signer = sign_ec_key.Signer.__new__(sign_ec_key.Signer)
    signer._private_key = key  # type: ignore[assignment]
    signer.sign(signing.Payload(manifest.Manifest("bundle", items, kind))).write(signature)


def check_seal(folder: Path, signature: Path, keys: Sequence[TrustedKey]) -> TrustedKey:
    """The trusted key that sealed `folder`.

    Raises:
        Refused: no trusted key made this signature.
        InvalidInput: a file was changed, added or removed after it was made.
    """
    from model_signing import verifying

    for number, key in enumerate(keys):
        public = signature.with_name(f".key-{number}.pem")
        public.write_text(key.pem)
        try:
            verifying.Config().use_elliptic_key_verifier(public_key=public).verify(folder, signature)
            return key
        except Exception as fault:  # model-signing lets parser and cryptography errors through
            if "Signature mismatch" in str(fault):
                raise InvalidInput(f"{folder}: changed after it was sealed: {fault}") from fault
            logger.debug("seal=%s key=%s fault=%r", signature.name, key.id, fault)
        finally:
            public.unlink()
    raise Refused(f"{signature.name}: no trusted key made this seal; trusted are {[key.id for key in keys]}")


def verify_bundle(store: Store, release: Release, keys: Sequence[TrustedKey]) -> dict[str, Any]:
    """Fetch a whole bundle anew, recompute every digest and check its seal.

    Returns:
        release_sha256 and the id of the key that sealed it.

    Raises:
        Refused: unsealed, or sealed by a key that is not trusted.
        InvalidInput: a file is missing or was changed.
    """
    with tempfile.TemporaryDirectory(prefix="yanshan-verify-") as scratch:
        return bring_verified(store, release, keys, Path(scratch))


def bring_verified(store: Store, release: Release, keys: Sequence[TrustedKey], scratch: Path) -> dict[str, Any]:
    """As `verify_bundle`, and leave the files under `scratch`/bundle."""
    data = store.get(f"{release.prefix}/release.json")
    name = seal_name(release.prefix, data)
    if not store.exists(name):
        raise Refused(
            f"{store.uri}/{release.prefix}: not sealed: there is no {name.rsplit('/', 1)[1]} for release.json"
        )
    folder = bring_release(store, release, scratch / "bundle")
    (folder / "release.json").write_bytes(data)
    store.fetch(name, scratch / "release.sig")
    key = check_seal(folder, scratch / "release.sig", keys)
    return {"release_sha256": digest_bytes(data), "sealed_by": key.id}
