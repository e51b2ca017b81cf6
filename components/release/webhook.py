"""A receiver of MLflow's webhooks: it checks who calls and wakes the uptake; the news itself is read from the registry.

MLflow's webhooks name no user and are lost at a restart, so they only wake: the base is asking every few minutes.
"""

import base64
import hashlib
import hmac
import logging
import threading
import time
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from components.shared.errors import Refused

logger = logging.getLogger(__name__)
MAX_BODY_BYTES = 1_000_000


class Deliveries:
    """Checks deliveries, and remembers them for as long as they could be replayed."""

    def __init__(self, secret: str, window_s: int = 300) -> None:
        self._secret = secret.encode()
        self._window_s = window_s
        self._seen: dict[str, float] = {}
        self._lock = threading.Lock()

    def check(self, headers: Mapping[str, str], body: bytes) -> None:
        """Let a delivery pass that MLflow signed just now and that was not seen before.

        Raises:
            Refused: unsigned, wrongly signed, too old or too new, or a replay.

        Source: MLflow's webhook signature, HMAC-SHA256 over "<delivery id>.<timestamp>.<body>".
        """
        told = {name.lower(): value for name, value in headers.items()}
        delivery, stamp = told.get("x-mlflow-delivery-id", ""), told.get("x-mlflow-timestamp", "")
        signed = f"{delivery}.{stamp}.".encode() + body
        want = "v1," + base64.b64encode(hmac.new(self._secret, signed, hashlib.sha256).digest()).decode()
        if not hmac.compare_digest(want.encode(), told.get("x-mlflow-signature", "").encode("latin-1", "replace")):
            raise Refused("webhook: the signature is missing or does not fit the body")
        if not stamp.isdigit() or abs(time.time() - int(stamp)) > self._window_s:
            raise Refused(f"webhook: its time {stamp!r} is more than {self._window_s} s away from this machine's")
        with self._lock:
            now = time.time()
            self._seen = {one: at for one, at in self._seen.items() if now - at <= 2 * self._window_s}
            if delivery in self._seen:
                raise Refused(f"webhook: delivery {delivery} was received before")
            self._seen[delivery] = now


def start_receiver(host: str, port: int, deliveries: Deliveries, wake: Callable[[], None]) -> ThreadingHTTPServer:
    """Serve POST / (202 and wake, or 401) and GET /health in a thread; `shutdown()` ends it."""

    class Receiver(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(200 if self.path == "/health" else 404)

        def do_POST(self) -> None:
            length = self.headers.get("Content-Length", "")
            if not length.isdigit() or int(length) > MAX_BODY_BYTES:
                self._answer(413)
                return
            try:
                deliveries.check(dict(self.headers.items()), self.rfile.read(int(length)))
            except Refused as no:
                logger.warning("refused from=%s why=%s", self.client_address[0], no)
                self._answer(401)
                return
            self._answer(202)
            wake()

        def _answer(self, status: int) -> None:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            logger.debug(format, *args)

    server = ThreadingHTTPServer((host, port), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True, name="webhooks").start()
    return server
