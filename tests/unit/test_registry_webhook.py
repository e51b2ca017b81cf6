"""The receiver of MLflow's webhooks, over real HTTP."""

import base64
import hashlib
import hmac
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

from components.release.webhook import Deliveries, start_receiver

SECRET = "shared secret"
BODY = b'{"entity":"model_version_alias","action":"created"}'


@pytest.fixture
def receiver() -> Iterator[tuple[str, threading.Event]]:
    woken = threading.Event()
    server = start_receiver("127.0.0.1", 0, Deliveries(SECRET), woken.set)
    yield f"http://127.0.0.1:{server.server_address[1]}", woken
    server.shutdown()
    server.server_close()


def signed(body: bytes = BODY, delivery: str = "one", age_s: int = 0, secret: str = SECRET) -> dict[str, str]:
    stamp = str(int(time.time()) - age_s)
    digest = hmac.new(secret.encode(), f"{delivery}.{stamp}.".encode() + body, hashlib.sha256).digest()
    signature = "v1," + base64.b64encode(digest).decode()
    return {"X-MLflow-Delivery-Id": delivery, "X-MLflow-Timestamp": stamp, "X-MLflow-Signature": signature}


def post(url: str, headers: dict[str, str], body: bytes = BODY) -> int:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as refusal:
        return refusal.code


def test_a_delivery_that_mlflow_signed_wakes_the_uptake_once(receiver) -> None:
    url, woken = receiver
    headers = signed()
    assert post(url, headers) == 202
    assert woken.wait(5)
    woken.clear()
    assert post(url, headers) == 401
    assert not woken.is_set()
    assert post(url, signed(delivery="two")) == 202


@pytest.mark.parametrize(
    "headers, body",
    [
        ({}, BODY),
        (signed() | {"X-MLflow-Signature": ""}, BODY),
        (signed() | {"X-MLflow-Signature": "v1,\xff\xfe"}, BODY),
        (signed(secret="guessed"), BODY),
        (signed(), BODY + b" "),
        (signed() | {"X-MLflow-Delivery-Id": "other"}, BODY),
        (signed() | {"X-MLflow-Timestamp": "now"}, BODY),
        (signed(age_s=301), BODY),
        (signed(age_s=-3000), BODY),
    ],
)
def test_an_unsigned_foreign_old_or_changed_delivery_wakes_nobody(receiver, headers, body) -> None:
    url, woken = receiver
    assert post(url, headers, body) == 401
    assert not woken.is_set()


def test_a_flood_is_not_read(receiver) -> None:
    url, woken = receiver
    assert post(url, signed() | {"Content-Length": "2000000"}, b"") == 413
    assert not woken.is_set()


def test_it_says_that_it_lives(receiver) -> None:
    with urllib.request.urlopen(f"{receiver[0]}/health", timeout=10) as answer:
        assert answer.status == 200
