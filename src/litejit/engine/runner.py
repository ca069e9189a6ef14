"""SubgraphRunner: one subgraph of a loaded model with its shapes, memory and Programs."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

from litejit import settings
from litejit.codegen.isa import Isa
from litejit.engine import budget
from litejit.engine.calls import EngineSession, check_calls
from litejit.engine.constants import ConstantStore
from litejit.engine.graph import Graph
from litejit.engine.link import link
from litejit.engine.lower import lower
from litejit.engine.plan import plan_memory
from litejit.engine.prepare import ResolvedOperator, declared_types, prepare, resolve
from litejit.engine.program import Program
from litejit.engine.rewrite import rewrite
from litejit.engine.simplify import simplify
from litejit.engine.state import State
from litejit.errors import CodegenError, InvokeError
from litejit.model import Model
from litejit.model.verify import check_graph
from litejit.ops.resolver import OpResolver
from litejit.types import Array, TensorType

_REMEMBERED_SHAPES = 8  # Programs kept for the shapes that data-dependent operators gave before


class LoadedModel:
    """A Model with what its interpreters share: constants packed for kernels."""

    __slots__ = ("model", "stores")

    def __init__(self, model: Model) -> None:
        self.model = model
        self.stores = [ConstantStore() for _ in model.subgraphs]


def make_runners(
    loaded: LoadedModel, resolver: OpResolver, *, isa: Isa | None, threads: int, preserve_all: bool
) -> list[SubgraphRunner]:
    """The runners of all subgraphs of one interpreter; they share its state."""
    model = loaded.model
    operators = [
        simplify(resolve(model, subgraph, resolver), partial(declared_types, model, index))
        for index, subgraph in enumerate(model.subgraphs)
    ]

    def make(index: int, session: EngineSession) -> SubgraphRunner:
        return SubgraphRunner(
            loaded, index, operators[index], session,
            isa=isa, threads=threads, preserve_all=preserve_all,
        )  # fmt: skip

    session = EngineSession(make)
    session.check = lambda: check_calls(operators)
    return [make(index, session) for index in range(len(model.subgraphs))]


class Section:
    """A stretch of operators whose shapes are known when it begins, ready to run.

    `following` holds the sections that ran after this one, by the shapes that it found.
    """

    __slots__ = ("_link", "_program", "following", "graph", "readable")

    def __init__(self, graph: Graph, link: Callable[[], Program]) -> None:
        self.graph, self._link = graph, link
        self._program: Program | None = None
        self.readable = graph.keep | set(graph.inputs)
        self.following: dict[tuple[Any, ...], Section] = {}

    @property
    def program(self) -> Program:
        """The Program; made when it is first asked for."""
        if self._program is None:
            self._program = self._link()
        return self._program


class SubgraphRunner:
    """Prepares, resizes and runs one subgraph; holds the values of its tensors.

    `isa` is None where everything runs in NumPy. With `preserve_all` every tensor keeps its
    memory to itself, so that all can be read after a run.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        index: int,
        operators: list[ResolvedOperator],
        session: EngineSession,
        *,
        isa: Isa | None,
        threads: int,
        preserve_all: bool,
    ) -> None:
        self.model = model = loaded.model
        self.subgraph = model.subgraphs[index]
        self.operators, self.session = operators, session
        self.types = declared_types(model, index)
        self.declared = self.types
        self.isa, self.threads, self.preserve_all = isa, threads, preserve_all
        self.store = loaded.stores[index]
        self.ready = False
        self.run_first: Callable[[], None] = lambda: None
        self.has_state = any(t.is_variable for t in self.types.values()) or any(
            r.op is not None and not r.op.is_pure for r in operators
        )
        self.state = State()
        self.sections: list[Section] = []
        self._shapes: dict[int, tuple[int, ...]] = {}

    # -- preparing --

    def resize(self, index: int, shape: tuple[int, ...]) -> None:
        """Give a tensor another shape; the graph then waits for `allocate`."""
        self._shapes[index] = shape
        self.types = {**self.types, index: self.types[index].with_shape(shape)}
        self.ready = False

    def allocate(self) -> None:
        """Prepare the graph for the present shapes and allocate its memory."""
        self.prepare()
        self.run_first = self.sections[0].program.run

    def prepare(self) -> None:
        """Infer all shapes, and decide what runs; memory is allocated when it is needed."""
        if self.ready:
            return
        check_graph(self.subgraph, self.model)
        self.session.check()
        types = dict(self.declared)
        for index, shape in self._shapes.items():
            types[index] = types[index].with_shape(shape)
        inputs = tuple(dict.fromkeys(i for i in self.subgraph.inputs if i >= 0))
        inputs = tuple(i for i in inputs if not types[i].is_constant and not types[i].is_variable)
        for index in inputs:
            budget.check(types[index].nbytes, f"input tensor {index} ({types[index].name!r})")
        state = State()
        section = self._section(types, inputs, 0, state)
        self.state, self.sections = state, [section]
        self.types = section.graph.types
        self.ready = True

    def _section(
        self,
        types: dict[int, TensorType],
        inputs: tuple[int, ...],
        start: int,
        state: State,
    ) -> Section:
        outputs = frozenset(i for i in self.subgraph.outputs if i >= 0)
        graph = prepare(
            self.subgraph, self.operators, types,
            inputs=inputs, keep=outputs, session=self.session, start=start,
        )  # fmt: skip
        graph = rewrite(graph, self._kept(graph, outputs), fuse=not self.preserve_all)
        state.fit(graph.types)
        return Section(graph, lambda: self._program(graph, state.arrays))

    def _program(self, graph: Graph, variables: dict[int, Array]) -> Program:
        try:
            return self._linked(graph, variables)
        except CodegenError as error:
            if self.isa is None:
                raise
            warnings.warn(f"kernels cannot be compiled, NumPy runs instead: {error}", stacklevel=2)
            self.isa = None
            return self._linked(graph, variables)

    def _linked(self, graph: Graph, variables: dict[int, Array]) -> Program:
        lowered = lower(graph, isa=self.isa, store=self.store, threads=self.threads)
        plan = plan_memory(lowered.requests)
        program = link(
            graph, lowered, plan, isa=self.isa, threads=self.threads, variables=variables
        )
        if settings.debug_level() >= 1:
            print(program, file=sys.stderr)
        return program

    def _kept(self, graph: Graph, outputs: frozenset[int]) -> frozenset[int]:
        if self.preserve_all:
            return frozenset(graph.types)
        later = self.operators[graph.stop :]
        return outputs | {i for resolved in later for i in resolved.operator.inputs if i >= 0}

    # -- running --

    def invoke(self) -> None:
        """Run the graph once."""
        if not self.ready:
            raise InvokeError("Invoke called on model that is not ready.")
        if not self.has_state:
            self._run()
            return
        before = self.state.save()
        shared = self.session.snapshot()
        try:
            self._run()
        except BaseException:
            self.state.restore(before)
            self.session.restore(shared)
            raise

    def _run(self) -> None:
        section = self.sections[0]
        self.run_first()
        if section.graph.stop == len(self.operators):
            return
        del self.sections[1:]
        while section.graph.stop < len(self.operators):
            section = self._next(section)
            self.sections.append(section)
            self._fill(section)
            section.program.run()
        self.types = section.graph.types

    def _next(self, section: Section) -> Section:
        """The section that runs on, for the shapes that were found."""
        found = {
            index: self.array(index)
            for index, tensor in section.graph.types.items()
            if tensor.shape is None and index in section.program.views
        }
        key = tuple((index, array.shape) for index, array in found.items() if array is not None)
        if key not in section.following:
            if len(section.following) >= _REMEMBERED_SHAPES:
                section.following.pop(next(iter(section.following)))
            types = dict(section.graph.types)
            for index, shape in key:
                types[index] = types[index].with_shape(shape)
            inputs = self._carried(section, types)
            start = section.graph.stop
            section.following[key] = self._section(types, inputs, start, self.state)
        return section.following[key]

    def _carried(self, section: Section, types: dict[int, TensorType]) -> tuple[int, ...]:
        """Tensors that were made before and are read later on."""
        later = self.operators[section.graph.stop :]
        wanted = {i for resolved in later for i in resolved.operator.inputs if i >= 0}
        return tuple(
            i
            for i in sorted(wanted)
            if not types[i].is_constant
            and not types[i].is_variable
            and any(i in s.readable and i in s.program.views for s in self.sections)
        )

    def _fill(self, section: Section) -> None:
        """Copy what earlier sections made into the memory of this one."""
        earlier = self.sections[:-1]
        for index in section.graph.inputs:
            section.program.views[index][...] = _find(earlier, index)

    # -- values --

    def array(self, index: int) -> Array | None:
        """The memory of a tensor, or None where it has none (yet) that is its own."""
        tensor = self.types[index]
        if not self.ready:
            return tensor.value
        if index in self.state.arrays:
            return self.state.arrays[index]
        return _find(self.sections, index) if tensor.value is None else tensor.value

    def shape_depends_on_data(self, index: int) -> bool:
        """Was the shape of this result unknown before the run?"""
        if not self.ready:
            return False
        graph = self.sections[0].graph
        later = (number for r in self.operators[graph.stop :] for number in r.operator.outputs)
        return graph.types[index].shape is None or index in later

    def static_graph(self) -> Graph | None:
        """The prepared graph, where no shape depends on data and no variable is kept."""
        whole = self.ready and self.sections[0].graph.stop == len(self.operators)
        return self.sections[0].graph if whole and not self.state.arrays else None

    def reset_variables(self) -> None:
        """Give all variables their first value."""
        self.state.reset()


def _find(sections: list[Section], index: int) -> Array | None:
    for section in reversed(sections):
        if index in section.readable and index in section.program.views:
            return section.program.views[index]
    return None
