"""The demo: two nights on the sample parts, a promotion between them, and what they came to.

Every phase looks at what already lies in the workspace, so a demo that was stopped carries on.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any, Literal

from components.shared.errors import Refused, YanshanError
from components.shared.releases import Release, champion, releases
from components.shared.store import Store, open_store
from pipelines.local import Workspace, note, run_night, write_json
from pipelines.recipes import Recipe, demo

REVIEWER = "demo-reviewer"
SEED = 7


def run_demo(workspace: Workspace, day_images: int, night_images: int) -> dict[str, Any]:
    """Run the demo in `workspace` and return the numbers (also in `demo.json`).

    Raises:
        Refused: the gate turned a night down.
        YanshanError: a step failed, or a night with nothing new was paid for.
    """
    began = time.monotonic()
    recipe, store = demo(), open_store(workspace.store_uri)
    inbox = workspace.root / "inbox"
    inbox.mkdir(exist_ok=True)

    _title("1/5  Day shift: labelled images arrive in the inbox")
    _shift(inbox, "day", day_images)
    _title("2/5  Night 1: train, export, quantize, measure, judge, release")
    first = _released(recipe, workspace, store, 1, "demo night 1: day shift")
    _title("3/5  A reviewer promotes version 1; the night shift's images arrive")
    _promote(workspace, store, recipe.model_name, first)
    _shift(inbox, "night", night_images)
    _title("4/5  Night 2: start from the champion, learn the night shift, compare")
    second = _released(recipe, workspace, store, 2, "demo night 2: night shift")
    _title("5/5  A third run: nothing new in the inbox")
    _expect_skip(recipe, workspace)

    numbers = demo_numbers(store, second) | {"seconds": round(time.monotonic() - began, 1)}
    numbers["report"] = str(_bring_report(workspace, store, second))
    write_json(workspace.root / "demo.json", numbers)
    return numbers


def demo_numbers(store: Store, release: Release) -> dict[str, Any]:
    """The scores of champion and challenger in the release's bundle, one entry a version."""
    scores = json.loads(store.get(f"{release.prefix}/scores/scores.json"))
    pairs = [(scores["champion_version"], scores["champion"]), (release.version, scores["challenger"])]
    versions = [
        {"version": version, **_measures(models["float"]), "int8": _measures(models["int8"])}
        for version, models in pairs
        if models
    ]
    return {"versions": versions}


def demo_table(numbers: dict[str, Any]) -> str:
    """The numbers as a table, one column a version and precision, one line a measure."""
    columns = [
        (f"v{v['version']} {kind}", measures)
        for v in numbers["versions"]
        for kind, measures in (("float", v), ("INT8", v["int8"]))
    ]
    rows = [
        ("mAP50-95", [f"{m['map_50_95']:.3f}" for _, m in columns]),
        ("mAP50", [f"{m['map_50']:.3f}" for _, m in columns]),
    ]
    for shift in sorted({s for _, m in columns for s in m["by_shift"]}):
        for key, called in (("map_50_95", "mAP50-95"), ("map_50", "mAP50")):
            rows.append((f"  {shift} shift {called}", [f"{m['by_shift'][shift][key]:.3f}" for _, m in columns]))
    for name in columns[0][1]["recall_by_class"]:
        rows.append((f"  recall {name}", [f"{m['recall_by_class'][name]:.3f}" for _, m in columns]))
    rows.append(("size MB", [f"{m['size_bytes'] / 1e6:.2f}" for _, m in columns]))
    rows.append(("latency ms (p50)", [f"{m['latency_ms']:.2f}" for _, m in columns]))
    lines = [f"{'':<24}" + "".join(f"{name:>12}" for name, _ in columns)]
    lines += [f"{label:<24}" + "".join(f"{value:>12}" for value in values) for label, values in rows]
    return "\n".join(lines)


def _measures(model: dict[str, Any]) -> dict[str, Any]:
    shifts = model["slices"]["shift"]
    return {
        "map_50_95": model["map_50_95"],
        "map_50": model["map_50"],
        "by_shift": {
            name: {key: shift[key] for key in ("map_50_95", "map_50", "images", "boxes")}
            for name, shift in shifts.items()
        },
        "recall_by_class": {name: one["recall"] for name, one in model["per_class"].items()},
        "size_bytes": model["size_bytes"],
        "latency_ms": model["latency_ms"],
    }


def _shift(inbox: Path, shift: Literal["day", "night"], images: int) -> None:
    from pipelines.sample.factory import write_shift

    started = time.monotonic()
    folder = write_shift(inbox / f"{shift}-shift", shift, images, SEED)
    note(f"  {images} images of the {shift} shift in {folder} ({time.monotonic() - started:.0f} s)")


def _released(recipe: Recipe, workspace: Workspace, store: Store, version: int, reason: str) -> Release:
    """The release that this night makes, or made before the demo was stopped."""
    if not any(release.version == version for release in releases(store, recipe.model_name)):
        outcome = run_night(recipe, (workspace.root / "inbox").as_uri(), workspace, reason=reason)
        if outcome.ended != "released":
            raise Refused(f"{reason}: {outcome.ended}: " + "; ".join(outcome.reasons) + f"; see {outcome.folder}")
    return next(release for release in releases(store, recipe.model_name) if release.version == version)


def _promote(workspace: Workspace, store: Store, model_name: str, release: Release) -> None:
    from components.release.promotion import promote

    if champion(store, model_name) is None:
        promote(
            store,
            model_name,
            release.version,
            reviewer=REVIEWER,
            reason="first version, looked at in the demo",
            tracking_uri=workspace.tracking_uri,
        )
    note(f"  version {release.version} is champion, promoted by {REVIEWER}")


def _expect_skip(recipe: Recipe, workspace: Workspace) -> None:
    started = time.monotonic()
    outcome = run_night(recipe, (workspace.root / "inbox").as_uri(), workspace, reason="demo: nothing new", quiet=True)
    if outcome.ended != "skipped":
        raise YanshanError(
            f"a night with nothing new ended {outcome.ended!r}, expected 'skipped'; see {outcome.folder}"
        )
    note(f"  nothing new: skipped in {time.monotonic() - started:.1f} s")


def _bring_report(workspace: Workspace, store: Store, release: Release) -> Path:
    report = workspace.root / "report.html"
    store.fetch(f"{release.prefix}/decision/report.html", report)
    return report


def farewell(workspace: Workspace, numbers: dict[str, Any]) -> str:
    """Where everything lies, and what to do next."""
    newest = numbers["versions"][-1]["version"]
    command = os.path.relpath(sys.argv[0]) if Path(sys.argv[0]).name == "yanshan" else "yanshan"
    return "\n".join(
        [
            "",
            f"version {newest} waits for a reviewer; took {numbers['seconds']:.0f} s",
            f"  numbers  {workspace.root / 'demo.json'}",
            f"  report   {numbers['report']}",
            f"  review   {command} review {newest} --workspace {workspace.root}",
            f"  MLflow   {command} ui --workspace {workspace.root}",
        ]
    )


def _title(text: str) -> None:
    note(f"\n{text}")
