"""Operators that have no family of tests of their own."""

from __future__ import annotations

import numpy as np
import pytest
from tests.ops.whole import Given, agrees, fixed, run

from litejit.interpreter import Interpreter
from litejit.model.builder import ModelBuilder
from litejit.model.flexbuffer import encode
from litejit.model.model import DimensionMetadata, Sparsity
from litejit.model.options import elementwise as options
from litejit.model.options.control import CallOnceOptions, HashtableOptions, VarHandleOptions
from litejit.model.options.stablehlo import StablehloCaseOptions, StableHLOCompositeOptions
from litejit.types import BOOL, F16, F32, F64, I8, I16, I32, I64, RESOURCE, STRING

RNG = np.random.default_rng(0)
NUMBERS = (F32, F16, I8, I16, I32, I64)


@pytest.mark.parametrize("name", ["ADD", "MULTIPLY", "MAXIMUM", "MINIMUM"])
@pytest.mark.parametrize("kind", [F32, I32, I64, I16])
def test_stablehlo_combines_equal_shapes(kind, name):
    a, b = (Given(RNG.integers(-90, 90, (3, 4)).astype(kind.numpy)) for _ in range(2))
    agrees(f"STABLEHLO_{name}", None, [a, b], [kind])


@pytest.mark.parametrize("kind", [BOOL, I32, I8, I16])
def test_stablehlo_and_is_bitwise_for_numbers(kind):
    a, b = (Given(RNG.integers(0, 2, (3, 4)).astype(kind.numpy)) for _ in range(2))
    agrees("STABLEHLO_AND", None, [a, b], [kind])


@pytest.mark.parametrize("kind", [F32, F64])
@pytest.mark.parametrize("custom", [False, True])
def test_angles_of_points(kind, custom):
    a, b = (Given(RNG.standard_normal((3, 4)).astype(kind.numpy)) for _ in range(2))
    name, how = ("Atan2", {}) if custom else ("ATAN2", options.ATan2Options())
    (y,) = run(name, how, [a, b], [kind])
    np.testing.assert_allclose(y, np.arctan2(a.value, b.value), rtol=1e-6)


@pytest.mark.parametrize("kind", [F32, F64, I32])
def test_the_custom_sign_keeps_nan(kind):
    x = np.array([-3, 0, 5], kind.numpy)
    (y,) = run("Sign", {}, [Given(x)], [kind])
    assert y.tolist() == [-1, 0, 1]
    if kind is not I32:
        (y,) = run("Sign", {}, [fixed(np.array([np.nan], kind.numpy))], [kind])
        assert np.isnan(y).all()


@pytest.mark.parametrize("kind", [F32, F16, I8])
def test_sparse_constants_get_their_zeros(kind):
    dense = np.array([[1, 0, 2], [0, 0, 0], [0, 3, 0]], kind.numpy)
    rows, columns = np.nonzero(dense)
    segments = np.searchsorted(rows, np.arange(4)).astype(np.int32)
    sparsity = Sparsity(
        (0, 1), None,
        (DimensionMetadata(0, 3, None, None),
         DimensionMetadata(1, 0, segments, columns.astype(np.int32))),
    )  # fmt: skip
    builder = ModelBuilder()
    graph = builder.main
    graph.add_input("unused", (1,), F32)
    stored = builder.add_buffer(dense[rows, columns].tobytes())
    sparse = graph.add_tensor("x", (3, 3), kind, buffer=stored, sparsity=sparsity)
    y = graph.add_output("y", (3, 3), kind)
    graph.add_operator("DENSIFY", [sparse], [y], options.DensifyOptions())
    interpreter = Interpreter(model_content=builder.to_bytes())
    interpreter.allocate_tensors()
    interpreter.invoke()
    np.testing.assert_array_equal(interpreter.get_tensor(y), dense)


def table_model(custom: bool) -> tuple[bytes, int, int, int]:
    """A hash table that is filled, asked and counted: (file, keys, values, count)."""
    builder = ModelBuilder()
    graph = builder.main
    wanted = graph.add_input("wanted", (2,), I64)
    handle = graph.add_tensor("handle", (1,), RESOURCE)
    pair = [graph.add_constant("keys", np.int64([4, 5]))]
    pair.append(graph.add_constant("values", np.array([b"four", b"five"], object)))
    default = graph.add_constant("default", np.array([b"?"], object))
    found, count = graph.add_output("found", (2,), STRING), graph.add_output("count", (1,), I64)
    if custom:
        data = encode({"table_id": 3, "key_dtype": 4, "value_dtype": 5})
        graph.add_operator("HashTableV2", [], [handle], custom=True, custom_options=data)
    else:
        how = HashtableOptions(table_id=3, key_dtype=I64, value_dtype=STRING)
        graph.add_operator("HASHTABLE", [], [handle], how)
    fill, ask, size = ("LookupTableImportV2", "LookupTableFindV2", "LookupTableSizeV2") if (
        custom) else ("HASHTABLE_IMPORT", "HASHTABLE_FIND", "HASHTABLE_SIZE")  # fmt: skip
    graph.add_operator(fill, [handle, *pair], [], custom=custom)
    graph.add_operator(ask, [handle, wanted, default], [found], custom=custom)
    graph.add_operator(size, [handle], [count], custom=custom)
    return builder.to_bytes(), wanted, found, count


@pytest.mark.parametrize("custom", [False, True])
def test_tables_have_twins_whose_options_are_a_map(custom):
    data, wanted, found, count = table_model(custom)
    interpreter = Interpreter(model_content=data)
    interpreter.allocate_tensors()
    interpreter.set_tensor(wanted, np.int64([5, 6]))
    interpreter.invoke()
    assert interpreter.get_tensor(found).tolist() == [b"five", b"?"]
    assert interpreter.get_tensor(count).tolist() == [2]


def test_variables_are_filled_once_and_keep_their_value():
    builder = ModelBuilder()
    graph, first = builder.main, builder.add_subgraph("first")
    variable = VarHandleOptions(container="", shared_name="v")
    for g in (first, graph):
        handle = g.add_tensor("handle", (1,), RESOURCE)
        g.add_operator("VAR_HANDLE", [], [handle], variable)
        if g is first:
            g.add_operator("ASSIGN_VARIABLE", [handle, g.add_constant("c", np.float32([1]))], [])
    x = graph.add_input("x", (1,), F32)
    graph.add_operator("CALL_ONCE", [], [], CallOnceOptions(init_subgraph_index=first.index))
    old, new = graph.add_tensor("old", (1,), F32), graph.add_output("new", (1,), F32)
    graph.add_operator("READ_VARIABLE", [handle], [old])
    graph.add_operator("ADD", [old, x], [new], options.AddOptions())
    graph.add_operator("ASSIGN_VARIABLE", [handle, new], [])
    interpreter = Interpreter(model_content=builder.to_bytes())
    interpreter.allocate_tensors()
    interpreter.set_tensor(x, np.float32([2]))
    seen = []
    for _ in range(3):
        interpreter.invoke()
        seen.append(float(interpreter.get_tensor(new)[0]))
    assert seen == [3, 5, 7]


@pytest.mark.parametrize(("index", "wanted"), [(0, 6), (1, 9), (2, 9), (-1, 9)])
def test_a_case_beyond_the_branches_takes_the_last(index, wanted):
    builder = ModelBuilder()
    graph = builder.main
    numbers = []
    for name in ("ADD", "MUL"):
        branch = builder.add_subgraph(name)
        a, y = branch.add_input("a", (1,), F32), branch.add_output("y", (1,), F32)
        kind = options.AddOptions() if name == "ADD" else options.MulOptions()
        branch.add_operator(name, [a, a], [y], kind)
        numbers.append(branch.index)
    chosen, x = graph.add_input("i", (), I32), graph.add_input("x", (1,), F32)
    y, z = graph.add_tensor("y", (1,), F32), graph.add_output("z", (1,), F32)
    case = StablehloCaseOptions(branch_subgraph_indices=tuple(numbers))
    graph.add_operator("STABLEHLO_CASE", [chosen, x], [y], case)
    same = builder.add_subgraph("same")
    a, b = same.add_input("a", (1,), F32), same.add_output("b", (1,), F32)
    same.add_operator("RELU", [a], [b])
    composite = StableHLOCompositeOptions(name="n", decomposition_subgraph_index=same.index)
    graph.add_operator("STABLEHLO_COMPOSITE", [y], [z], composite)
    interpreter = Interpreter(model_content=builder.to_bytes())
    interpreter.allocate_tensors()
    interpreter.set_tensor(chosen, np.int32(index))
    interpreter.set_tensor(x, np.float32([3]))
    interpreter.invoke()
    assert interpreter.get_tensor(z).tolist() == [wanted]
