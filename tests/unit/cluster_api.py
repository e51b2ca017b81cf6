"""As much of a Kubernetes API server as our code speaks to: objects by path, over HTTP, for the official client."""

import json
import re
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlparse

from kubernetes import client

Object = dict[str, Any]
PATH = re.compile(
    r"/(?P<api>api/v1|apis/[\w.]+/\w+)(?:/namespaces/(?P<namespace>[\w-]+))?/(?P<plural>[\w-]+)"
    r"(?:/(?P<name>[\w.-]+))?(?P<log>/log)?"
)


class ClusterAPI:
    """Objects by (plural, name); `fail` holds status codes that the next calls are answered with."""

    def __init__(self) -> None:
        self.things: dict[tuple[str, str], Object] = {}
        self.logs: dict[str, str] = {}
        self.fail: list[int] = []
        self.forbidden: set[str] = set()
        self.calls: list[tuple[str, str]] = []
        self.on_get: Callable[[str, Object], None] = lambda plural, thing: None

    def put(self, plural: str, name: str, **fields: Any) -> Object:
        metadata = {"name": name, "uid": str(uuid.uuid4())} | fields.pop("metadata", {})
        self.things[plural, name] = {"metadata": metadata, **fields}
        return self.things[plural, name]

    def answer(self, method: str, url: str, body: Any) -> tuple[int, Any]:
        parts = urlparse(url)
        match = PATH.fullmatch(parts.path)
        assert match, url
        self.calls.append((method, parts.path))
        if self.fail:
            return self.fail.pop(0), {"message": "away"}
        plural, name = match["plural"], match["name"] or ""
        if plural in self.forbidden:
            return 403, {"message": "forbidden"}
        if match["log"]:
            return 200, self.logs.get(name, "")
        if method == "POST":
            name = body["metadata"]["name"]
            if (plural, name) in self.things:
                return 409, {"message": "exists"}
            return 201, self.put(plural, name, **body)
        if not name:
            return 200, {"items": list(self._selected(plural, dict(parse_qsl(parts.query)).get("labelSelector", "")))}
        if (plural, name) not in self.things:
            return 404, {"message": "not found"}
        if method == "DELETE":
            return 200, self.things.pop((plural, name))
        self.on_get(plural, self.things[plural, name])
        return 200, self.things[plural, name]

    def _selected(self, plural: str, selector: str) -> Iterator[Object]:
        wanted = dict(pair.split("=") for pair in selector.split(",") if pair)
        for (kind, _), thing in self.things.items():
            if kind == plural and wanted.items() <= thing["metadata"].get("labels", {}).items():
                yield thing


@contextmanager
def serving(cluster: ClusterAPI) -> Iterator[client.ApiClient]:
    """The official client, pointed at `cluster` on the loopback."""

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            code, value = cluster.answer(self.command, self.path, json.loads(data) if data else None)
            text = value if isinstance(value, str) else json.dumps(value)
            self.send_response(code)
            self.send_header("Content-Type", "text/plain" if isinstance(value, str) else "application/json")
            self.end_headers()
            self.wfile.write(text.encode())

        do_GET = do_POST = do_DELETE = answer

        def log_message(self, *_: Any) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    configuration = client.Configuration(host=f"http://127.0.0.1:{http.server_address[1]}")
    configuration.retries = False
    try:
        yield client.ApiClient(configuration)
    finally:
        http.shutdown()
        http.server_close()
