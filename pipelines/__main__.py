"""The `yanshan` command: finds the module of the command that was asked for, and maps errors to exit codes."""

import importlib
import json
import logging
import os
import sys

import click

from components.shared.errors import YanshanError

COMMANDS = {
    "demo": "pipelines.commands.demo:demo",
    "run": "pipelines.commands.run:run",
    "show": "pipelines.commands.run:show",
    "compile": "pipelines.commands.run:compile_",
    "check": "pipelines.commands.cluster:check",
    "submit": "pipelines.commands.cluster:submit",
    "schedule": "pipelines.commands.cluster:schedule",
    "intake": "pipelines.commands.data:intake",
    "dataset": "pipelines.commands.data:dataset",
    "evaluate": "pipelines.commands.evaluation:evaluate",
    "judge": "pipelines.commands.evaluation:judge",
    "quantize": "pipelines.commands.engines:quantize",
    "benchmark": "pipelines.commands.engines:benchmark",
    "models": "pipelines.commands.models:models",
    "search": "pipelines.commands.search:search",
    "review": "pipelines.commands.review:review",
    "promote": "pipelines.commands.review:promote",
    "reject": "pipelines.commands.review:reject",
    "waive": "pipelines.commands.review:waive",
    "rollback": "pipelines.commands.review:rollback",
    "history": "pipelines.commands.review:history",
    "registry": "pipelines.commands.review:registry",
    "ui": "pipelines.commands.ui:ui",
}
SUMMARIES = {
    "demo": "The whole loop on the sample data: two nights, a promotion, a comparison.",
    "run": "Run the DAG here.",
    "show": "Print the DAG, one line a step.",
    "compile": "Write the DAG as Kubeflow IR YAML.",
    "check": "Preflight: what a run needs, before it is paid for.",
    "submit": "Hand a run to a KFP server.",
    "schedule": "Hand a nightly run to a KFP server.",
    "intake": "Take labeling exports into a store.",
    "dataset": "Look at data set versions.",
    "evaluate": "COCO mAP of any ONNX YOLO.",
    "judge": "Explain a gate's decision again.",
    "quantize": "INT8 for any ONNX YOLO.",
    "benchmark": "Latency and throughput of models.",
    "models": "The light architectures.",
    "search": "Which architecture at which size, within a budget.",
    "review": "What waits for a reviewer, and one version in full.",
    "promote": "Make a version the champion.",
    "reject": "Turn a version down.",
    "waive": "Waive one gate of a version.",
    "rollback": "Return to an earlier champion.",
    "history": "Who promoted what, when and why.",
    "registry": "Verify or reconcile the registry with the ledger.",
    "ui": "MLflow and the reports in a browser.",
}


class Commands(click.Group):
    """Commands whose modules are imported only when they run: `--help` stays fast."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, attribute = COMMANDS[cmd_name].split(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(SUMMARIES.items()))


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="yanshan")
def yanshan() -> None:
    """Retrain a small YOLO detector every night, prove that it is better, offer it for review."""


def main() -> None:
    """Run the command line and exit: 0 done, 2 bad input, 3 missing capability, 4 service failed, 5 refused."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s", stream=sys.stderr)
    try:
        yanshan.main(prog_name="yanshan", standalone_mode=False)
    except YanshanError as refusal:
        _end(str(refusal), refusal.exit_code)
    except click.ClickException as misuse:
        misuse.show()
        sys.exit(misuse.exit_code)
    except (click.Abort, KeyboardInterrupt):
        _end("stopped; the same command carries on", 130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)


def _end(message: str, code: int) -> None:
    if "--json" in sys.argv:
        click.echo(json.dumps({"error": message, "exit_code": code}))
    click.echo(f"yanshan: {message}", err=True)
    sys.exit(code)


if __name__ == "__main__":
    main()
