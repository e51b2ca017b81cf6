"""A Kubeflow Pipelines server as far as its published contract goes.

Routes, parameters and models are read from kfp-server-api, the client that is generated from the server's OpenAPI
document. A request on another route, with another parameter, or with a body that its model does not hold is refused
with 400; the server's own answers are held to the same models. Behind the contract stands a dictionary of objects.
"""

import email
import email.policy
import inspect
import json
import re
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlparse

import kfp_server_api
import yaml
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2

Value = dict[str, Any]


@dataclass(frozen=True)
class Route:
    method: str
    path: str
    name: str
    query: frozenset[str]
    body: str
    answer: str

    def match(self, method: str, path: str) -> dict[str, str] | None:
        pattern = re.sub(r"\\{([\w.]+)\\}", lambda m: f"(?P<{m[1].split('.')[-1]}>[^/:]+)", re.escape(self.path))
        found = re.fullmatch(pattern, path)
        return found.groupdict() if found and method == self.method else None


def published_routes() -> list[Route]:
    """Every route of the official client, from its sources."""
    apis = [kind for name, kind in vars(kfp_server_api).items() if name.endswith("ServiceApi")]
    return [
        read_route(name.removesuffix("_with_http_info"), inspect.getsource(method))
        for api in apis
        for name, method in vars(api).items()
        if name.endswith("_with_http_info")
    ]


def read_route(name: str, source: str) -> Route:
    called = re.search(r"call_api\(\s*'([^']+)',\s*'([A-Z]+)'", source)
    assert called, name
    body = re.search(r"body_params = local_var_params\['(\w+)'\]", source)
    kind = re.search(rf":type {body[1]}: (\w+)", source) if body else None
    answer = re.search(r"response_type='([^']+)'", source)
    query = frozenset(re.findall(r"query_params\.append\(\('([\w.]+)'", source))
    return Route(called[2], called[1], name, query, kind[1] if kind else "", answer[1] if answer else "object")


def misfit(kind: str, value: Any, where: str = "body") -> str:
    """Why `value` is no `kind` of the published models, or ""."""
    if value is None or kind == "object":
        return ""
    if inner := re.fullmatch(r"list\[(.+)\]", kind):
        return next((why for i, one in enumerate(value) if (why := misfit(inner[1], one, f"{where}[{i}]"))), "")
    if inner := re.fullmatch(r"dict\(str, (.+)\)", kind):
        return next((why for key, one in value.items() if (why := misfit(inner[1], one, f"{where}.{key}"))), "")
    # The server writes and reads whole numbers of 64 bits as text.
    plain = {"str": (str, int), "datetime": str, "bool": bool, "int": int, "float": (int, float)}
    if kind in plain:
        return "" if isinstance(value, plain[kind]) else f"{where}: {value!r} is no {kind}"  # type: ignore[arg-type]
    model = getattr(kfp_server_api, kind)
    if allowed := getattr(model, "allowable_values", None) or enumerated(model):
        return "" if value in allowed else f"{where}: {value!r} is none of {allowed}"
    if not isinstance(value, dict):
        return f"{where}: {value!r} is no {kind}"
    fields = {model.attribute_map[name]: inner for name, inner in model.openapi_types.items()}
    if unknown := value.keys() - fields.keys():
        return f"{where}: {kind} has no {sorted(unknown)}"
    return next((why for key, one in value.items() if (why := misfit(fields[key], one, f"{where}.{key}"))), "")


def enumerated(model: type) -> list[str]:
    return (
        [v for name, v in vars(model).items() if name.isupper() and isinstance(v, str)]
        if not model.openapi_types
        else []
    )


class Refused(Exception):
    """An answer other than 200."""

    def __init__(self, code: int, why: str) -> None:
        super().__init__(why)
        self.code = code


class ContractServer:
    """The objects behind the contract; `requests` lists every call as (route, parameters, body)."""

    def __init__(self) -> None:
        self.routes = published_routes()
        self.requests: list[tuple[str, dict[str, str], Any]] = []
        self.things: dict[str, dict[str, Value]] = {
            kind: {} for kind in ("experiment", "pipeline", "pipeline_version", "run", "recurring_run")
        }
        self.packages: dict[str, str] = {}
        self.fail_next: list[int] = []
        self.token = ""

    def answer(self, method: str, url: str, headers: Any, data: bytes) -> Value:
        parts = urlparse(url)
        matches = [(route, named) for route in self.routes if (named := route.match(method, parts.path)) is not None]
        if not matches:
            raise Refused(404, f"no such route: {method} {parts.path}")
        route, named = matches[0]
        if self.fail_next:
            raise Refused(self.fail_next.pop(0), "out of order")
        if self.token and headers.get("Authorization") != f"Bearer {self.token}":
            raise Refused(401, "Unauthorized")
        query = dict(parse_qsl(parts.query))
        if unknown := query.keys() - route.query:
            raise Refused(400, f"{route.name} has no parameter {sorted(unknown)}")
        body = self._body(route, headers, data)
        self.requests.append((route.name, query | named, body))
        handler = getattr(self, route.name.split("_service_")[-1], None)
        if handler is None:
            raise Refused(501, f"{route.name}: the contract has it, this server does not")
        value = handler(query | named, body)
        assert not (why := misfit(route.answer, value, "answer")), why
        return value

    def _body(self, route: Route, headers: Any, data: bytes) -> Any:
        if headers.get("Content-Type", "").startswith("multipart/form-data"):
            head = f"Content-Type: {headers['Content-Type']}\r\n\r\n".encode()
            (part, *_) = email.message_from_bytes(head + data, policy=email.policy.HTTP).iter_parts()
            return part.get_payload(decode=True).decode()
        body = json.loads(data) if data else None
        if why := misfit(route.body or "object", body):
            raise Refused(400, why)
        return body

    # One method a route, named as the contract names it.

    def get_healthz(self, query: Value, body: Any) -> Value:
        return {"multi_user": False}

    def create_experiment(self, query: Value, body: Value) -> Value:
        return self._add("experiment", body)

    def list_experiments(self, query: Value, body: Any) -> Value:
        return self._list("experiment", query)

    def get_experiment(self, query: Value, body: Any) -> Value:
        return self._get("experiment", query)

    def list_pipelines(self, query: Value, body: Any) -> Value:
        return self._list("pipeline", query)

    def get_pipeline(self, query: Value, body: Any) -> Value:
        return self._get("pipeline", query)

    def upload_pipeline(self, query: Value, body: str) -> Value:
        made = self._add("pipeline", {"display_name": query["name"]})
        self._add_version(made["pipeline_id"], query["name"], body)
        return made

    def upload_pipeline_version(self, query: Value, body: str) -> Value:
        self._get("pipeline", {"pipeline_id": query["pipelineid"]})
        return self._add_version(query["pipelineid"], query["name"], body)

    def list_pipeline_versions(self, query: Value, body: Any) -> Value:
        return self._list("pipeline_version", query, pipeline_id=query["pipeline_id"])

    def create_run(self, query: Value, body: Value) -> Value:
        self._known_version(body)
        return self._add("run", body | {"state": "PENDING"})

    def get_run(self, query: Value, body: Any) -> Value:
        return self._get("run", query)

    def list_runs(self, query: Value, body: Any) -> Value:
        return self._list("run", query)

    def create_recurring_run(self, query: Value, body: Value) -> Value:
        self._known_version(body)
        return self._add("recurring_run", body | {"status": "ENABLED" if body["mode"] == "ENABLE" else "DISABLED"})

    def list_recurring_runs(self, query: Value, body: Any) -> Value:
        return self._list("recurring_run", query, experiment_id=query.get("experiment_id"))

    def disable_recurring_run(self, query: Value, body: Any) -> Value:
        self._get("recurring_run", query).update(mode="DISABLE", status="DISABLED")
        return {}

    def delete_recurring_run(self, query: Value, body: Any) -> Value:
        self._get("recurring_run", query)
        del self.things["recurring_run"][query["recurring_run_id"]]
        return {}

    def _add_version(self, pipeline_id: str, name: str, package: str) -> Value:
        document = next(yaml.safe_load_all(package))
        json_format.ParseDict(document, pipeline_spec_pb2.PipelineSpec())
        version = self._add("pipeline_version", {"pipeline_id": pipeline_id, "display_name": name})
        self.packages[version["pipeline_version_id"]] = package
        return version

    def _known_version(self, body: Value) -> None:
        reference = body.get("pipeline_version_reference") or {}
        if reference.get("pipeline_version_id") not in self.things["pipeline_version"]:
            raise Refused(400, f"pipeline version {reference} not found")

    def _add(self, kind: str, body: Value) -> Value:
        thing = body | {f"{kind}_id": str(uuid.uuid4()), "created_at": datetime.now(UTC).isoformat()}
        same = [t for t in self.things[kind].values() if t["display_name"] == thing["display_name"]]
        if kind in ("experiment", "pipeline", "pipeline_version") and same:
            raise Refused(409, f"{kind} {thing['display_name']!r} exists already")
        self.things[kind][thing[f"{kind}_id"]] = thing
        return thing

    def _get(self, kind: str, query: Value) -> Value:
        thing = self.things[kind].get(query[f"{kind}_id"])
        if thing is None:
            raise Refused(404, f"{kind} {query[f'{kind}_id']} not found")
        return thing

    def _list(self, kind: str, query: Value, **equal: Any) -> Value:
        wanted = {key: value for key, value in equal.items() if value}
        for predicate in json.loads(query.get("filter") or "{}").get("predicates", []):
            assert predicate["operation"] in ("EQUALS", 1), predicate
            key = {"name": "display_name"}.get(predicate["key"], predicate["key"])
            wanted[key] = predicate.get("stringValue") or predicate.get("string_value")
        found = [t for t in self.things[kind].values() if all(t.get(key) == value for key, value in wanted.items())]
        # Small pages: whoever reads the first one only is found out.
        start = int(query.get("page_token") or 0)
        more = {"next_page_token": str(start + 2)} if start + 2 < len(found) else {}
        return {{"recurring_run": "recurringRuns"}.get(kind, f"{kind}s"): found[start : start + 2], **more}


@contextmanager
def serving(server: ContractServer) -> Iterator[str]:
    """Address of `server` on the loopback."""

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            try:
                code, value = 200, server.answer(self.command, self.path, self.headers, data)
            except Refused as refusal:
                code, value = refusal.code, {"error": str(refusal), "code": refusal.code}
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps(value).encode())

        do_GET = do_POST = do_DELETE = do_PATCH = answer

        def log_message(self, *_: Any) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{http.server_address[1]}"
    finally:
        http.shutdown()
        http.server_close()
