"""The command `litejit`: one file a subcommand, imported when it is called."""

from __future__ import annotations

import sys
from importlib import import_module

import click

COMMANDS = {
    "arena": "tell how much memory TFLM needs for a model on a microcontroller",
    "bench": "time a model, with LiteRT beside it where it is installed",
    "cache": "show or empty the folder of compiled kernels",
    "compare": "run a model in two runtimes and name the first operator that differs",
    "ops": "list the operators of models, or write code that registers just those",
    "micro-lint": "list what TFLM refuses in a model, and what to do about it",
    "run": "run a model once and show its results",
    "show": "print what becomes of a model: nodes, steps, memory plan, IR, assembly",
}


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = cmd_name.replace("-", "_")
        command: click.Command = import_module(f"litejit.cli.{module}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(sorted(COMMANDS.items()))


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="litejit")
def group() -> None:
    """Run .tflite models: exactly, fast, from Python."""


def main() -> None:
    """Run the command line; an error is one line on stderr and exit code 1."""
    try:
        code = group(standalone_mode=False)  # what a command gave to Context.exit
        if isinstance(code, int):
            sys.exit(code)
    except click.exceptions.Exit as end:
        sys.exit(end.exit_code)
    except click.Abort:
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(1)
    except (ValueError, RuntimeError, TypeError, OSError, MemoryError, ImportError) as error:
        text = " ".join(str(error).split()) or type(error).__name__
        click.echo(f"litejit: {text}", err=True)
        sys.exit(1)
