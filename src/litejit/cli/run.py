"""`litejit run MODEL`: one run on files or zeros, results as a table or as .npy files."""

from __future__ import annotations

import os
from typing import Any

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from litejit.interpreter import Interpreter
from litejit.types import Array

SHOWN = 5  # values of an output in the table


@click.command("run")
@click.argument("model", type=click.Path())
@click.option("--input", "-i", "inputs", multiple=True, metavar="[NAME=]FILE",
              help="a .npy array or an image; without a name: the next input in order")
@click.option("--output", "-o", "folder", type=click.Path(), help="write outputs here as .npy")
@click.option("--labels", type=click.Path(), help="a text file, one class a line")
@click.option("--threads", "-t", default=1, show_default=True, help="threads of one run")
def command(
    model: str, inputs: tuple[str, ...], folder: str | None, labels: str | None, threads: int
) -> None:
    """Run MODEL once and show its results.

    Inputs that are not given are zeros. An image is resized to the input's height and width;
    its pixels, 0 to 1, are quantized as the input is.
    """  # fmt: skip
    interpreter = Interpreter(model, num_threads=threads)
    given = _given(interpreter.get_input_details(), inputs)
    values = {index: _read(path, interpreter, index) for index, path in given.items()}
    for index, value in values.items():
        if tuple(value.shape) != _shape(interpreter, index):
            interpreter.resize_tensor_input(index, value.shape)
    interpreter.allocate_tensors()
    for detail in interpreter.get_input_details():
        index = detail["index"]
        zeros = np.zeros(detail["shape"], detail["dtype"])
        interpreter.set_tensor(index, values.get(index, zeros))
    interpreter.invoke()
    outputs = {d["index"]: interpreter.get_tensor(d["index"]) for d in _outputs(interpreter)}
    _show(interpreter, outputs, _lines(labels))
    if folder is not None:
        _write(interpreter, outputs, folder)


def _outputs(interpreter: Interpreter) -> list[dict[str, Any]]:
    return interpreter.get_output_details()


def _given(details: list[dict[str, Any]], inputs: tuple[str, ...]) -> dict[int, str]:
    """Tensor number -> file, by name or in order."""
    by_name = {detail["name"]: detail["index"] for detail in details}
    result: dict[int, str] = {}
    for item in inputs:
        name, equals, path = item.rpartition("=")
        if equals and name not in by_name:
            raise click.ClickException(
                f"the model has no input {name!r}; its inputs are {', '.join(by_name)}"
            )
        free = [d["index"] for d in details if d["index"] not in result]
        if not equals and not free:
            raise click.ClickException(f"{item}: the model has {len(details)} inputs only")
        result[by_name[name] if equals else free[0]] = path
    return result


def _shape(interpreter: Interpreter, index: int) -> tuple[int, ...]:
    detail = next(d for d in interpreter.get_input_details() if d["index"] == index)
    return tuple(detail["shape"].tolist())


def _read(path: str, interpreter: Interpreter, index: int) -> Array:
    detail = next(d for d in interpreter.get_input_details() if d["index"] == index)
    if path.endswith(".npy"):
        array: Array = np.load(path, allow_pickle=False)
        return array
    return _read_image(path, detail)


def _read_image(path: str, detail: dict[str, Any]) -> Array:
    try:
        from PIL import Image
    except ImportError as error:
        raise click.ClickException(f"{path}: reading images needs pillow") from error
    shape = tuple(detail["shape"].tolist())
    if len(shape) != 4 or shape[3] not in (1, 3):
        raise click.ClickException(
            f"{path}: input {detail['name']!r} of shape {shape} takes no image, give a .npy file"
        )
    with Image.open(path) as image:
        converted = image.convert("L" if shape[3] == 1 else "RGB").resize((shape[2], shape[1]))
    pixels = np.asarray(converted, np.float32).reshape(shape) / np.float32(255)
    dtype, (scale, zero_point) = np.dtype(detail["dtype"]), detail["quantization"]
    if dtype.kind != "f":
        info = np.iinfo(dtype)
        codes = pixels / scale + zero_point if scale else pixels * 255
        pixels = np.clip(np.rint(codes), info.min, info.max)
    result: Array = pixels.astype(dtype)
    return result


def _lines(path: str | None) -> list[str]:
    if path is None:
        return []
    with open(path, encoding="utf-8") as file:
        return file.read().splitlines()


def _show(interpreter: Interpreter, outputs: dict[int, Any], labels: list[str]) -> None:
    table = Table("output", "shape", "dtype", "largest" if labels else "values")
    for detail in interpreter.get_output_details():
        value = np.asarray(outputs[detail["index"]])
        shape = "×".join(map(str, value.shape)) or "scalar"
        text = _ranked(value, detail, labels) if labels else _excerpt(value)
        table.add_row(detail["name"], shape, value.dtype.name, text)
    Console().print(table)


def _ranked(value: Array, detail: dict[str, Any], labels: list[str]) -> str:
    scale, zero_point = detail["quantization"]
    real = value.ravel().astype(np.float64)
    real = (real - zero_point) * scale if scale else real
    best = np.argsort(-real, kind="stable")[:SHOWN]
    names = dict(enumerate(labels))
    return "\n".join(f"{names.get(k, str(k))}: {real[k]:.4g}" for k in best.tolist())


def _excerpt(value: Array) -> str:
    shown = ", ".join(f"{x:.6g}" if isinstance(x, float) else str(x)
                      for x in value.ravel()[:SHOWN].tolist())  # fmt: skip
    return shown + (", …" if value.size > SHOWN else "")


def _write(interpreter: Interpreter, outputs: dict[int, Any], folder: str) -> None:
    os.makedirs(folder, exist_ok=True)
    for number, detail in enumerate(interpreter.get_output_details()):
        safe = "".join(c if c.isalnum() or c in "-_." else "_" for c in detail["name"])
        path = os.path.join(folder, f"{number}_{safe or 'output'}.npy")
        value = np.asarray(outputs[detail["index"]])
        np.save(path, value.astype(np.bytes_) if value.dtype.hasobject else value)
