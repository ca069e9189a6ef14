"""What stands behind the façade: the runners of a model's subgraphs, and all of its state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from litejit.codegen.isa import in_order
from litejit.engine.runner import LoadedModel, SubgraphRunner, make_runners
from litejit.errors import InvokeError
from litejit.micro.signal_op import GraphStopped, Settings, StatefulOp
from litejit.model import Model, Tensor
from litejit.opening import host_isa
from litejit.ops.resolver import OpResolver
from litejit.types import I8, Array


class Machine:
    """One interpreter's runners, on one thread; prepared when made. Floats are summed in order.

    Raises ModelError, PrepareError or MemoryLimitError where the model cannot be prepared.
    """

    def __init__(self, loaded: LoadedModel, resolver: OpResolver, *, preserve_all: bool) -> None:
        self.model: Model = loaded.model
        host = host_isa() if resolver.compiled else None
        isa = None if host is None else in_order(host)
        runners = make_runners(loaded, resolver, isa=isa, threads=1, preserve_all=preserve_all)
        self._runner = runners[0]
        self.inputs = self._runner.subgraph.inputs
        self.outputs = self._runner.subgraph.outputs
        self._stateful = [
            (resolved.op, resolved.options)
            for runner in (runners[0], *(self._called(k) for k in range(1, len(runners))))
            for resolved in runner.operators
            if isinstance(resolved.op, StatefulOp)
        ]
        self._resources = self._resource_values()
        self._assign_resources()
        self._runner.allocate()
        self.reset()
        runner = runners[0]
        self.run: Callable[[], None] = runner.run_first
        if not runner.is_plain or self._resources:  # their memory may move
            self.run = self._run_with_state if self._stateful else runner.invoke

    def _called(self, number: int) -> SubgraphRunner:
        """The runner of a subgraph that operators call."""
        call: Any = self._runner.session.subgraph(number)
        runner: SubgraphRunner = call.runner
        return runner

    def _resource_values(self) -> dict[int, Array]:
        """What resource variables hold at first: 0, or the zero point of int8."""
        handles: dict[tuple[int, int], int] = {}
        values: dict[int, Array] = {}
        session = self._runner.session
        graphs = [self._runner, *(self._called(k) for k in range(1, len(self.model.subgraphs)))]
        for number, runner in enumerate(graphs):
            for resolved in runner.operators:
                operands = resolved.operator
                if resolved.name == "VAR_HANDLE":
                    o = resolved.options
                    handle = session.handle("var", o.container, o.shared_name)
                    handles[number, operands.outputs[0]] = handle
                elif resolved.name == "ASSIGN_VARIABLE":
                    known = handles.get((number, operands.inputs[0]))
                    tensor = runner.subgraph.tensors[operands.inputs[1]]
                    if known is not None:
                        values[known] = _first_value(tensor)
        return values

    # -- running --

    def _run_with_state(self) -> None:
        """Run once. Raises InvokeError, and GraphStopped where an operator ended the run."""
        before = [settings.saved() for _, settings in self._stateful]
        try:
            self._runner.invoke()
        except GraphStopped:
            raise
        except InvokeError:
            for (_, settings), state in zip(self._stateful, before, strict=True):
                settings.restore(state)
            raise

    def reset(self) -> None:
        """Give all state its first value."""
        self._runner.reset_variables()
        for number in range(1, len(self.model.subgraphs)):
            self._called(number).reset_variables()
        for op, settings in self._stateful:
            assert isinstance(settings, Settings)
            op.reset(settings)
        self._assign_resources()

    def _assign_resources(self) -> None:
        for handle, value in self._resources.items():
            self._runner.session.assign(handle, value)

    # -- tensors --

    def tensors(self, graph: int = 0) -> tuple[Tensor, ...]:
        """The tensors that a subgraph declares; none where there is no such subgraph."""
        graphs = self.model.subgraphs
        return graphs[graph].tensors if 0 <= graph < len(graphs) else ()

    def value(self, index: int, graph: int = 0) -> Array:
        """The value of a tensor; zeros where it has none."""
        runner = self._runner if graph == 0 else self._called(graph)
        found = runner.array(index)
        if found is None:
            tensor = self.tensors(graph)[index]
            found = np.zeros(tensor.shape, tensor.dtype.numpy)
        return found

    def writable(self, index: int) -> Array | None:
        """The memory of a tensor; None where it is a constant."""
        if self._runner.types[index].is_constant:
            return None
        return self._runner.array(index)


def _first_value(tensor: Tensor) -> Array:
    q = tensor.quantization
    fill = int(q.zero_points[0]) if tensor.dtype == I8 and q is not None and len(q.scales) else 0
    return np.full(tensor.shape, fill, tensor.dtype.numpy)
