"""A workspace with a real registry (SQLite) for the tests of release and promotion."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.release.promotion import promote
from components.release.registry import open_registry
from components.release.release import release_night
from components.release.settings import ReleaseSettings
from components.shared.store import Store, open_store
from tests.sample_night import write_night

MODEL = "parts"


@dataclass(frozen=True)
class RegistryWorkspace:
    """Store, registry and keys in one folder."""

    root: Path

    @property
    def store(self) -> Store:
        return open_store((self.root / "store").as_uri())

    @property
    def tracking_uri(self) -> str:
        return f"sqlite:///{self.root / 'mlflow.db'}"

    @property
    def keys(self) -> Path:
        return self.root / "keys"

    def registry(self):
        """The registry's client, as a context."""
        return open_registry(self.tracking_uri)

    def release(self, letter: str = "a", author: str = "nightly", **changes: Any) -> dict[str, Any]:
        """Release one sample night; the same letter is the same night."""
        folder = self.root / "nights" / letter
        shutil.rmtree(folder, ignore_errors=True)
        paths = write_night(folder, run_key=letter * 64, **changes)
        return release_night(paths, self.store, MODEL, ReleaseSettings(author=author), self.root / "record")

    def promote(self, version: int, reviewer: str = "anna", reason: str = "better", **more: Any) -> dict[str, Any]:
        return promote(self.store, MODEL, version, reviewer, reason, self.tracking_uri, **more)

    def aliases(self) -> dict[str, int]:
        """What the registry shows."""
        with self.registry() as client:
            return {alias: int(version) for alias, version in client.get_registered_model(MODEL).aliases.items()}

    def copied_to(self, folder: Path) -> "RegistryWorkspace":
        """A fresh copy of the whole workspace; the registry's artifacts stay where they are."""
        shutil.copytree(self.root, folder)
        return RegistryWorkspace(folder)


def empty_workspace(folder: Path, migrated: Path) -> RegistryWorkspace:
    """A workspace around a copy of a migrated, empty database: seconds to migrate, milliseconds to copy."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(migrated, folder / "mlflow.db")
    return RegistryWorkspace(folder)
