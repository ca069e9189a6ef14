"""`litejit compare MODEL`: the same inputs through two runtimes, and where they part."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from typing import Any

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from litejit.cli.runtimes import NAMES, TITLES
from litejit.micro.loading import read_micro_model
from litejit.model import Model, Tensor
from litejit.record import Record
from litejit.types import Array

_MODULES = {"litert": "ai_edge_litert", "tflm": "tflite_micro"}


class Difference(Record):
    """How far one result is from the other: elements that differ, largest distance, where.

    `relative` is the largest distance over the largest value of the other side, NaN where the
    shapes or types differ.
    """

    operator: int
    name: str
    tensor: int
    elements: int
    size: int
    largest: float
    relative: float
    position: tuple[int, ...]
    values: tuple[str, str]


@click.command("compare")
@click.argument("model", type=click.Path())
@click.option("--with", "other", type=click.Choice(NAMES), help="the runtime to compare with"
              " [default: litert where it is installed, else reference]")
@click.option("--of", "own", type=click.Choice(NAMES), help="the runtime to compare"
              " [default: litejit, or micro with tflm]")
@click.option("--input", "-i", "files", multiple=True, metavar="FILE",
              help="a .npy array for the next input; the others are random")
@click.option("--seed", default=0, show_default=True, help="of the random inputs")
@click.option("--rtol", default=1e-5, show_default=True,
              help="float results may differ by this much, relative to the largest one")
@click.option("--all", "everything", is_flag=True, help="list every operator that differs")
@click.pass_context
def command(
    context: click.Context, model: str, other: str | None, own: str | None,
    files: tuple[str, ...], seed: int, rtol: float, everything: bool,
) -> None:
    """Run MODEL on the same inputs in two runtimes and name the first operator that differs.

    Integers must be equal, floats within --rtol. The exit code is 1 where a result differs. Every
    operator's results are looked at, so that no runtime fuses operators here; LiteRT runs its
    builtin kernels, without delegates.
    """  # fmt: skip
    other = other or ("litert" if find_spec(_MODULES["litert"]) else "reference")
    own = own or ("micro" if other == "tflm" else "litejit")
    for name in (own, other):
        if name in _MODULES and find_spec(_MODULES[name]) is None:
            raise click.ClickException(f"{TITLES[name]} is not installed ({_MODULES[name]})")
    with open(model, "rb") as file:
        read = read_micro_model(file.read())
    values = inputs_of(read, files, seed)
    a, b = (_run(name, model, values) for name in (own, other))
    found = differences(read, a, b, rtol=rtol)
    _show(read, found, (TITLES[own], TITLES[other]), everything=everything)
    if found:
        context.exit(1)


def inputs_of(model: Model, files: tuple[str, ...], seed: int) -> list[Array]:
    """Arrays for the inputs of the main subgraph: files first, random numbers for the rest."""
    graph = model.subgraphs[0]
    if len(files) > len(graph.inputs):
        raise click.ClickException(f"the model has {len(graph.inputs)} inputs only")
    rng = np.random.default_rng(seed)
    values = []
    for number, index in enumerate(graph.inputs):
        tensor = graph.tensors[index]
        if number < len(files):
            values.append(np.load(files[number], allow_pickle=False))
        else:
            values.append(_random(rng, tensor))
    return values


def _random(rng: np.random.Generator, tensor: Tensor) -> Array:
    dtype = tensor.dtype.numpy
    if dtype.kind == "f":
        return rng.standard_normal(tensor.shape).astype(dtype)
    if dtype.kind == "b":
        return rng.integers(0, 2, tensor.shape).astype(np.bool_)
    if dtype.kind not in "iu":
        raise click.ClickException(f"{tensor.name}: no random {tensor.dtype}, give a file")
    info = np.iinfo(dtype)
    high = info.max if info.bits <= 16 else 2
    low = max(info.min, -high - 1)
    return rng.integers(low, high, tensor.shape, endpoint=True).astype(dtype)


def _run(runtime: str, model: str, inputs: list[Array]) -> dict[int, Array]:
    """All tensors of one runtime, in a process of its own: the peers can end theirs."""
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as folder:
        given, made = (os.path.join(folder, name) for name in ("inputs.npz", "results.npz"))
        arrays: dict[str, Any] = {f"in{k}": value for k, value in enumerate(inputs)}
        np.savez(given, **arrays)
        command = [sys.executable, "-m", "litejit.cli.runtimes", runtime, model, given, made]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode < 0:
            raise click.ClickException(f"{TITLES[runtime]} ended by signal {-done.returncode}")
        if done.returncode:
            reason = " ".join(done.stderr.split()) or f"exit code {done.returncode}"
            raise click.ClickException(f"{TITLES[runtime]} does not run this model: {reason}")
        with np.load(made, allow_pickle=False) as data:
            return {int(name): data[name] for name in data}


def differences(
    model: Model, a: dict[int, Array], b: dict[int, Array], *, rtol: float
) -> list[Difference]:
    """Results that differ by more than allowed, in the order of the operators."""
    found = []
    graph = model.subgraphs[0]
    for number, operator in enumerate(graph.operators):
        for index in operator.outputs:
            if index in a and index in b:
                name = model.operator_name(operator)
                difference = _difference(number, name, index, a[index], b[index])
                exact = a[index].dtype.kind != "f"
                if difference.elements and (exact or not difference.relative <= rtol):
                    found.append(difference)
    return found


def _difference(number: int, name: str, index: int, a: Array, b: Array) -> Difference:
    if a.shape != b.shape or a.dtype != b.dtype:
        texts = tuple(f"{x.dtype} {x.shape}" for x in (a, b))
        return Difference(
            number, name, index, a.size, a.size, np.inf, np.nan, (), (texts[0], texts[1])
        )
    with np.errstate(all="ignore"):
        x, y = (v.astype(np.float64) for v in (a, b))
        same = (a == b) | (np.isnan(x) & np.isnan(y))
        apart = np.where(same, 0.0, np.abs(x - y))
        apart = np.where(np.isnan(apart), np.inf, apart)
        scale = float(np.abs(y[np.isfinite(y)]).max(initial=0.0))
    largest = float(apart.max(initial=0.0))
    at = np.unravel_index(int(apart.argmax()), a.shape) if a.size else ()
    place = tuple(int(i) for i in at)
    return Difference(
        number, name, index, int((~same).sum()), a.size, largest,
        largest / scale if scale else largest, place, (str(a[place]), str(b[place])),
    )  # fmt: skip


def _show(
    model: Model, found: list[Difference], titles: tuple[str, str], *, everything: bool
) -> None:
    graph, console = model.subgraphs[0], Console()
    if not found:
        console.print(
            f"{titles[0]} and {titles[1]} agree on all {len(graph.operators)} operators."
        )
        return
    first = found[0]
    console.print(
        f"The first operator that differs is {first.name} (operator {first.operator} of "
        f"{len(graph.operators)}).",
        highlight=False,
    )
    table = Table("operator", "result", "differ", "largest", "relative", "at", *titles)
    last = [d for d in found if d.tensor in graph.outputs and d is not first]
    for difference in found if everything else [first, *last]:
        tensor = graph.tensors[difference.tensor]
        shape = "×".join(map(str, tensor.shape)) or "scalar"
        table.add_row(
            f"{difference.name} ({difference.operator})",
            f"{tensor.name or difference.tensor} {shape} {tensor.dtype}",
            f"{difference.elements} of {difference.size}",
            f"{difference.largest:.6g}",
            f"{difference.relative:.2g}",
            str(difference.position),
            *difference.values,
        )
    console.print(table)
    if not everything and len(found) > 1 + len(last):
        console.print(f"{len(found)} results differ; --all lists them.")
