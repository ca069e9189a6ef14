"""`litejit ops MODEL...`: the operators that models need, and code that registers just those."""

from __future__ import annotations

import os

import click
from rich.console import Console
from rich.table import Table

from litejit.model import read_model
from litejit.selection import Operators, operators_of, python_module, tflm_lines


@click.command("ops")
@click.argument("models", type=click.Path(), nargs=-1, required=True)
@click.option("--output", "-o", "path", type=click.Path(),
              help="write a Python module that registers just these operators")
@click.option("--tflm", is_flag=True, help="C++ lines of a MicroMutableOpResolver instead")
def command(models: tuple[str, ...], path: str | None, tflm: bool) -> None:
    """List the operators of MODELS with their versions, or write code that registers them."""
    builtin, custom = operators_of(read_model(model) for model in models)
    if not tflm and path is None:
        _show(builtin, custom)
        return
    if tflm:
        text = tflm_lines(builtin, custom)
    else:
        text = python_module(builtin, custom, ", ".join(os.path.basename(m) for m in models))
    if path is None:
        click.echo(text, nl=False)
        return
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def _show(builtin: Operators, custom: Operators) -> None:
    table = Table("operator", "versions", "kind", box=None)
    for kind, operators in (("builtin", builtin), ("custom", custom)):
        for name, (low, high) in operators.items():
            table.add_row(name, str(low) if low == high else f"{low} to {high}", kind)
    Console().print(table)
