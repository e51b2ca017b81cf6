"""`python -m components.release.guarded_server ...`: `mlflow server` behind our guard, with the same options.

Where Yanshan is installed as a package, `mlflow server --app-name yanshan-guard` is the same; an image that only holds
the source has no entry points, so the app is named here.
"""

import importlib.metadata
import sys

NAME, APP = "yanshan-guard", "components.release.guard:create_app"


def main() -> None:
    """Hand everything to `mlflow server --app-name yanshan-guard`."""
    from mlflow.utils import plugins

    known = plugins._get_entry_points

    def with_guard(group: str) -> list[importlib.metadata.EntryPoint]:
        ours = importlib.metadata.EntryPoint(NAME, APP, group)
        found = [entry for entry in known(group) if entry.name != NAME]
        return [*found, ours] if group == "mlflow.app" else found

    plugins._get_entry_points = with_guard
    from mlflow.cli import cli

    sys.argv = ["mlflow", "server", "--app-name", NAME, *sys.argv[1:]]
    cli()


if __name__ == "__main__":
    main()
