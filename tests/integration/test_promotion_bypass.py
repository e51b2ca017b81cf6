"""Ways around the reviewer, each tried for real on a registry in a folder, and what stops it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from components.release.bundle import list_files, release_bytes
from components.release.seal import seal, seal_name
from components.release.verification import reconcile, verify
from components.shared.digests import canonical_json, digest_bytes
from components.shared.errors import InvalidInput, Refused, YanshanError
from components.shared.ledger import head, read_ledger, record_name
from components.shared.releases import bring_release, champion, read_release
from components.shared.signatures import new_key_file, sign
from tests.registry_workspace import MODEL, RegistryWorkspace, empty_workspace


@pytest.fixture(scope="module")
def reviewed_once(tmp_path_factory: pytest.TempPathFactory, migrated_database: Path) -> RegistryWorkspace:
    made = empty_workspace(tmp_path_factory.mktemp("reviewed") / "workspace", migrated_database)
    made.release("a")
    made.promote(1)
    made.release("b", champion=1)
    return made


@pytest.fixture
def reviewed(reviewed_once: RegistryWorkspace, workspace: RegistryWorkspace, tmp_path: Path) -> RegistryWorkspace:
    """Version 1 is champion, version 2 waits."""
    return reviewed_once.copied_to(tmp_path / "copy")


def whats(workspace: RegistryWorkspace) -> set[str]:
    return {finding.what for finding in verify(workspace.store, MODEL, workspace.tracking_uri)}


def stored(workspace: RegistryWorkspace, name: str) -> Path:
    return workspace.root / "store" / name


def forged(workspace: RegistryWorkspace, sign_it: Callable[[bytes], list[dict]], **changes) -> None:
    """Append a record that makes version 2 champion, the chain intact, straight into the store."""
    before = head(workspace.store, MODEL)
    bundle = read_release(workspace.store, MODEL, 2)
    body = before.body | {"seq": before.seq + 1, "previous": before.digest, "version": 2, "champion": 2}
    body |= {"champion_before": 1, "release_sha256": bundle.digest, "champion_sha256": bundle.digest} | changes
    data = canonical_json({"record": body, "signatures": sign_it(canonical_json(body))})
    assert workspace.store.put_new(record_name(MODEL, before.seq + 1), data)


@pytest.mark.parametrize("alias", ["champion", "challenger"])
def test_an_alias_set_by_hand_changes_no_champion(reviewed: RegistryWorkspace, alias: str) -> None:
    with reviewed.registry() as client:
        client.set_registered_model_alias(MODEL, alias, "2" if alias == "champion" else "1")
    assert champion(reviewed.store, MODEL).version == 1
    assert whats(reviewed) == {"alias-moved"}
    reconcile(reviewed.store, MODEL, reviewed.tracking_uri)
    assert reviewed.aliases() == {"champion": 1, "challenger": 2}


def test_a_deleted_alias_comes_back(reviewed: RegistryWorkspace) -> None:
    with reviewed.registry() as client:
        client.delete_registered_model_alias(MODEL, "champion")
    assert whats(reviewed) == {"alias-missing"}
    reconcile(reviewed.store, MODEL, reviewed.tracking_uri)
    assert reviewed.aliases() == {"champion": 1, "challenger": 2}


def test_a_deleted_champion_is_named_and_the_bundle_stays(reviewed: RegistryWorkspace) -> None:
    with reviewed.registry() as client:
        client.delete_model_version(MODEL, "1")
    assert whats(reviewed) == {"version-missing", "alias-missing"}
    assert champion(reviewed.store, MODEL).version == 1


@pytest.mark.parametrize("how", ["delete", "rename"])
def test_a_model_that_vanished_is_named_and_nothing_is_promoted(reviewed: RegistryWorkspace, how: str) -> None:
    with reviewed.registry() as client:
        client.delete_registered_model(MODEL) if how == "delete" else client.rename_registered_model(MODEL, "other")
    assert whats(reviewed) == {"model-missing"}
    with pytest.raises(YanshanError):
        reviewed.promote(2, "bob")
    assert len(read_ledger(reviewed.store, MODEL)) == 1


@pytest.mark.parametrize("file", ["models/model.onnx", "scores/scores.json", "reports/evaluation.html"])
def test_a_file_overwritten_after_release_is_not_promoted(reviewed: RegistryWorkspace, file: str) -> None:
    path = stored(reviewed, f"releases/{MODEL}/2/{file}")
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(InvalidInput, match="changed after its release"):
        reviewed.promote(2, "bob")
    assert whats(reviewed) == {"bundle"}


def test_a_model_swapped_in_the_registry_is_not_promoted(workspace: RegistryWorkspace) -> None:
    workspace.release("a")
    workspace.promote(1)
    workspace.release("b", champion=1)
    for model in (workspace.root / "mlflow-artifacts").rglob("model.onnx"):
        model.write_bytes(b"evil")
    with pytest.raises(InvalidInput, match="overwritten"):
        workspace.promote(2)
    assert whats(workspace) == {"registry-copy"}
    folder = bring_release(workspace.store, champion(workspace.store, MODEL), workspace.root / "brought", "models")
    assert (folder / "models/model.onnx").read_bytes() != b"evil"


def edited_scores(workspace: RegistryWorkspace) -> bytes:
    """Better scores in version 2, and a release.json that fits them."""
    release = read_release(workspace.store, MODEL, 2)
    path = stored(workspace, f"{release.prefix}/scores/scores.json")
    path.write_text(path.read_text().replace("0.496", "0.996"))
    for file in release.record["files"]:
        if file["path"] == "scores/scores.json":
            file |= {"sha256": digest_bytes(path.read_bytes()), "size": path.stat().st_size}
    data = release_bytes(release.record)
    stored(workspace, f"{release.prefix}/release.json").write_bytes(data)
    return data


def test_edited_scores_with_a_fitting_record_lack_the_seal(reviewed: RegistryWorkspace) -> None:
    edited_scores(reviewed)
    with pytest.raises(Refused, match="not sealed"):
        reviewed.promote(2, "bob")


def test_edited_scores_under_the_old_seal_do_not_fit_it(reviewed: RegistryWorkspace) -> None:
    old = reviewed.store.get(f"releases/{MODEL}/2/release.json")
    data = edited_scores(reviewed)
    prefix = f"releases/{MODEL}/2"
    reviewed.store.put(seal_name(prefix, data), reviewed.store.get(seal_name(prefix, old)))
    with pytest.raises(InvalidInput, match="changed after it was sealed"):
        reviewed.promote(2, "bob")


def test_edited_scores_under_a_stranger_s_seal_are_refused(reviewed: RegistryWorkspace, tmp_path: Path) -> None:
    data = edited_scores(reviewed)
    folder = bring_release(reviewed.store, read_release(reviewed.store, MODEL, 2), tmp_path / "bundle")
    (folder / "release.json").write_bytes(data)
    seal(list_files(folder), new_key_file(tmp_path / "mallory.pem"), tmp_path / "seal")
    reviewed.store.send(tmp_path / "seal", seal_name(f"releases/{MODEL}/2", data))
    with pytest.raises(Refused, match="no trusted key made this seal"):
        reviewed.promote(2, "bob")


def test_an_unsealed_bundle_is_refused(reviewed: RegistryWorkspace) -> None:
    data = reviewed.store.get(f"releases/{MODEL}/2/release.json")
    stored(reviewed, seal_name(f"releases/{MODEL}/2", data)).unlink()
    with pytest.raises(Refused, match="not sealed"):
        reviewed.promote(2, "bob")


def test_a_champion_s_bundle_changed_after_promotion_is_not_served(reviewed: RegistryWorkspace) -> None:
    release = read_release(reviewed.store, MODEL, 1)
    stored(reviewed, f"{release.prefix}/release.json").write_bytes(release_bytes(release.record | {"author": "x"}))
    with pytest.raises(InvalidInput, match="changed after the promotion"):
        champion(reviewed.store, MODEL)
    assert {"bundle", "bundle-differs", "digest-tag"} <= whats(reviewed)


def test_a_replayed_record_breaks_the_chain(reviewed: RegistryWorkspace) -> None:
    reviewed.store.put(record_name(MODEL, 2), reviewed.store.get(record_name(MODEL, 1)))
    for reader in (champion, read_ledger):
        with pytest.raises(InvalidInput, match="expected"):
            reader(reviewed.store, MODEL)
    assert whats(reviewed) == {"ledger-broken"}


def test_a_record_nobody_signed_makes_no_champion(reviewed: RegistryWorkspace) -> None:
    forged(reviewed, lambda payload: [])
    with pytest.raises(Refused, match="is not signed"):
        champion(reviewed.store, MODEL)
    with pytest.raises(Refused, match="nothing was mended"):
        reconcile(reviewed.store, MODEL, reviewed.tracking_uri)
    assert "record-signature" in whats(reviewed)


def test_a_record_signed_by_a_stranger_makes_no_champion(reviewed: RegistryWorkspace, tmp_path: Path) -> None:
    stranger = new_key_file(tmp_path / "mallory.pem")
    forged(reviewed, lambda payload: [sign(stranger, "anna", payload)])
    with pytest.raises(Refused, match="not in the list of trusted keys"):
        champion(reviewed.store, MODEL)


def test_a_reviewer_cannot_sign_in_another_s_name(reviewed: RegistryWorkspace) -> None:
    reviewed.release("c")
    with pytest.raises(Refused):
        reviewed.promote(3, "bob")  # makes bob's key and entry; the comparison is out of date
    bob = new_key_file(reviewed.keys / "reviewer-bob.pem")
    forged(reviewed, lambda payload: [sign(bob, "bob", payload)], actor="anna")
    with pytest.raises(Refused, match="names 'anna', but 'bob' signed it"):
        champion(reviewed.store, MODEL)


def test_the_pipeline_s_own_key_signs_no_decision(reviewed: RegistryWorkspace) -> None:
    pipeline = new_key_file(reviewed.keys / "release.pem")
    forged(reviewed, lambda payload: [sign(pipeline, "release", payload)])
    with pytest.raises(Refused, match="not in the list of trusted keys"):
        champion(reviewed.store, MODEL)


def test_an_edited_record_does_not_fit_its_signature(reviewed: RegistryWorkspace) -> None:
    path = stored(reviewed, record_name(MODEL, 1))
    envelope = json.loads(path.read_bytes())
    envelope["record"]["reason"] = "something else"
    path.write_bytes(canonical_json(envelope))
    with pytest.raises(Refused, match="does not fit what it stands on"):
        champion(reviewed.store, MODEL)


def test_a_ledger_cut_short_is_noticed_and_not_built_upon(reviewed: RegistryWorkspace) -> None:
    reviewed.promote(2, "bob")
    stored(reviewed, record_name(MODEL, 2)).unlink()
    assert "ledger-cut-short" in whats(reviewed)
    for attempt in (lambda: reviewed.promote(2, "carl"), lambda: reviewed.release("c", champion=1)):
        with pytest.raises(Refused, match="cut short"):
            attempt()
    with pytest.raises(Refused, match="nothing was mended"):
        reconcile(reviewed.store, MODEL, reviewed.tracking_uri)
    assert len(read_ledger(reviewed.store, MODEL)) == 1


def test_a_ledger_written_anew_is_noticed(reviewed: RegistryWorkspace, tmp_path: Path) -> None:
    reviewed.promote(2, "bob")
    stored(reviewed, record_name(MODEL, 2)).unlink()
    anna = new_key_file(reviewed.keys / "reviewer-anna.pem")
    forged(reviewed, lambda payload: [sign(anna, "anna", payload)], reason="another history")
    assert "ledger-cut-or-rewritten" in whats(reviewed)
    with pytest.raises(Refused, match="is not the one that the registry remembers"):
        reviewed.promote(1, "carl", expect_champion=2)


def test_a_version_registered_by_hand_is_no_version(reviewed: RegistryWorkspace) -> None:
    with reviewed.registry() as client:
        client.create_model_version(MODEL, "s3://somewhere/else")
        client.set_registered_model_alias(MODEL, "champion", "3")
    with pytest.raises(InvalidInput, match="no whole version 3"):
        reviewed.promote(3, "bob")
    assert whats(reviewed) == {"alias-moved", "version-without-bundle"}


def test_a_weak_key_is_no_key(reviewed: RegistryWorkspace, tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization as form

    weak = ec.generate_private_key(ec.SECP192R1())
    pem = weak.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption()).decode()
    with pytest.raises(InvalidInput, match="expected an EC key on curve P-256"):
        reviewed.promote(2, "bob", key=pem)
