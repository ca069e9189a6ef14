"""SubgraphRunner: one subgraph of a loaded model with its shapes, memory and Programs."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from litejit import settings
from litejit.codegen.isa import Isa
from litejit.engine import budget, kept
from litejit.engine.calls import EngineSession
from litejit.engine.collector import collection_paused, weakly
from litejit.engine.constants import ConstantStore
from litejit.engine.declared import Operators, declared_type, declared_types, has_data
from litejit.engine.section import Section, find_value
from litejit.engine.state import State
from litejit.errors import CodegenError, InvokeError, LitejitError
from litejit.model import BUILTIN_NAMES, Model
from litejit.ops.resolver import BuiltinOpResolver, OpResolver
from litejit.types import Array, TensorType

if TYPE_CHECKING:  # the stages are imported when a graph goes through them
    from litejit.engine.assumed import Assumptions
    from litejit.engine.graph import Graph
    from litejit.engine.prepare import Assumed, ResolvedOperator
    from litejit.engine.program import Program
    from litejit.engine.steps import Lowered

_REMEMBERED_SHAPES = 8  # Programs kept for the shapes that data-dependent operators gave before
_REMEMBERED_CALLS = 32  # and of a called subgraph for the shapes of its operands
_REMEMBERED_BYTES = 1 << 26


class LoadedModel:
    """A Model with what its interpreters share: constants packed for kernels.

    `data` are the file's bytes, where the model still has to be verified; programs of such
    models may come from disk.
    """

    __slots__ = ("_digest", "_verified", "data", "model", "stores")

    def __init__(
        self, model: Model, data: bytes | None = None, digest: kept.Digest | None = None
    ) -> None:
        self.model, self.data, self._digest = model, data, digest
        self.stores = [
            ConstantStore(partial(has_data, model, number))
            for number in range(len(model.subgraphs))
        ]
        self._verified = data is None

    def verify(self) -> None:
        """Check the model, once. Raises ModelError."""
        if not self._verified:
            from litejit.model.verify import verify_model

            verify_model(self.model)
            self._verified = True

    def name_on_disk(self, isa: Isa, threads: int) -> str:
        """The name of this model's program on disk; "" where none is kept."""
        model, digest = self.model, self._digest
        if digest is None or len(model.subgraphs) != 1 or settings.debug_level():
            return ""
        custom = any(code.is_custom for code in model.operator_codes)
        return "" if custom else kept.name_of(digest.value, isa, threads)


def make_runners(
    loaded: LoadedModel, resolver: OpResolver, *, isa: Isa | None, threads: int, preserve_all: bool
) -> list[SubgraphRunner]:
    """The runners of all subgraphs of one interpreter; they share its state."""
    model, found = loaded.model, None
    name = ""
    if isa is not None and not preserve_all and not resolver.has_additions:
        name = loaded.name_on_disk(isa, threads)
        found = kept.find(name, isa) if name else None
    # what is found now must not follow what is added to `resolver` later
    operators = Operators(model, resolver if found is None else BuiltinOpResolver())
    if found is None:
        loaded.verify()
        operators.all()

    def make(index: int, session: EngineSession) -> SubgraphRunner:
        return SubgraphRunner(
            loaded, index, operators, session,
            isa=isa, threads=threads, preserve_all=preserve_all, name=name, found=found,
        )  # fmt: skip

    session = EngineSession(make, operators.all)
    session.beyond_reference = any(
        resolver.is_beyond_reference(BUILTIN_NAMES[code.code], code.version)
        for code in model.operator_codes
    )
    return [make(index, session) for index in range(len(model.subgraphs))]


class SubgraphRunner:
    """Prepares, resizes and runs one subgraph; holds the values of its tensors.

    `isa` is None where everything runs in NumPy. With `preserve_all` every tensor keeps its
    memory to itself, so that all can be read after a run.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        index: int,
        operators: Operators,
        session: EngineSession,
        *,
        isa: Isa | None,
        threads: int,
        preserve_all: bool,
        name: str,
        found: kept.Kept | None,
    ) -> None:
        self.model, self.loaded, self.number = loaded.model, loaded, index
        self.subgraph = self.model.subgraphs[index]
        self._operators, self.session = operators, session
        self.isa, self.threads, self.preserve_all = isa, threads, preserve_all
        self.store = loaded.stores[index]
        self.ready = self.is_whole = False  # is_whole: no shape depends on data
        self.is_plain = False  # nothing to take back after an error, shapes that never change
        self._layout = 0  # of the session's variables, when the Programs were made
        self.run_first: Callable[[], None] = lambda: None
        self._name, self._found = name, found
        self.types = self._declared_types()
        self.has_state = found is None and (
            any(t.is_variable for t in self.types.values())
            or any(r.op is not None and not r.op.is_pure for r in self.operators)
        )
        self.state = State()
        self.sections: list[Section] = []
        self._first: Section  # where all begins
        self._allocated: Section | None = None
        self._assumptions: Assumptions | None = None
        self._shapes: dict[int, tuple[int, ...]] = {}
        self.is_called = False  # by operators
        self._remembered: dict[tuple[Any, ...], Section] = {}

    @property
    def operators(self) -> list[ResolvedOperator]:
        """The operators of the subgraph, with their Ops."""
        return self._operators.all()[self.number]

    @property
    def runs_foreign_code(self) -> bool:
        """May a run, in this subgraph or one that it calls, come to an operator of the user's?"""
        return any(r.op is not None and r.op.is_foreign for g in self._operators.all() for r in g)

    def _declared_types(self) -> dict[int, TensorType]:
        model, number = self.model, self.number
        if self._found is None:
            return declared_types(model, number)
        known = {i: declared_type(model, number, i) for i in self._found.readable}
        return kept.KeptTypes(known, len(self.subgraph.tensors), weakly(self._all_types))

    def _all_types(self) -> dict[int, TensorType]:
        return self.sections[0].graph.types if self.ready else self._declared()

    def _declared(self) -> dict[int, TensorType]:
        return declared_types(self.model, self.number)

    # -- preparing --

    def resize(self, index: int, shape: tuple[int, ...]) -> None:
        """Give a tensor another shape; the graph then waits for `allocate`."""
        self._shapes[index] = shape
        self.types = {**self.types, index: self.types[index].with_shape(shape)}
        self.ready = False

    def set_threads(self, threads: int) -> None:
        """Run on so many threads after the next `allocate`."""
        if threads != self.threads:  # a Program's scratch areas are for as many as it was made for
            self.threads, self._name, self._found = threads, "", None
        self.ready = False

    def allocate(self) -> None:
        """Prepare the graph for the present shapes and allocate its memory."""
        stays = self.ready and self._layout == self.session.layout
        if stays and self.sections[0] is self._allocated:
            return
        with collection_paused(), budget.shortage_named("allocate_tensors"):
            self.prepare()
            program = self.sections[0].program
            self.run_first = program.run
            stays = self._layout == self.session.layout
            never_fails = not self.has_state or program.fails_unchanged
            self.is_plain = self.is_whole and stays and never_fails
            self.session.runners.add(self)
            self._allocated = self.sections[0]

    def prepare(self) -> None:
        """Infer all shapes, and decide what runs; memory is allocated when it is needed."""
        if self.ready and self._layout == self.session.layout:
            return
        if self._found is not None and not self._shapes:
            self._take(self._found)
            return
        self._layout = self.session.layout
        if self.ready:  # variables moved: the values of tensors stay where they are
            self._first = self._first_section(self._shapes, self.state, self._given())
        else:
            self._first, self.state = self._first_of_shapes()
        section = self._first
        self.sections = [section]
        self._assumptions = None
        self.types = section.graph.types
        self.is_whole = self._is_whole(section)
        self.ready = True

    def _first_of_shapes(self) -> tuple[Section, State]:
        """The section that begins with the present shapes, and its state.

        A called subgraph may be given the same shapes again, as the turns of a loop are.
        """
        key = self.session.layout, tuple(sorted(self._shapes.items()))
        state, known = State(), self._remembered.get(key)
        if known is not None:
            return known, state
        section = self._first_section(self._shapes, state)
        if self.is_called and not state.arrays:
            held = sum(section.nbytes for section in self._remembered.values())
            if held > _REMEMBERED_BYTES or len(self._remembered) >= _REMEMBERED_CALLS:
                self._remembered.clear()
            self._remembered[key] = section
        return section, state

    def _given(self) -> dict[int, Array]:
        """The memory of the inputs, for Programs that take the place of others."""
        views = self._first.program.views
        return {index: views[index] for index in self._first.graph.inputs}

    def assuming(self, assumed: dict[int, Assumed]) -> Section | None:
        """The whole graph under these assumptions; None if it falls apart all the same."""
        try:
            section = self._first_section(self._shapes, self.state, self._given(), assumed)
        except LitejitError:
            return None
        return section if self._is_whole(section) else None

    def _is_whole(self, section: Section) -> bool:
        from litejit.engine.graph import is_whole

        return section.graph.stop == len(self.operators) and is_whole(section.graph)

    def _first_section(
        self,
        shapes: dict[int, tuple[int, ...]],
        state: State,
        given: dict[int, Array] | None = None,
        assumed: dict[int, Assumed] | None = None,
    ) -> Section:
        """The section in which all begins."""
        from litejit.model.verify import check_graph

        check_graph(self.subgraph, self.model)
        self.session.check()
        types = self._declared()
        for index, shape in shapes.items():
            types[index] = types[index].with_shape(shape)
        inputs = tuple(dict.fromkeys(i for i in self.subgraph.inputs if i >= 0))
        inputs = tuple(i for i in inputs if not types[i].is_constant and not types[i].is_variable)
        for index in inputs:
            budget.check(types[index].nbytes, f"input tensor {index} ({types[index].name!r})")
        return self._section(types, inputs, 0, state, given or {}, assumed)

    def _take(self, found: kept.Kept) -> None:
        """Make the Program that was found on disk the only section."""
        data = self.loaded.data
        assert data is not None
        self.types = self._declared_types()
        program = found.program(data, self.types, self.threads, weakly(self._complete))
        graph = weakly(self._whole_graph)
        section = Section(graph, lambda: program, frozenset(found.readable))
        self._first, self.sections = section, [section]
        self.is_whole = self.ready = True

    def _whole_graph(self) -> Graph:
        """The graph as the file declares its inputs."""
        return self._first_section({}, State()).graph

    def _complete(self, program: Program) -> Lowered:
        """The steps of a Program that came from disk, and views of all its tensors."""
        from litejit.engine.link import tensor_views
        from litejit.engine.lower import lower
        from litejit.engine.plan import plan_memory

        graph = self.sections[0].graph
        lowered = lower(graph, isa=self.isa, store=self.store, threads=self.threads)
        plan = plan_memory(lowered.requests)
        program.views.update(tensor_views(graph, lowered, plan, program.arena, {}))
        return lowered

    def _section(
        self,
        types: dict[int, TensorType],
        inputs: tuple[int, ...],
        start: int,
        state: State,
        given: dict[int, Array],
        assumed: dict[int, Assumed] | None = None,
    ) -> Section:
        from litejit.engine.prepare import prepare
        from litejit.engine.rewrite import rewrite, with_all_tensors

        outputs = frozenset(i for i in self.subgraph.outputs if i >= 0)
        graph = prepare(
            self.subgraph, self.operators, types,
            inputs=inputs, keep=outputs, session=self.session, start=start, assumed=assumed,
        )  # fmt: skip
        fused = rewrite(graph, self._kept(graph, outputs))
        graph = with_all_tensors(fused, graph) if self.preserve_all else fused
        state.fit(graph.types)
        return Section(graph, partial(weakly(self._program), graph, state.arrays, given))

    def _program(
        self, graph: Graph, variables: dict[int, Array], given: dict[int, Array]
    ) -> Program:
        try:
            return self._linked(graph, variables, given)
        except CodegenError as error:
            if self.isa is None:
                raise
            warnings.warn(f"kernels cannot be compiled, NumPy runs instead: {error}", stacklevel=2)
            self.isa = None
            return self._linked(graph, variables, given)

    def _linked(
        self, graph: Graph, variables: dict[int, Array], given: dict[int, Array]
    ) -> Program:
        from litejit.engine.link import link
        from litejit.engine.lower import lower
        from litejit.engine.plan import plan_memory

        lowered = lower(graph, isa=self.isa, store=self.store, threads=self.threads, given=given)
        plan = plan_memory(lowered.requests)
        memory = {**variables, **given}
        program = link(graph, lowered, plan, isa=self.isa, threads=self.threads, variables=memory)
        if settings.debug_level() >= 1:
            print(program, file=sys.stderr)
        alone = not given  # a Program that takes the place of another is right for its values only
        if self._name and alone and self._may_be_kept(graph) and self.isa is not None:
            data = self.loaded.data or b""
            kept.keep(self._name, data, graph, lowered, plan, self.store.source_of, self.isa)
        return program

    def _may_be_kept(self, graph: Graph) -> bool:
        """Is this all there is to the file: no state, no resizing, outputs as it declares them?"""
        if self.has_state or self._shapes or graph.stop < len(self.operators):
            return False
        found = ((graph.types[i], i) for i in graph.keep | set(graph.inputs))
        return all(t == declared_type(self.model, self.number, i) for t, i in found)

    def _kept(self, graph: Graph, outputs: frozenset[int]) -> frozenset[int]:
        from litejit.engine.rewrite import with_deciding

        later = self.operators[graph.stop :]
        wanted = {i for resolved in later for i in resolved.operator.inputs if i >= 0}
        return with_deciding(graph, outputs | wanted)

    # -- running --

    def invoke(self) -> None:
        """Run the graph once."""
        if not self.ready:
            raise InvokeError("Invoke called on model that is not ready.")
        if self.is_plain:
            self.run_first()
        elif not self.has_state:
            self.run()
        else:
            self.run_or_restore()

    def run_or_restore(self) -> None:
        """Run the graph once; a run that does not finish leaves the state as it was."""
        if self._layout != self.session.layout:
            self.allocate()
        if self._assumptions is not None and self._assumptions.run_unchanged():
            return
        before = self.saved()
        try:
            self.run()
        except BaseException:
            self.restore(before)
            raise

    def saved(self) -> Any:
        """All state that a run may change, for `restore`."""
        return self.state.save(), self.session.snapshot()

    def restore(self, saved: Any) -> None:
        """Take back what a run changed."""
        own, shared = saved
        self.state.restore(own)
        self.session.restore(shared)

    def run(self) -> None:
        """Run the graph once, whatever becomes of its state."""
        if self.is_whole:
            self.run_first()
            return
        if self._assumptions is None:
            from litejit.engine.assumed import Assumptions

            self._assumptions = Assumptions(self)
        self._assumptions.run()

    def run_sections(self) -> None:
        """Run the graph section by section, as shapes are found."""
        section = self._first
        section.program.run()
        if self.is_whole:
            return
        with budget.shortage_named("invoke"):
            self._run_on(section)

    def _run_on(self, section: Section) -> None:
        """Run what could not be prepared before `section` had run."""
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
        shapes = tuple((index, array.shape) for index, array in found.items() if array is not None)
        key = self.session.layout, shapes
        if key not in section.following:
            if len(section.following) >= _REMEMBERED_SHAPES:
                section.following.pop(next(iter(section.following)))
            types = dict(section.graph.types)
            for index, shape in shapes:
                types[index] = types[index].with_shape(shape)
            inputs = self._carried(section, types)
            start = section.graph.stop
            section.following[key] = self._section(types, inputs, start, self.state, {})
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
            section.program.views[index][...] = find_value(earlier, index)

    # -- values --

    def array(self, index: int) -> Array | None:
        """The memory of a tensor, or None where it has none (yet) that is its own."""
        tensor = self.types[index]
        if not self.ready:
            return tensor.value
        if index in self.state.arrays:
            return self.state.arrays[index]
        if tensor.value is not None:
            return tensor.value
        # later sections have copies of inputs, which are filled when they run
        first = self.sections[1:] and index in self.subgraph.inputs
        return find_value(self.sections[:1] if first else self.sections, index)

    def static_graph(self) -> Graph | None:
        """The prepared graph, where no shape depends on data and no variable is kept."""
        if not self.ready or self.state.arrays:
            return None
        graph = self._first.graph  # shapes may be unknown of what nobody reads
        return graph if graph.stop == len(self.operators) else None

    def reset_variables(self) -> None:
        """Give all variables their first value."""
        self.state.reset()
