"""`litejit micro-lint MODEL`: what TFLM refuses in a model, and what to do about it."""

from __future__ import annotations

import json
import os

import click

from litejit.micro.lint import Finding, lint
from litejit.model import read_model


@click.command("micro-lint")
@click.argument("model", type=click.Path())
@click.option("--json", "as_json", is_flag=True, help="print the findings as JSON")
@click.pass_context
def command(context: click.Context, model: str, as_json: bool) -> None:
    """List all that TFLM refuses in MODEL: operators, types, shapes, constants, options.

    The exit code is 1 where there is something.
    """
    found = lint(read_model(model, strict=False))
    if as_json:
        rows = [{field: getattr(one, field) for field in Finding._fields} for one in found]
        click.echo(json.dumps(rows, indent=1))
    elif found:
        click.echo("\n".join(str(one) for one in found))
    else:
        click.echo(f"{os.path.basename(model)}: TFLM's Python resolver takes all of it")
    if found:
        context.exit(1)
