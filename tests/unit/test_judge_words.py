"""The answer in one word, in a table, and in a message."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from components.approved.approved import answer
from components.judge.words import verdict_markdown
from components.notify.notify import send_notice
from components.notify.settings import NotifySettings
from components.shared.errors import InvalidInput
from components.shared.nights import decided_nights, read_decision, record_decision, run_key
from components.shared.store import Store

DECISION = {
    "verdict": "refused",
    "run_key": "k",
    "model_name": "parts",
    "reasons": ["recall of bolt fell"],
    "rules": [{"rule": "a|b", "verdict": "fail", "sentence": "recall of bolt | fell"}],
    "champion_version": 3,
    "test_set": "main@v1",
    "decided_at": "2026-01-02",
}


def write(folder: Path, content: str) -> Path:
    folder.mkdir()
    (folder / "decision.json").write_text(content)
    return folder


@pytest.mark.parametrize(("verdict", "word"), [("approved", "yes"), ("refused", "no"), ("undecided", "yes")])
def test_a_reviewer_sees_what_was_not_refused(tmp_path: Path, verdict: str, word: str) -> None:
    assert answer(write(tmp_path / "decision", json.dumps({"verdict": verdict}))) == word


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"verdict": "sure"}'])
def test_what_is_no_decision_is_no_answer(tmp_path: Path, content: str) -> None:
    with pytest.raises(InvalidInput, match=r"decision\.json"):
        answer(write(tmp_path / "decision", content))


def test_the_verdict_for_people_says_what_why_and_by_which_rule() -> None:
    text = verdict_markdown(DECISION)
    assert text.startswith("# Refused") and "- recall of bolt fell" in text and "champion version 3" in text
    assert "| `a/b` | **FAIL** | recall of bolt / fell |" in text


def test_a_night_has_one_name_whatever_kubeflow_made_of_its_numbers() -> None:
    assert run_key("d", [{"epochs": 3, "rate": 0.5, "on": True}]) == run_key(
        "d", [{"epochs": 3.0, "rate": 0.5, "on": True}]
    )
    assert run_key("d", [{"epochs": 3}]) != run_key("d", [{"epochs": 4}]) != run_key("e", [{"epochs": 4}])


def test_decided_nights_come_back_oldest_first(store: Store) -> None:
    record_decision(store, "b" * 64, DECISION | {"run_key": "b" * 64, "decided_at": "2026-01-03"})
    record_decision(store, "a" * 64, DECISION | {"run_key": "a" * 64})
    record_decision(store, "c" * 64, DECISION | {"run_key": "c" * 64, "model_name": "others"})
    store.put(f"runs/{'a' * 64}/plan.json", b"{}")
    assert [decision["run_key"][0] for decision in decided_nights(store, "parts")] == ["a", "b"]
    assert read_decision(store, "f" * 64) is None


def notices(store: Store) -> list[dict]:
    return [json.loads(store.get(name)) for name in store.list("runs/notices")]


def test_a_notice_is_recorded_and_says_how_the_night_ended(store: Store) -> None:
    record_decision(store, "a" * 64, DECISION | {"run_key": "a" * 64})
    send_notice("SUCCEEDED", "", store, "parts", "nightly", NotifySettings())
    send_notice("FAILED", "disk full", store, "parts", "", NotifySettings())
    first, second = notices(store)
    assert first["text"] == "parts: night succeeded (nightly). Newest decision: refused: recall of bolt fell"
    assert second["text"] == "parts: night failed: disk full"


def test_a_webhook_is_called_and_its_silence_harms_nobody(store: Store) -> None:
    heard: list[dict] = []

    class Ear(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200 if len(heard) == 1 else 500)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = HTTPServer(("127.0.0.1", 0), Ear)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/"
    for webhook in (url, url, "http://127.0.0.1:1/", "no url"):
        send_notice("SUCCEEDED", "", store, "parts", "x", NotifySettings(webhook_url=webhook, timeout_s=2))
    server.shutdown()
    assert len(heard) == 2 and heard[0]["text"].startswith("parts: night succeeded")
    assert len(notices(store)) == 4
