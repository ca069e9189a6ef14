"""Every runtime that `litejit compare` knows, as one function: inputs to the values of all tensors.

Run as a program (`python -m litejit.cli.runtimes NAME MODEL INPUTS.npz RESULTS.npz`) it does this
for one runtime, so that one that ends its process ends no other.
"""

from __future__ import annotations

import sys
import warnings
from importlib import import_module
from typing import Any

import numpy as np

from litejit.types import Array

NAMES = ("litejit", "reference", "micro", "litert", "tflm")
TITLES = {
    "litejit": "litejit",
    "reference": "litejit in NumPy",
    "micro": "litejit.micro",
    "litert": "LiteRT",
    "tflm": "TFLM",
}
_ARENA = 512 << 20


def values_of(runtime: str, model: str, inputs: list[Array]) -> dict[int, Array]:
    """Tensor number -> value, of the main subgraph's tensors that the runtime gives."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if runtime in ("micro", "tflm"):
            return _micro(runtime, model, inputs)
        return _lite(runtime, model, inputs)


def _lite(runtime: str, model: str, inputs: list[Array]) -> dict[int, Array]:
    module: Any = import_module(
        "ai_edge_litert.interpreter" if runtime == "litert" else "litejit.interpreter"
    )
    kind = "BUILTIN_REF" if runtime == "reference" else "BUILTIN_WITHOUT_DEFAULT_DELEGATES"
    interpreter = module.Interpreter(
        model_path=model,
        experimental_op_resolver_type=module.OpResolverType[kind],
        experimental_preserve_all_tensors=True,
    )
    interpreter.allocate_tensors()
    for detail, value in zip(interpreter.get_input_details(), inputs, strict=True):
        interpreter.set_tensor(detail["index"], value)
    interpreter.invoke()
    result = {}
    for detail in interpreter.get_tensor_details():
        try:
            result[detail["index"]] = np.asarray(interpreter.get_tensor(detail["index"]))
        except ValueError:  # no value: what nobody computed, or constants of packed types
            continue
    return result


def _micro(runtime: str, model: str, inputs: list[Array]) -> dict[int, Array]:
    from litejit.micro.loading import read_micro_model

    peer = "tflite_micro.python.tflite_micro.runtime"
    module: Any = import_module(peer if runtime == "tflm" else "litejit.micro.runtime")
    interpreter = module.Interpreter.from_file(
        model,
        arena_size=_ARENA,
        intrepreter_config=module.InterpreterConfig.kPreserveAllTensors,
    )
    for number, value in enumerate(inputs):
        interpreter.set_input(value, number)
    interpreter.invoke()
    with open(model, "rb") as file:
        graph = read_micro_model(file.read()).subgraphs[0]
    made = {index for operator in graph.operators for index in operator.outputs if index >= 0}
    result = {}
    for index in sorted(made):
        if graph.tensors[index].dtype.name in ("RESOURCE", "STRING", "VARIANT"):
            continue
        result[index] = np.asarray(interpreter.GetTensor(index, 0)["tensor_data"])
    return result


def main(arguments: list[str]) -> int:
    """One runtime, from files to a file."""
    runtime, model, inputs, results = arguments
    with np.load(inputs, allow_pickle=False) as data:
        values = [data[f"in{k}"] for k in range(len(data))]
    try:
        found = values_of(runtime, model, values)
    except Exception as error:  # told to whoever started this process
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    arrays: dict[str, Any] = {
        str(index): value for index, value in found.items() if not value.dtype.hasobject
    }
    np.savez(results, **arrays)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
