"""A plugin of the MLflow server (`mlflow server --app-name yanshan-guard`): basic-auth, and what it cannot say.

MLflow's permissions know models, not aliases: whoever may set `challenger` may set `champion` (mlflow#24742). Here only
those in the list of reviewers move `champion`; nobody renames or deletes what was released, or overwrites the files of
a finished model; and every attempt to change the registry leaves a line in the audit file.

Environment: YANSHAN_TRUST, the folder of trust with `reviewers.json`; YANSHAN_AUDIT, the audit file.
"""

import json
import os
import re
from pathlib import Path
from typing import Any

from flask import Flask, Response, make_response, request

from components.release.audit import write_line
from components.release.projection import HEAD
from components.shared.errors import YanshanError
from components.shared.signatures import read_trusted

REVIEWERS_ONLY = {"champion"}
MARKS = {HEAD}
NOBODY = (
    "/registered-models/rename",
    "/registered-models/delete",
    "/model-versions/delete",
    "/model-versions/transition-stage",
)
WATCHED = re.compile("/(registered-models|model-versions|logged-models|webhooks)/|/mlflow-artifacts/")
MODEL_FILES = re.compile(r"/mlflow-artifacts/.*/models/(m-[0-9a-f]{32})/")
LOGGED_MODEL = re.compile(r"/logged-models/(m-[0-9a-f]{32})$")


def create_app(app: Flask | None = None) -> Any:
    """The app that `mlflow server --app-name yanshan-guard` serves.

    Raises:
        KeyError: YANSHAN_TRUST or YANSHAN_AUDIT is not set.
    """
    import mlflow.server
    import mlflow.server.auth

    trust, audit = Path(os.environ["YANSHAN_TRUST"]), Path(os.environ["YANSHAN_AUDIT"])
    app = app or mlflow.server.app
    served = mlflow.server.auth.create_app(app)  # first: its own check of the password runs before ours
    app.before_request(lambda: guard(trust))
    app.after_request(lambda answer: written_down(answer, audit))
    return served


def guard(trust: Path) -> Response | None:
    """The refusal of a request that is not this user's to make; None lets it pass."""
    if request.method in ("GET", "HEAD", "OPTIONS"):
        return None
    try:
        why = refusal(request.path.rstrip("/"), asked(), user(), trust)
    except (YanshanError, OSError) as fault:
        why = f"the list of reviewers cannot be read: {fault}"
    if why is None:
        return None
    return make_response({"error_code": "PERMISSION_DENIED", "message": why}, 403)


def refusal(path: str, data: dict[str, Any], who: str, trust: Path) -> str | None:
    """Why this change is refused, None when it is not."""
    if path.endswith(NOBODY):
        return "released models and versions are never renamed, deleted or staged: `yanshan reject` or `rollback`"
    aliased = path.endswith("/registered-models/alias") and str(data.get("alias", "")).lower() in REVIEWERS_ONLY
    marked = path.endswith(("/registered-models/set-tag", "/registered-models/delete-tag")) and data.get("key") in MARKS
    if (aliased or marked) and who not in reviewers(trust):
        return f"only a listed reviewer moves {data.get('alias') or data.get('key')!r}; {who or 'nobody'!r} is none"
    model = MODEL_FILES.search(path) or LOGGED_MODEL.search(path)
    if model and finished(model[1]):
        return f"model {model[1]} is finished: its files and its state stay as they are"
    return None


def reviewers(trust: Path) -> set[str]:
    """Names in the list; it is read anew for every request."""
    return {key.name for key in read_trusted(trust / "reviewers.json")}


def finished(model_id: str) -> bool:
    """Whether a LoggedModel is complete."""
    from mlflow.server.handlers import _get_tracking_store

    try:
        return bool(_get_tracking_store().get_logged_model(model_id).status == "READY")
    except Exception:  # unknown ids are the server's to refuse
        return False


def user() -> str:
    """Name that the password was checked for."""
    return str(request.authorization.username or "") if request.authorization else ""


def asked() -> dict[str, Any]:
    """Body and query as MLflow reads them; old clients send JSON inside a JSON string."""
    data = request.get_json(force=True, silent=True) if "mlflow-artifacts" not in request.path else None
    if isinstance(data, str):
        try:
            data = json.loads(data)
        except ValueError:
            data = None
    return {**request.args.to_dict(), **(data if isinstance(data, dict) else {})}


def written_down(answer: Response, audit: Path) -> Response:
    """Leave a line about an attempt to change the registry; other bodies hold passwords and are not looked at."""
    if request.method not in ("GET", "HEAD", "OPTIONS") and WATCHED.search(request.path):
        data = asked()
        told: dict[str, Any] = {
            key: str(data[key])[:200] for key in ("name", "alias", "version", "key", "new_name") if key in data
        }
        place = {"user": user(), "method": request.method, "path": request.path, "status": answer.status_code}
        write_line(audit, {**told, **place})
    return answer
