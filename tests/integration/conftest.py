"""Workspaces with a registry; migrating an empty database takes seconds, so it is done once a session."""

from pathlib import Path

import pytest

from tests.registry_workspace import RegistryWorkspace, empty_workspace

SECRETS = ("TRUST", "SIGNING_KEY", "REVIEWER_KEY")


@pytest.fixture(scope="session")
def migrated_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from components.release.registry import open_registry

    database = tmp_path_factory.mktemp("registry") / "mlflow.db"
    with open_registry(f"sqlite:///{database}"):
        return database


@pytest.fixture
def workspace(tmp_path: Path, migrated_database: Path, monkeypatch: pytest.MonkeyPatch) -> RegistryWorkspace:
    """A workspace in which nothing was released yet."""
    for name in (
        "MLFLOW_TRACKING_URI",
        "MLFLOW_RUN_ID",
        "YANSHAN_TRUST",
        "YANSHAN_SIGNING_KEY",
        "YANSHAN_REVIEWER_KEY",
    ):
        monkeypatch.delenv(name, raising=False)
    return empty_workspace(tmp_path / "workspace", migrated_database)
