"""The guard of the MLflow server: who may move champion, what nobody may do, and what is written down."""

import json
from pathlib import Path

import pytest
from flask import Flask, Response

from components.release.audit import read_lines, write_line
from components.release.guard import guard, written_down
from components.shared.errors import InvalidInput
from components.shared.signatures import new_key_file, public_pem

API = "/api/2.0/mlflow"
ALIAS = f"{API}/registered-models/alias"


@pytest.fixture
def trust(tmp_path: Path) -> Path:
    pem = public_pem(new_key_file(tmp_path / "anna.pem"))
    (tmp_path / "reviewers.json").write_text(json.dumps({"reviewers": [{"name": "anna", "public_key": pem}]}))
    return tmp_path


def asked(trust: Path, user: str, method: str, path: str, body=None, query=None) -> int:
    """Status that the guard answers with; 200 where it lets the request pass."""
    context = Flask("server").test_request_context(path, method=method, json=body, query_string=query, auth=(user, "x"))
    with context:
        answer = guard(trust)
        return answer.status_code if answer else 200


BODY = {"name": "parts", "alias": "champion", "version": "2"}


@pytest.mark.parametrize(
    "method, body, query",
    [
        ("POST", BODY, None),
        ("POST", BODY | {"alias": "Champion"}, None),
        ("POST", json.dumps(BODY), None),
        ("POST", None, BODY),
        ("DELETE", None, BODY),
        ("DELETE", BODY, None),
    ],
)
def test_only_a_listed_reviewer_moves_champion(trust: Path, method: str, body, query) -> None:
    for prefix in ("", "/ajax-api/2.0/mlflow", "/static/api/2.0/mlflow"):
        path = ALIAS if not prefix else f"{prefix}/registered-models/alias/"
        assert asked(trust, "pipeline", method, path, body, query) == 403
        assert asked(trust, "", method, path, body, query) == 403
        assert asked(trust, "anna", method, path, body, query) == 200


def test_the_pipeline_still_sets_challenger_and_reads_all(trust: Path) -> None:
    assert asked(trust, "pipeline", "POST", ALIAS, BODY | {"alias": "challenger"}) == 200
    assert asked(trust, "pipeline", "GET", ALIAS, None, BODY) == 200
    assert asked(trust, "pipeline", "POST", f"{API}/registered-models/set-tag", {"key": "note", "name": "parts"}) == 200


@pytest.mark.parametrize(
    "method, tail",
    [
        ("POST", "registered-models/rename"),
        ("DELETE", "registered-models/delete"),
        ("DELETE", "model-versions/delete"),
        ("POST", "model-versions/transition-stage"),
    ],
)
def test_nobody_renames_deletes_or_stages(trust: Path, method: str, tail: str) -> None:
    for user in ("pipeline", "anna"):
        assert asked(trust, user, method, f"{API}/{tail}", {"name": "parts"}) == 403


def test_the_ledger_s_mark_is_not_the_pipeline_s_to_change(trust: Path) -> None:
    body = {"name": "parts", "key": "yanshan.ledger_head", "value": "0:"}
    assert asked(trust, "pipeline", "POST", f"{API}/registered-models/set-tag", body) == 403
    assert asked(trust, "pipeline", "DELETE", f"{API}/registered-models/delete-tag", body) == 403
    assert asked(trust, "anna", "POST", f"{API}/registered-models/set-tag", body) == 200


def test_a_list_that_cannot_be_read_lets_nobody_through(trust: Path) -> None:
    (trust / "reviewers.json").write_text("{")
    assert asked(trust, "anna", "POST", ALIAS, BODY) == 403


def test_every_attempt_leaves_a_line_without_passwords(trust: Path) -> None:
    audit = trust / "audit.jsonl"
    body = BODY | {"password": "secret"}
    for status, user in ((403, "pipeline"), (200, "anna")):
        with Flask("server").test_request_context(ALIAS, method="POST", json=body, auth=(user, "secret")):
            written_down(Response(status=status), audit)
    with Flask("server").test_request_context(f"{API}/users/create", method="POST", json={"password": "secret"}):
        written_down(Response(), audit)
    lines = list(read_lines(audit))
    assert [(line["user"], line["status"], line["version"]) for line in lines] == [
        ("pipeline", 403, "2"),
        ("anna", 200, "2"),
    ]
    assert "secret" not in audit.read_text()


def test_a_changed_audit_file_is_noticed(trust: Path) -> None:
    audit = trust / "audit.jsonl"
    for number in range(3):
        write_line(audit, {"user": f"user-{number}"})
    audit.write_text(audit.read_text().replace("user-1", "user-9"))
    with pytest.raises(InvalidInput, match="line 3: does not name the line before it"):
        list(read_lines(audit))
