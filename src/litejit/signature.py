"""SignatureRunner: runs one signature of a model by names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from litejit.details import tensor_details, value_of
from litejit.tensor_values import readable, resize, store, tensor_of

if TYPE_CHECKING:
    from litejit.interpreter import Interpreter


class SignatureRunner:
    """Runs one signature: `runner(name=array, ...)` returns {output name: array}.

    Inputs are resized to the shapes of the values given; nothing is cast. Made by
    `Interpreter.get_signature_runner`.
    """

    def __init__(
        self, interpreter: Interpreter | None = None, signature_key: str | None = None
    ) -> None:
        if not interpreter:
            raise ValueError("None interpreter provided.")
        if not signature_key:
            raise ValueError("None signature_key provided.")
        if signature_key not in interpreter._signature_defs:
            raise ValueError(f'Invalid signature_key provided: "{signature_key}".')
        self._interpreter = interpreter
        self._interpreter_wrapper = interpreter._interpreter
        self._signature_key = signature_key
        self._signature_def = interpreter._get_full_signature_list()[signature_key]
        self._inputs: dict[str, int] = self._signature_def["inputs"]
        self._outputs = self._signature_def["outputs"].items()
        signatures = interpreter._loaded.model.signatures
        self._subgraph_index = next(s.subgraph for s in signatures if s.key == signature_key)
        self._runner = interpreter._runners[self._subgraph_index]

    def __call__(self, **kwargs: Any) -> dict[str, Any]:
        """Run the signature on named inputs; returns copies of its outputs by name.

        Raises:
            ValueError: other inputs than the signature's, or values of another dtype.
            RuntimeError: an operator refuses shapes or data.
        """
        if len(kwargs) != len(self._inputs):
            raise ValueError(
                "Invalid number of inputs provided for running a SignatureDef, "
                f"expected {len(self._inputs)} vs provided {len(kwargs)}"
            )
        for name in kwargs:
            if name not in self._inputs:
                raise ValueError(f"Invalid Input name ({name}) for SignatureDef")
        for name, value in kwargs.items():
            resize(self._runner, self._inputs[name], tuple(value.shape), strict=False)
        self._runner.allocate()
        for name, value in kwargs.items():
            store(self._runner, self._inputs[name], value)
        self._runner.invoke()
        return {name: self._value(index) for name, index in self._outputs}

    def _value(self, index: int) -> Any:
        tensor = tensor_of(self._runner, index, "GetTensor")
        return value_of(tensor.dtype, readable(self._runner, tensor))

    def get_input_details(self) -> dict[str, dict[str, Any]]:
        """Details of the inputs by name, as `Interpreter.get_input_details`."""
        return {name: self._details(index) for name, index in self._inputs.items()}

    def get_output_details(self) -> dict[str, dict[str, Any]]:
        """Details of the outputs by name, as `Interpreter.get_output_details`."""
        return {name: self._details(index) for name, index in self._outputs}

    def _details(self, index: int) -> dict[str, Any]:
        compress = self._interpreter.experimental_compress_quantization_zero_points
        return tensor_details(self._runner, index, compress=compress)
