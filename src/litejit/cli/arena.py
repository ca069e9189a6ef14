"""`litejit arena MODEL`: how much memory TFLM needs for a model on a microcontroller."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import click

from litejit.micro.allocations import PLANNERS, Allocations, allocations
from litejit.micro.lint import lint
from litejit.micro.plot import peak_text, plot_html, plot_svg, size_text
from litejit.micro.script import OperatorRequests
from litejit.micro.structs import TARGETS
from litejit.model import read_model

_UNITS = {"": 1, "k": 1024, "m": 1024 * 1024}
_MOST_OPERATORS = 8


def _bytes(context: click.Context, parameter: click.Parameter, value: str | None) -> int | None:
    """A number of bytes: 65536, 64k, 1.5M (k and M are powers of 1024)."""
    if value is None:
        return None
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*([kKmM]?)(?:i?[bB])?", value.strip())
    if found is None:
        raise click.BadParameter(f"{value!r} is no size: expected bytes, or a number with k or M")
    return int(float(found[1]) * _UNITS[found[2].lower()])


@click.command("arena")
@click.argument("model", type=click.Path())
@click.option("--target", type=click.Choice(list(TARGETS)), default="wheel", show_default=True)
@click.option("--planner", type=click.Choice(PLANNERS), default="greedy", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="print everything as JSON")
@click.option("--plot", type=click.Path(), help="write the memory plan as .svg or .html")
@click.option(
    "--fits",
    callback=_bytes,
    metavar="SIZE",
    help="exit with 1 unless the model fits into so many bytes",
)
@click.pass_context
def command(
    context: click.Context,
    model: str,
    target: str,
    planner: str,
    as_json: bool,
    plot: str | None,
    fits: int | None,
) -> None:
    """Tell how large an arena TFLM needs for MODEL, and what fills it. Nothing is run."""
    loaded = read_model(model, strict=False)
    found = allocations(loaded, target, planner=planner)
    title = os.path.basename(model)
    if plot is not None:
        _write_plot(found, title, plot)
    if as_json:
        click.echo(json.dumps({"model": title, **found.to_json()}, indent=1))
    else:
        click.echo("\n".join(_report(found, title)))
    refusals = len(lint(loaded))
    if refusals:
        things = "something" if refusals == 1 else f"{refusals} things"
        click.echo(f"TFLM refuses {things} here: see `litejit micro-lint {model}`", err=True)
    if fits is not None and found.least_arena > fits:
        click.echo(f"does not fit: {size_text(found.least_arena - fits)} more are needed", err=True)
        context.exit(1)


def _write_plot(found: Allocations, title: str, path: str) -> None:
    draw = {".svg": plot_svg, ".html": plot_html}.get(os.path.splitext(path)[1].lower())
    if draw is None:
        raise click.BadParameter(f"{path!r}: expected a name that ends in .svg or .html")
    Path(path).write_text(draw(found, title), encoding="utf-8")


def _report(found: Allocations, title: str) -> list[str]:
    allocator = "recording" if found.recording else "plain"
    return [
        f"{title} on {TARGETS[found.target].title}: {found.planner} planner, {allocator} allocator",
        "",
        f"least arena  {size_text(found.least_arena)}, starting at a multiple of 16",
        f"in use       {size_text(found.total)}",
        "",
        *_table(_memory_rows(found), "memory", "bytes", "asked for", "entries"),
        "",
        *_table(_operator_rows(found), "operator", "bytes", "options", "persistent", "scratch"),
        "",
        *_peak_lines(found),
        "",
        *found.notes,
    ]


def _memory_rows(found: Allocations) -> list[tuple[str, ...]]:
    scratch = [buffer for buffer in found.buffers if buffer.is_scratch]
    rows: list[tuple[str, ...]] = [
        ("head: planned buffers", str(found.head), "", str(len(found.buffers))),
    ]
    if scratch:
        total = str(sum(buffer.size for buffer in scratch))
        rows.append(("  of them scratch of kernels", "", total, str(len(scratch))))
    rows.append(("tail: all that stays", str(found.tail), "", ""))
    rows += [
        (f"  {name}", str(entry.used), str(entry.requested), str(entry.count))
        for name, entry in found.categories
    ]
    known = sum(entry.used for _, entry in found.categories)
    rows.append(("  allocator, parsed options, handles", str(found.tail - known), "", ""))
    return rows


def _operator_rows(found: Allocations) -> list[tuple[str, ...]]:
    def total(one: OperatorRequests) -> int:
        return one.options + sum(one.persistent) + sum(one.scratch)

    largest = sorted(found.operators, key=lambda one: -total(one))[:_MOST_OPERATORS]
    return [
        (
            (f"{one.subgraph}:" if one.subgraph else "") + f"{one.operator} {one.name}",
            str(total(one)),
            str(one.options),
            str(sum(one.persistent)),
            str(sum(one.scratch)),
        )
        for one in largest
    ]


def _peak_lines(found: Allocations) -> list[str]:
    if not found.buffers:
        return ["no buffer is planned"]
    alive: list[tuple[str, ...]] = [
        (buffer.name, str(buffer.size), str(buffer.offset), f"{buffer.first} to {buffer.last}")
        for buffer in found.alive_at(found.peak)
    ]
    lines = _table(alive, "alive there", "bytes", "offset", "used")
    return [f"{peak_text(found)}, tick {found.peak} of the plan", *lines]


def _table(rows: list[tuple[str, ...]], *titles: str) -> list[str]:
    """Rows as text: the first column to the left, the others to the right."""
    every = [titles, *rows]
    widths = [max(len(row[k]) for row in every) for k in range(len(titles))]
    return [
        "  ".join(
            cell.ljust(width) if k == 0 else cell.rjust(width)
            for k, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in every
    ]
