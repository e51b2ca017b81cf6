"""A reviewer's decisions on a real registry, and what the policy asks of them."""

import json
from pathlib import Path

import pytest

from components.judge.settings import JudgeSettings
from components.release.decisions import reject, rollback, waive
from components.release.evidence import evidence
from components.release.promotion import Reviewer
from components.release.verification import reconcile, verify
from components.shared.errors import InvalidInput, MissingCapability, Refused, ServiceFault
from components.shared.ledger import read_ledger
from components.shared.releases import champion
from components.shared.signatures import new_key_file, public_pem
from pipelines.commands.regate import ask_gate_again
from pipelines.commands.reviewing import version_text
from tests.registry_workspace import MODEL, RegistryWorkspace

ANNA = Reviewer("anna", "seen on the line")


def set_policy(workspace: RegistryWorkspace, **policy) -> None:
    (workspace.keys / "policy.json").write_text(json.dumps(policy))


def enlist(workspace: RegistryWorkspace, name: str, **more) -> Path:
    """Put a reviewer with a key of their own in the list."""
    path = workspace.root / f"private-{name}.pem"
    pem = public_pem(new_key_file(path))
    listing = workspace.keys / "reviewers.json"
    listed = json.loads(listing.read_text())["reviewers"] if listing.exists() else []
    listing.write_text(json.dumps({"reviewers": [*listed, {"name": name, "public_key": pem, **more}]}))
    return path


def two_champions(workspace: RegistryWorkspace) -> None:
    """Version 1 and then version 2 were champion."""
    workspace.release("a")
    workspace.promote(1)
    workspace.release("b", champion=1)
    workspace.promote(2)


def test_a_rollback_is_a_new_record_and_the_registry_follows(workspace: RegistryWorkspace) -> None:
    two_champions(workspace)
    record = rollback(workspace.store, MODEL, 1, ANNA, workspace.tracking_uri, expect_champion=2)
    assert (record["seq"], record["kind"], record["champion"], record["champion_before"]) == (3, "rollback", 1, 2)
    assert champion(workspace.store, MODEL).version == 1
    assert workspace.aliases() == {"champion": 1}
    with pytest.raises(Refused, match="version 1 is champion; a rollback goes to"):
        rollback(workspace.store, MODEL, 1, Reviewer("bob", "again"), workspace.tracking_uri)
    with pytest.raises(Refused, match="was champion before: `yanshan rollback`"):
        workspace.promote(2, "bob")
    assert verify(workspace.store, MODEL, workspace.tracking_uri) == []


def test_a_rejected_version_loses_its_alias_and_is_never_promoted(workspace: RegistryWorkspace) -> None:
    workspace.release("a")
    reject(workspace.store, MODEL, 1, ANNA, workspace.tracking_uri)
    assert workspace.aliases() == {}
    with pytest.raises(Refused, match="was rejected"):
        workspace.promote(1, "bob")
    with pytest.raises(Refused, match="is rejected; only a candidate"):
        reject(workspace.store, MODEL, 1, Reviewer("bob", "too"), workspace.tracking_uri)
    assert [record.body["kind"] for record in read_ledger(workspace.store, MODEL)] == ["reject"]
    workspace.release("b")
    assert workspace.aliases() == {"challenger": 2}


UNSURE = JudgeSettings(min_key_boxes=500, key_classes=["green"])
"""The sample nights' test set holds 200 boxes of each class."""


def test_an_undecided_version_waits_for_a_waiver_before_it_challenges(workspace: RegistryWorkspace) -> None:
    workspace.release("a")
    workspace.promote(1)
    record = workspace.release("b", champion=1, settings=UNSURE)
    assert (record["version"], record["verdict"], record["open_rules"]) == (2, "undecided", "enough_boxes:green")
    assert workspace.aliases() == {"champion": 1}
    shown = evidence(workspace.store, MODEL, 2)
    assert (shown["state"], shown["open_rules"]) == ("candidate", ["enough_boxes:green"])
    assert "yanshan waive 2 enough_boxes:green" in version_text(MODEL, shown, "report.html")
    with pytest.raises(Refused, match=r"`yanshan waive VERSION GATE` can waive: enough_boxes:green"):
        workspace.promote(2, regate=ask_gate_again)
    looked = Reviewer("anna", "looked at 400 boxes by hand")
    waive(workspace.store, MODEL, 2, "enough_boxes:green", looked, workspace.tracking_uri)
    assert workspace.aliases() == {"champion": 1, "challenger": 2}
    assert evidence(workspace.store, MODEL, 2)["open_rules"] == []
    record = workspace.promote(2, regate=ask_gate_again)
    assert record["gate"] == {"verdict": "undecided", "waived": ["enough_boxes:green"], "asked_again": True}
    assert workspace.aliases() == {"champion": 2}
    assert verify(workspace.store, MODEL, workspace.tracking_uri) == []


def test_an_undecided_night_takes_no_challenger_from_an_approved_one(workspace: RegistryWorkspace) -> None:
    workspace.release("a")
    workspace.promote(1)
    workspace.release("b", champion=1)
    workspace.release("c", champion=1, settings=UNSURE)
    assert workspace.aliases() == {"champion": 1, "challenger": 2}


def test_the_gate_is_asked_again_under_the_policy_of_today(workspace: RegistryWorkspace) -> None:
    workspace.release("a")
    set_policy(workspace, reviewers="open", gate={"min_map_50_95": 0.6})
    with pytest.raises(Refused, match=r"int8 mAP is 0\.496, the floor is 0\.600"):
        workspace.promote(1, regate=ask_gate_again)
    assert champion(workspace.store, MODEL) is None
    set_policy(workspace, reviewers="open", gate={"no_such_setting": 1})
    with pytest.raises(InvalidInput, match="no_such_setting"):
        workspace.promote(1, regate=ask_gate_again)
    set_policy(workspace, reviewers="open")
    assert workspace.promote(1, regate=ask_gate_again)["gate"]["asked_again"] is True


def test_a_waived_gate_no_longer_counts_and_stays_on_record(workspace: RegistryWorkspace) -> None:
    workspace.release("a")
    set_policy(workspace, reviewers="open", gate={"min_map_50_95": 0.6})
    with pytest.raises(Refused, match="has no gate 'beauty'"):
        waive(workspace.store, MODEL, 1, "beauty", ANNA, workspace.tracking_uri)
    waive(workspace.store, MODEL, 1, "map_floor", ANNA, workspace.tracking_uri)
    record = workspace.promote(1, "bob", regate=ask_gate_again)
    assert record["gate"] == {"verdict": "refused", "waived": ["map_floor"], "asked_again": True}
    assert [one.body["kind"] for one in read_ledger(workspace.store, MODEL)] == ["waive", "promote"]


def test_a_comparison_with_an_earlier_champion_does_not_promote(workspace: RegistryWorkspace) -> None:
    workspace.release("a")
    workspace.release("b")
    workspace.promote(1)
    with pytest.raises(Refused, match="Measured against champion none, but the champion is 1 now"):
        workspace.promote(2)
    waive(workspace.store, MODEL, 2, "compared_champion", ANNA, workspace.tracking_uri)
    assert workspace.promote(2)["champion"] == 2


def test_nobody_promotes_their_own_night_unless_the_policy_lets_them(workspace: RegistryWorkspace) -> None:
    workspace.release("a", author="Anna")
    set_policy(workspace, reviewers="open")
    with pytest.raises(Refused, match="'Anna' started the night"):
        workspace.promote(1, "anna")
    assert workspace.promote(1, "bob")["champion"] == 1


def test_two_reviewers_where_the_policy_says_so(workspace: RegistryWorkspace) -> None:
    workspace.release("a")
    set_policy(workspace, reviewers="open", approvals=2)
    assert workspace.promote(1, "anna")["kind"] == "approve"
    assert champion(workspace.store, MODEL) is None
    assert workspace.aliases() == {"challenger": 1}
    with pytest.raises(Refused, match="'anna' has approved this version in record 1 already"):
        workspace.promote(1, "anna", "once more")
    record = workspace.promote(1, "bob")
    assert (record["kind"], record["champion"], record["approvals"]) == ("promote", 1, [1])
    assert workspace.aliases() == {"champion": 1}


def test_only_listed_reviewers_with_a_key_that_holds_decide(workspace: RegistryWorkspace) -> None:
    workspace.release("a")
    set_policy(workspace, reviewers="listed")
    anna = enlist(workspace, "anna")
    old = enlist(workspace, "olga", valid_until="2020-01-01T00:00:00+00:00")
    early = enlist(workspace, "emil", valid_from="2999-01-01T00:00:00+00:00")
    with pytest.raises(MissingCapability, match="'anna': no key"):
        workspace.promote(1, "anna")
    with pytest.raises(Refused, match="'mallory' is not in"):
        workspace.promote(1, "mallory", key=str(anna))
    new_key_file(workspace.root / "other.pem")
    with pytest.raises(Refused, match=r"'anna': got key .* the list has"):
        workspace.promote(1, "anna", key=str(workspace.root / "other.pem"))
    for name, key in (("olga", old), ("emil", early)):
        with pytest.raises(Refused, match="valid from"):
            workspace.promote(1, name, key=str(key))
    with pytest.raises(InvalidInput, match="cannot be read"):
        workspace.promote(1, "anna", key="/no/such/key.pem")
    assert read_ledger(workspace.store, MODEL) == []
    assert workspace.promote(1, "anna", key=anna.read_text())["champion"] == 1


def test_a_key_service_signs_in_place_of_a_file(workspace: RegistryWorkspace, monkeypatch) -> None:
    key = workspace.root / "vault.pem"
    new_key_file(key)
    service = workspace.root / "service.sh"
    service.write_text(
        "#!/bin/sh\n"
        f'if [ "$1" = public-key ]; then openssl ec -in {key} -pubout 2>/dev/null; '
        f"else openssl dgst -sha256 -sign {key}; fi\n"
    )
    service.chmod(0o700)
    workspace.keys.mkdir()
    set_policy(workspace, reviewers="open")
    (workspace.keys / "release-keys.pem").write_text(public_pem(new_key_file(key)))
    monkeypatch.setenv("YANSHAN_SIGNING_KEY", f"exec:{service}")
    workspace.release("a")
    record = workspace.promote(1, "anna", key=f"exec:{service}")
    assert record["champion"] == 1
    assert verify(workspace.store, MODEL, workspace.tracking_uri) == []


def test_a_clock_far_behind_the_last_record_is_told(workspace: RegistryWorkspace, monkeypatch) -> None:
    two_champions(workspace)
    workspace.release("c", champion=2)

    class Behind:
        @staticmethod
        def now(zone):
            from datetime import datetime, timedelta

            return datetime.now(zone) - timedelta(hours=1)

        @staticmethod
        def fromisoformat(text):
            from datetime import datetime

            return datetime.fromisoformat(text)

    monkeypatch.setattr("components.release.promotion.datetime", Behind)
    with pytest.raises(Refused, match="ahead of this machine's clock"):
        workspace.promote(3)


def test_a_registry_that_does_not_answer_changes_nothing(workspace: RegistryWorkspace, monkeypatch) -> None:
    workspace.release("a")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    from components.release.promotion import promote

    with pytest.raises(ServiceFault, match=r"MLflow at http://127\.0\.0\.1:9"):
        promote(workspace.store, MODEL, 1, "anna", "better", "http://user:secret@127.0.0.1:9")
    assert read_ledger(workspace.store, MODEL) == []


def test_the_interrupted_reviewer_repeats_the_command(workspace: RegistryWorkspace) -> None:
    workspace.release("a")
    first = workspace.promote(1, expect_champion=0)
    with workspace.registry() as client:
        client.delete_registered_model_alias(MODEL, "champion")
    assert workspace.promote(1, expect_champion=0) == first
    assert workspace.aliases() == {"champion": 1}
    assert len(read_ledger(workspace.store, MODEL)) == 1


def test_drift_is_found_named_and_mended(workspace: RegistryWorkspace) -> None:
    two_champions(workspace)
    with workspace.registry() as client:
        client.set_registered_model_alias(MODEL, "champion", "1")
        client.set_model_version_tag(MODEL, "1", "promotion.state", "champion")
    found = {finding.what: finding.message for finding in verify(workspace.store, MODEL, workspace.tracking_uri)}
    assert found == {
        "alias-moved": "alias champion shows version 1, the ledger says 2",
        "state-tag": "version 1 is tagged 'champion', the ledger says 'retired'",
    }
    assert all(finding.mended for finding in reconcile(workspace.store, MODEL, workspace.tracking_uri))
    assert verify(workspace.store, MODEL, workspace.tracking_uri) == []
    with workspace.registry() as client:
        client.delete_model_version(MODEL, "2")
    left = reconcile(workspace.store, MODEL, workspace.tracking_uri)
    assert [finding.what for finding in left if not finding.mended] == ["alias-missing", "version-missing"]
    assert champion(workspace.store, MODEL).version == 2
