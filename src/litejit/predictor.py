"""The short way: `predictor = litejit.load(path)`, then `predictor(x)`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from litejit.details import value_of
from litejit.edges import as_array, cast, dequantizer, is_quantized, quantizer
from litejit.engine.runner import LoadedModel, SubgraphRunner
from litejit.errors import LitejitError
from litejit.opening import load_model, load_path, open_runners
from litejit.ops.resolver import BuiltinOpResolver, OpResolver
from litejit.profiling import Profile
from litejit.types import Array

_Shapes = tuple[tuple[int, ...], ...]
_F32 = np.dtype(np.float32)
_MOST_SHAPES = 4  # of inputs, for which prepared graphs are kept


def load(
    path: Any,
    *,
    num_threads: int = 1,
    raw: bool = False,
    signature: str | None = None,
    resolver: OpResolver | None = None,
) -> Predictor:
    """Open a model for predictions.

    Args:
        path: a .tflite file, or its content as bytes.
        num_threads: threads that one call may use.
        raw: take and give quantized tensors as the integers that they hold.
        signature: key of the signature to run; without it the only one, or subgraph 0.
        resolver: finds the operators.

    Raises:
        ValueError: the model cannot be read, or has no such signature.
        RuntimeError: an operator refuses its operands.
    """
    if num_threads < 1:
        raise ValueError(f"num_threads must be at least 1, got {num_threads}")
    loaded = load_model(path) if isinstance(path, bytes) else load_path(path)
    return Predictor(
        loaded, path, num_threads=num_threads, raw=raw, signature=signature, resolver=resolver
    )


class _Slot:
    """One prepared graph with memory of its own, and how values get in and out."""

    __slots__ = ("dequantize", "inputs", "invoke", "outputs", "quantize", "runner", "shapes")

    def __init__(self, runner: SubgraphRunner, inputs: list[int], outputs: list[int]) -> None:
        runner.allocate()
        self.runner, self.invoke = runner, runner.invoke
        types = runner.types
        self.inputs = [runner.array(i) for i in inputs]
        self.shapes: _Shapes = tuple(types[i].dims for i in inputs)
        self.outputs: list[Array | None] = (
            [runner.array(i) for i in outputs] if runner.is_plain else [None] * len(outputs)
        )
        self.quantize = [quantizer(types[i]) if is_quantized(types[i]) else None for i in inputs]
        self.dequantize = [
            dequantizer(types[i]) if is_quantized(types[i]) else None for i in outputs
        ]


class Predictor:
    """Runs a model on arrays: `predictor(x)`, or `predictor(name=x, ...)`.

    A model with one output gives an array, others a dict by name (the signature's names, else
    the tensors'). Inputs may be lists of numbers, arrays, or anything with `__array__`, DLPack or
    a buffer. Arrays are cast only where no value can change. A missing batch axis is added; a
    batch of another size than the model's is run at once where the graph can be resized, else
    piece by piece.

    Quantized tensors are real numbers outside: inputs are quantized as the operator QUANTIZE does
    it, unless an array has the tensor's own type already; outputs come as float32. With `raw`
    both are the integers that the graph works on.

    Calls may come from several threads at once. A model with variables starts every call afresh;
    `session` keeps its state from call to call.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        source: Any,
        *,
        num_threads: int = 1,
        raw: bool = False,
        signature: str | None = None,
        resolver: OpResolver | None = None,
    ) -> None:
        self._loaded, self._source = loaded, source
        self._arguments = {"num_threads": num_threads, "raw": raw, "signature": signature}
        self._threads, self._raw, self._resolver = num_threads, raw, resolver
        self._find_names(signature)
        self._profile: Profile | None = None
        first = self._make_slot()
        self._shapes, self._types = first.shapes, dict(first.runner.types)
        self._free: dict[_Shapes, list[_Slot]] = {first.shapes: [first]}
        self._first_free = self._free[first.shapes]
        self._keeps_state = first.runner.has_state
        self._single = len(self._inputs) == 1 and len(self._outputs) == 1
        self._fixed_batch: set[_Shapes] = set()
        self._watching: list[_Slot] = []  # slots that keep all tensors

    def _find_names(self, key: str | None) -> None:
        model = self._loaded.model
        signatures = {s.key: s for s in model.signatures}
        if key is not None and key not in signatures:
            raise ValueError(f"the model has no signature {key!r}, only {sorted(signatures)}")
        if key is None and len(signatures) == 1:
            key = next(iter(signatures))
        if key is not None:
            found = signatures[key]
            self._subgraph = found.subgraph
            inputs, outputs = dict(found.inputs), dict(found.outputs)
            order = {number: k for k, number in enumerate(model.subgraphs[found.subgraph].inputs)}
            inputs = dict(sorted(inputs.items(), key=lambda pair: order.get(pair[1], len(order))))
        else:
            self._subgraph, graph = 0, model.subgraphs[0]
            inputs = {graph.tensors[i].name: i for i in graph.inputs}
            outputs = {graph.tensors[i].name: i for i in graph.outputs}
        self._names, self._inputs = list(inputs), list(inputs.values())
        self._results, self._outputs = list(outputs), list(outputs.values())

    @property
    def input_names(self) -> list[str]:
        """Names of the inputs, in order."""
        return list(self._names)

    @property
    def output_names(self) -> list[str]:
        """Names of the outputs, in order."""
        return list(self._results)

    # -- calling --

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the model on inputs by position or by name.

        Raises:
            TypeError: an input has another type, is missing or unknown.
            ValueError: an input has a shape that the model cannot take.
            RuntimeError: an operator refuses the data.
        """
        if len(args) == 1 and self._single and not kwargs and not self._keeps_state:
            x = args[0]
            try:
                slot = self._first_free.pop()
            except IndexError:
                slot = self._take(self._shapes)
            try:
                memory = slot.inputs[0]
                if (
                    type(x) is np.ndarray
                    and memory is not None
                    and x.shape == memory.shape
                    and self._profile is None
                    and self._store(slot, 0, x)
                ):
                    slot.invoke()
                    return self._fetch(slot, 0)
            finally:
                self._first_free.append(slot)
        return self._named(self._call(self._given(args, kwargs), None))

    def _store(self, slot: _Slot, position: int, array: Array) -> bool:
        """Write an array into an input; False where it needs a cast first."""
        memory, quantize = slot.inputs[position], slot.quantize[position]
        assert memory is not None
        if array.dtype is memory.dtype:
            memory[...] = array
        elif quantize is not None and not self._raw and array.dtype is _F32:
            quantize(array, memory)
        else:
            return False
        return True

    def _fetch(self, slot: _Slot, position: int) -> Any:
        """A copy of an output, as real numbers unless `raw`."""
        memory, number = slot.outputs[position], self._outputs[position]
        if memory is None:
            memory = slot.runner.array(number)
            if memory is None:
                raise RuntimeError(f"output {self._results[position]!r} was not computed")
        dequantize = slot.dequantize[position]
        if dequantize is not None and not self._raw:
            return dequantize(memory)
        return value_of(slot.runner.types[number].dtype, memory)

    def _named(self, results: list[Any]) -> Any:
        if len(results) == 1:
            return results[0]
        return dict(zip(self._results, results, strict=True))

    def _given(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Array]:
        """The inputs in order, cast."""
        if len(args) > len(self._names):
            raise TypeError(f"takes {len(self._names)} inputs ({self._names}), got {len(args)}")
        values = dict(zip(self._names, args, strict=False))
        for name, value in kwargs.items():
            if name not in self._names:
                raise TypeError(f"there is no input {name!r}; the inputs are {self._names}")
            if name in values:
                raise TypeError(f"input {name!r} was given twice")
            values[name] = value
        missing = [name for name in self._names if name not in values]
        if missing:
            raise TypeError(f"inputs are missing: {missing}")
        types = self._types
        result = []
        for name, number in zip(self._names, self._inputs, strict=True):
            array, loose = as_array(values[name])
            result.append(cast(array, types[number], loose=loose, name=name, raw=self._raw))
        return result

    def _call(self, arrays: list[Array], slot: _Slot | None) -> list[Any]:
        """Run on arrays of any batch size; on one slot where it is given, else on a free one."""
        arrays = [
            a[None] if a.ndim == len(shape) - 1 and _fits(a.shape, shape[1:]) else a
            for a, shape in zip(arrays, self._shapes, strict=True)
        ]
        wanted = tuple(a.shape for a in arrays)
        if slot is not None and wanted == slot.shapes:
            return self._run_on(slot, arrays)
        if slot is not None:
            raise ValueError(f"a session takes inputs of shapes {slot.shapes}, got {wanted}")
        pieces = self._batch(wanted)
        if wanted in self._fixed_batch and pieces is not None:
            return self._in_pieces(arrays, *pieces)
        try:
            taken = self._take(wanted)
        except (LitejitError, ValueError) as error:
            if pieces is None:
                text = f"the model takes inputs of shapes {self._shapes}, got {wanted}: {error}"
                raise ValueError(text) from error
            self._fixed_batch.add(wanted)
            return self._in_pieces(arrays, *pieces)
        if pieces is not None and not self._follows(taken, *pieces):
            self._fixed_batch.add(wanted)
            return self._in_pieces(arrays, *pieces)
        try:
            if self._keeps_state:
                taken.runner.reset_variables()
            return self._run_on(taken, arrays)
        finally:
            self._give_back(taken)

    def _run_on(self, slot: _Slot, arrays: list[Array]) -> list[Any]:
        for position, array in enumerate(arrays):
            if not self._store(slot, position, array):
                raise TypeError(f"input {self._names[position]!r} cannot take {array.dtype}")
        if self._profile is not None:
            self._profile.run(slot.runner)
        else:
            slot.invoke()
        return [self._fetch(slot, position) for position in range(len(self._outputs))]

    # -- batches --

    def _batch(self, wanted: _Shapes) -> tuple[int, int] | None:
        """The batch sizes asked for and of the model, where nothing else differs."""
        sizes = set()
        for new, old in zip(wanted, self._shapes, strict=True):
            if not new or len(new) != len(old) or new[1:] != old[1:]:
                return None
            sizes.add((new[0], old[0]))
        pair = sizes.pop() if len(sizes) == 1 else (0, 0)
        return pair if pair[0] != pair[1] and pair[1] > 0 and pair[0] > 0 else None

    def _follows(self, slot: _Slot, count: int, own: int) -> bool:
        """Did every output grow with the batch?"""
        for number in self._outputs:
            declared, found = self._types[number], slot.runner.types[number]
            if found.shape is None or declared.shape is None:
                continue
            if not found.shape or declared.shape[:1] != (own,) or found.shape[0] != count:
                return False
        return True

    def _in_pieces(self, arrays: list[Array], count: int, own: int) -> list[Any]:
        """Run the model's own batch size again and again; the last piece is filled with zeros."""
        parts = []
        for start in range(0, count, own):
            piece = [a[start : start + own] for a in arrays]
            short = own - len(piece[0])
            if short:
                piece = [np.concatenate([p, np.zeros((short, *p.shape[1:]), p.dtype)])
                         for p in piece]  # fmt: skip
            parts.append(self._call(piece, None))
        results = []
        for outputs in zip(*parts, strict=True):
            if any(np.ndim(y) == 0 or len(y) != own for y in outputs):
                raise ValueError(
                    f"a batch of {count} cannot be run: results do not grow with the batch"
                )
            results.append(np.concatenate(outputs)[:count])
        return results

    # -- slots --

    def _take(self, shapes: _Shapes) -> _Slot:
        """A free slot for these input shapes, or a new one."""
        try:
            return self._free[shapes].pop()
        except (KeyError, IndexError):
            return self._make_slot(shapes)

    def _give_back(self, slot: _Slot) -> None:
        free = self._free.get(slot.shapes)
        if free is None:
            others = [shapes for shapes in self._free if shapes != self._shapes]
            if len(others) >= _MOST_SHAPES:
                self._free.pop(others[0], None)
            free = self._free.setdefault(slot.shapes, [])
        free.append(slot)

    def _make_slot(self, shapes: _Shapes | None = None, *, preserve_all: bool = False) -> _Slot:
        resolver = self._resolver or BuiltinOpResolver()
        runners = open_runners(
            self._loaded, resolver, threads=self._threads, preserve_all=preserve_all
        )
        runner = runners[self._subgraph]
        for number, shape in zip(self._inputs, shapes or (), strict=False):
            if runner.types[number].shape != shape:
                runner.resize(number, shape)
        return _Slot(runner, self._inputs, self._outputs)

    # -- intermediate tensors --

    def run(
        self, inputs: Any, outputs: Sequence[str | int] | None = None
    ) -> dict[str | int, Any]:
        """Run the model and return any tensors, intermediate ones too, by name or number.

        Args:
            inputs: one input, a list of them in order, or a dict by name.
            outputs: names of outputs or tensors, or numbers of tensors; all outputs without it.

        Intermediate tensors come as the graph holds them. No number differs from those of
        other calls.

        Raises:
            KeyError: there is no such tensor.
            ValueError: a tensor has no value.
        """
        args, kwargs = _split(inputs, len(self._names))
        arrays = self._given(args, kwargs)
        wanted: Sequence[str | int] = self._results if outputs is None else outputs
        graph = self._loaded.model.subgraphs[self._subgraph]
        numbers = {tensor.name: i for i, tensor in reversed(list(enumerate(graph.tensors)))}
        known = {**numbers, **dict(zip(self._results, self._outputs, strict=True))}
        chosen = {}
        for key in wanted:
            number = known.get(key) if isinstance(key, str) else key
            if number is None or not 0 <= number < len(graph.tensors):
                raise KeyError(f"there is no tensor {key!r}")
            chosen[key] = number
        slot = self._slot_with_all(tuple(np.shape(a) for a in arrays))
        finals = dict(zip(self._outputs, self._call(arrays, slot), strict=True))
        self._watching.append(slot)
        return {k: finals[n] if n in finals else _value(slot, n) for k, n in chosen.items()}

    def _slot_with_all(self, shapes: _Shapes) -> _Slot:
        grown = tuple(
            (1, *given) if len(given) == len(own) - 1 else given
            for given, own in zip(shapes, self._shapes, strict=True)
        )
        fitting = [slot for slot in self._watching if slot.shapes == grown]
        if fitting:
            self._watching.remove(fitting[0])
            return fitting[0]
        return self._make_slot(grown, preserve_all=True)

    # -- profiles and sessions --

    @contextmanager
    def profile(self) -> Iterator[Profile]:
        """Time every operator of the calls made inside `with predictor.profile() as p`.

        `print(p)` shows a table, `p.save_trace(path)` writes a Chrome trace.
        """
        before, self._profile = self._profile, Profile()
        try:
            yield self._profile
        finally:
            self._profile = before

    @contextmanager
    def session(self) -> Iterator[Session]:
        """Calls that share the model's state: `with predictor.session() as s: s(x)`."""
        slot = self._make_slot()
        yield Session(self, slot)

    # -- pickling --

    def __reduce__(self) -> tuple[Callable[..., Predictor], tuple[Any, ...]]:
        if self._resolver is not None:
            raise TypeError("cannot pickle a Predictor with a resolver of its own")
        if isinstance(self._source, bytes):
            return _reopened, (self._source, None, self._arguments)
        path = os.path.abspath(os.fsdecode(self._source))
        return _reopened, (path, _hash_of(path), self._arguments)


class Session:
    """Calls of one Predictor that keep the model's variables from one to the next."""

    def __init__(self, predictor: Predictor, slot: _Slot) -> None:
        self._predictor, self._slot = predictor, slot

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the model as `Predictor.__call__` does, from the present state on."""
        predictor = self._predictor
        arrays = predictor._given(args, kwargs)
        return predictor._named(predictor._call(arrays, self._slot))

    def reset(self) -> None:
        """Give all variables their first value."""
        self._slot.runner.reset_variables()


def _fits(given: tuple[int, ...], own: tuple[int, ...]) -> bool:
    return all(a == b or b < 0 for a, b in zip(given, own, strict=True))


def _split(inputs: Any, count: int) -> tuple[Sequence[Any], Mapping[str, Any]]:
    if isinstance(inputs, dict):
        return (), inputs
    several = isinstance(inputs, list | tuple) and (count > 1 or len(inputs) == 1)
    return (inputs, {}) if several else ((inputs,), {})


def _value(slot: _Slot, number: int) -> Any:
    tensor, array = slot.runner.types[number], slot.runner.array(number)
    if array is None:
        raise ValueError(f"tensor {number} ({tensor.name!r}) has no value")
    return value_of(tensor.dtype, array)


def _hash_of(path: str) -> str:
    from _blake2 import blake2b

    with open(path, "rb") as file:
        return str(blake2b(file.read(), digest_size=16).hexdigest())


def _reopened(source: Any, digest: str | None, arguments: dict[str, Any]) -> Predictor:
    if digest is not None and _hash_of(source) != digest:
        raise ValueError(f"{source} is not the file that was pickled: its content has changed")
    return load(source, **arguments)
