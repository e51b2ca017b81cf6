"""Keys and signatures: what is trusted, for whom and when."""

import json
from pathlib import Path

import pytest

from components.shared.errors import InvalidInput, MissingCapability, Refused, ServiceFault
from components.shared.signatures import (
    TrustedKey,
    new_key_file,
    public_pem,
    read_key,
    read_release_keys,
    read_trusted,
    sign,
    signed_by,
)

NOW = "2026-06-01T00:00:00+00:00"


@pytest.fixture
def key(tmp_path: Path):
    return new_key_file(tmp_path / "anna.pem")


def trusted(key, name: str = "anna", **span: str) -> TrustedKey:
    return TrustedKey(name, public_pem(key), **span)


def test_a_signature_is_its_signer_s_and_fits_only_what_was_signed(key) -> None:
    signature = sign(key, "anna", b"payload")
    assert signed_by(signature, [trusted(key)], b"payload", NOW).name == "anna"
    with pytest.raises(Refused, match="does not fit what it stands on"):
        signed_by(signature, [trusted(key)], b"other", NOW)
    with pytest.raises(Refused, match="does not fit what it stands on"):
        signed_by(signature | {"signature": "!!"}, [trusted(key)], b"payload", NOW)


def test_a_key_speaks_for_nobody_but_its_owner(key, tmp_path: Path) -> None:
    other = new_key_file(tmp_path / "bob.pem")
    for listed in ([], [trusted(other)], [trusted(key, "bob")]):
        with pytest.raises(Refused, match="not in the list"):
            signed_by(sign(key, "anna", b"payload"), listed, b"payload", NOW)


@pytest.mark.parametrize(
    "span, holds",
    [
        ({}, True),
        ({"valid_from": "2026-06-01T00:00:00+00:00"}, True),
        ({"valid_from": "2026-06-01T02:00:00+02:00"}, True),
        ({"valid_from": "2026-06-02"}, False),
        ({"valid_until": "2026-06-01T00:00:00+00:00"}, False),
        ({"valid_until": "2026-06-01T00:00:01+00:00"}, True),
    ],
)
def test_a_key_holds_from_its_first_moment_until_its_last(key, span: dict, holds: bool) -> None:
    assert trusted(key, **span).holds_at(NOW) is holds
    signature = sign(key, "anna", b"payload")
    if not holds:
        with pytest.raises(Refused, match="valid from"):
            signed_by(signature, [trusted(key, **span)], b"payload", NOW)


def test_a_private_key_is_made_once_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    first = new_key_file(tmp_path / "keys/anna.pem")
    assert (tmp_path / "keys/anna.pem").stat().st_mode & 0o777 == 0o600
    assert public_pem(new_key_file(tmp_path / "keys/anna.pem")) == public_pem(first)
    assert list((tmp_path / "keys").iterdir()) == [tmp_path / "keys/anna.pem"]


@pytest.mark.parametrize("text", ["-----BEGIN nonsense", "/no/such/file", "-----BEGIN PRIVATE KEY-----\nAA==\n"])
def test_what_is_no_key_is_named(text: str) -> None:
    with pytest.raises(InvalidInput, match="signing key"):
        read_key(text)


def test_a_key_service_that_fails_is_a_service_fault(tmp_path: Path) -> None:
    with pytest.raises(ServiceFault, match="exit code"):
        read_key("exec:false")
    with pytest.raises(ServiceFault, match="no-such-command"):
        read_key("exec:no-such-command")


def test_lists_of_keys_are_read_or_named(key, tmp_path: Path) -> None:
    path = tmp_path / "reviewers.json"
    assert read_trusted(path) == ()
    path.write_text(json.dumps({"reviewers": [{"name": "anna", "public_key": public_pem(key), "role": "registry"}]}))
    assert [(one.name, one.role) for one in read_trusted(path)] == [("anna", "registry")]
    for broken in ("{", "[]", '{"reviewers": [{"name": "x"}]}', '{"reviewers": ["x"]}'):
        path.write_text(broken)
        with pytest.raises(InvalidInput, match="not a list of reviewers' keys"):
            read_trusted(path)
    with pytest.raises(MissingCapability, match="no list of release keys"):
        read_release_keys(tmp_path / "release-keys.pem")
    (tmp_path / "release-keys.pem").write_text("# two keys\n" + public_pem(key) * 2)
    assert len(read_release_keys(tmp_path / "release-keys.pem")) == 2
