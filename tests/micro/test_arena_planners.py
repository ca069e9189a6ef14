"""Lifetimes, the greedy plan, offline plans and the linear plan."""

from __future__ import annotations

import struct

import pytest
from tests.micro.arena_models import model_of

from litejit.errors import PrepareError
from litejit.micro.allocations import allocations
from litejit.micro.planners import Buffer, plan_greedily, plan_linearly
from litejit.model import Model
from litejit.model.builder import GraphBuilder, ModelBuilder
from litejit.model.options import (
    CallOnceOptions,
    IfOptions,
    ReshapeOptions,
    SVDFOptions,
    VarHandleOptions,
    WhileOptions,
)
from litejit.types import BOOL, C128, F16, F32, F64, I4, I16, I32, RESOURCE, U4, DType


def buffers(*rows: tuple[int, ...]) -> list[Buffer]:
    return [
        Buffer(f"b{k}", row[0], row[1], row[2], 0, row[3] if len(row) > 3 else -1)
        for k, row in enumerate(rows)
    ]


def lives(model: Model) -> dict[str, tuple[int, int]]:
    return {b.name: (b.first, b.last) for b in allocations(model).buffers}


def test_large_buffers_are_placed_first() -> None:
    assert plan_greedily(buffers((16, 0, 9), (64, 0, 9), (32, 0, 9))) == [96, 0, 64]


def test_of_equal_sizes_the_later_request_is_placed_first() -> None:
    assert plan_greedily(buffers((32, 0, 9), (32, 0, 9), (32, 0, 9))) == [64, 32, 0]


def test_buffers_share_memory_when_their_lives_do_not_meet() -> None:
    assert plan_greedily(buffers((64, 0, 1), (32, 2, 3))) == [0, 0]
    assert plan_greedily(buffers((64, 0, 2), (32, 2, 3))) == [0, 64]


def test_a_buffer_goes_into_the_first_gap_that_holds_it() -> None:
    rows = [(64, 0, 9), (48, 0, 3), (32, 2, 9), (48, 5, 9)]
    assert plan_greedily(buffers(*rows)) == [0, 64, 112, 64]


def test_a_gap_that_is_too_small_is_passed_over() -> None:
    rows = [(160, 0, 1, 0), (96, 0, 9, 192), (32, 3, 9), (48, 0, 9)]
    assert plan_greedily(buffers(*rows)) == [0, 192, 0, 288]


def test_offline_offsets_are_taken_as_they_are() -> None:
    rows = [(32, 0, 9, 8), (32, 0, 9, 8), (64, 0, 9)]
    assert plan_greedily(buffers(*rows)) == [8, 8, 40]


def test_offline_buffers_come_before_larger_ones() -> None:
    assert plan_greedily(buffers((128, 0, 9), (16, 0, 9, 0))) == [16, 0]


def test_the_first_buffer_lies_at_zero_and_an_empty_plan_has_no_head() -> None:
    assert plan_greedily(buffers((48, 5, 6))) == [0]
    assert plan_greedily([]) == []


def test_the_linear_planner_puts_one_buffer_behind_the_other() -> None:
    assert plan_linearly(buffers((16, 0, 0), (64, 1, 1), (32, 2, 2))) == [0, 16, 80]


def test_the_linear_planner_refuses_offline_plans_and_more_than_1024_buffers() -> None:
    with pytest.raises(PrepareError, match="offline"):
        plan_linearly(buffers((16, 0, 0, 0)))
    assert len(plan_linearly(buffers(*[(16, 0, 0)] * 1024))) == 1024
    with pytest.raises(PrepareError, match=r"Too many buffers \(max is 1024\)"):
        plan_linearly(buffers(*[(16, 0, 0)] * 1025))


def chain(graph: GraphBuilder, *names: str) -> None:
    """x -> NEG -> … of eight floats a tensor."""
    numbers = [graph.add_tensor(name, (8,), F32) for name in names]
    for one, other in zip(numbers, numbers[1:], strict=False):
        graph.add_operator("NEG", [one], [other])
    graph.inputs.append(numbers[0])
    graph.outputs.append(numbers[-1])


def test_inputs_live_from_tick_zero_and_outputs_to_the_end() -> None:
    builder = ModelBuilder()
    chain(builder.main, "x", "a", "y")
    assert lives(builder.build()) == {"x": (0, 1), "a": (1, 2), "y": (2, 2)}


def test_sizes_are_rounded_up_to_16_bytes() -> None:
    builder = ModelBuilder()
    graph = builder.main
    x, y = graph.add_input("x", (5,), F32), graph.add_output("y", (1,), F32)
    graph.add_operator("NEG", [x], [y])
    found = allocations(builder.build())
    assert [b.size for b in found.buffers] == [32, 16]
    assert found.head == 48


def test_reshape_copies_between_two_buffers() -> None:
    builder = ModelBuilder()
    graph = builder.main
    x, y = graph.add_input("x", (8,), F32), graph.add_output("y", (2, 4), F32)
    graph.add_operator("RESHAPE", [x], [y], ReshapeOptions(new_shape=(2, 4)))
    assert allocations(builder.build()).head == 64


def test_constants_and_variables_are_not_planned() -> None:
    builder = ModelBuilder()
    graph = builder.main
    x = graph.add_input("x", (1, 3), F32)
    feature = graph.add_constant("feature", [[1.0, 2.0, 3.0]], F32)
    time = graph.add_constant("time", [[1.0, 2.0]], F32)
    state = graph.add_tensor("state", (1, 2), F32, is_variable=True)
    y = graph.add_output("y", (1, 1), F32)
    options = SVDFOptions(rank=1)
    graph.add_operator("SVDF", [x, feature, time, -1, state], [y], options)
    found = allocations(builder.build())
    assert [b.name for b in found.buffers] == ["x", "y", "scratch of SVDF 0"]
    assert dict(found.categories)["TfLiteTensor variable buffer data"].requested == 8


def test_tensors_that_nobody_uses_are_planned_all_the_same() -> None:
    builder = ModelBuilder()
    builder.main.add_tensor("lost", (64,), F32)
    chain(builder.main, "x", "y")
    found = lives(builder.build())
    assert found["lost"] == (-1, -1)
    assert found["x"] == (0, 1)


def test_tensors_without_bytes_are_not_planned() -> None:
    builder = ModelBuilder()
    builder.main.add_tensor("nothing", (0, 4), F32)
    chain(builder.main, "x", "y")
    assert "nothing" not in lives(builder.build())


@pytest.mark.parametrize(
    ("dtype", "nbytes"),
    [(I4, 1), (F16, 2), (BOOL, 1), (RESOURCE, 4), (C128, 16), (F64, 8), (I16, 2)],
)
def test_elements_are_counted_in_tflms_bytes(dtype: DType, nbytes: int) -> None:
    builder = ModelBuilder()
    builder.main.add_tensor("t", (32,), dtype)
    assert allocations(builder.build()).buffers[0].size == 32 * nbytes


def test_a_scalar_has_one_element() -> None:
    builder = ModelBuilder()
    builder.main.add_tensor("t", (), F64)
    assert allocations(builder.build()).buffers[0].size == 16


def test_types_without_a_size_are_refused() -> None:
    builder = ModelBuilder()
    builder.main.add_tensor("t", (2,), U4)
    with pytest.raises(PrepareError, match="tensor 0 't': TFLM knows no size for UINT4"):
        allocations(builder.build())


def branches() -> Model:
    builder = ModelBuilder()
    graph = builder.main
    ask, x = graph.add_input("ask", (1,), BOOL), graph.add_input("x", (8,), F32)
    y = graph.add_output("y", (8,), F32)
    chain(builder.add_subgraph(), "then x", "then y")
    chain(builder.add_subgraph(), "else x", "else a", "else y")
    options = IfOptions(then_subgraph_index=1, else_subgraph_index=2)
    graph.add_operator("IF", [ask, x], [y], options)
    return builder.build()


def test_the_clock_ticks_for_each_branch_of_an_if_and_its_operators() -> None:
    assert lives(branches()) == {
        "ask": (0, 6), "x": (0, 6), "y": (1, 6), "then x": (2, 3), "then y": (3, 3),
        "else x": (4, 5), "else a": (5, 6), "else y": (6, 6),
    }  # fmt: skip


def test_a_loop_is_walked_through_its_condition_then_its_body() -> None:
    builder = ModelBuilder()
    graph = builder.main
    x, y = graph.add_input("x", (8,), F32), graph.add_output("y", (8,), F32)
    chain(builder.add_subgraph(), "cond x", "cond y")
    chain(builder.add_subgraph(), "body x", "body y")
    options = WhileOptions(cond_subgraph_index=1, body_subgraph_index=2)
    graph.add_operator("WHILE", [x], [y], options)
    found = lives(builder.build())
    assert (found["cond x"], found["body x"]) == ((2, 3), (4, 5))
    assert (found["x"], found["y"]) == ((0, 5), (1, 5))


def test_a_subgraph_that_is_visited_twice_keeps_its_first_birth_and_last_use() -> None:
    builder = ModelBuilder()
    graph = builder.main
    x = graph.add_input("x", (8,), F32)
    y = graph.add_output("y", (8,), F32)
    ask = graph.add_input("ask", (1,), BOOL)
    chain(builder.add_subgraph(), "sub x", "sub y")
    options = IfOptions(then_subgraph_index=1, else_subgraph_index=1)
    graph.add_operator("IF", [ask, x], [y], options)
    found = lives(builder.build())
    assert (found["sub x"], found["sub y"]) == ((2, 5), (3, 5))


def test_call_once_walks_its_subgraph_and_handles_are_not_planned() -> None:
    builder = ModelBuilder()
    chain(builder.main, "x", "y")
    inner = builder.add_subgraph()
    handle = inner.add_tensor("handle", (1,), RESOURCE)
    inner.add_operator("VAR_HANDLE", [], [handle], VarHandleOptions(shared_name="v"))
    value = inner.add_constant("value", [1.0] * 8, F32)
    inner.add_operator("ASSIGN_VARIABLE", [handle, value], [])
    builder.main.add_operator("CALL_ONCE", [], [], CallOnceOptions(init_subgraph_index=1))
    assert lives(builder.build()) == {"x": (0, 1), "y": (1, 5)}


def test_scratch_memory_lives_while_its_operator_runs_and_comes_last() -> None:
    builder = ModelBuilder()
    graph = builder.main
    chain(graph, "x", "a")
    axes = graph.add_constant("axes", [0], I32)
    y = graph.add_output("y", (1,), F32)
    graph.add_operator("MEAN", [1, axes], [y])
    found = allocations(builder.build()).buffers
    assert [(b.name, b.first, b.last, b.operator) for b in found if b.is_scratch] == [
        ("scratch of MEAN 1", 2, 2, 1),
        ("scratch of MEAN 1", 2, 2, 1),
    ]
    assert not found[0].is_scratch


def plan_of(*offsets: int, count: int | None = None) -> bytes:
    number = len(offsets) if count is None else count
    return struct.pack(f"<{3 + len(offsets)}i", 1, 0, number, *offsets)


def test_an_offline_plan_of_the_file_places_its_tensors() -> None:
    builder = ModelBuilder()
    chain(builder.main, "x", "a", "y")
    builder.add_metadata("OfflineMemoryAllocation", plan_of(64, -1, 8))
    found = allocations(builder.build())
    assert [(b.fixed, b.offset) for b in found.buffers] == [(64, 64), (-1, 96), (8, 8)]
    assert found.head == 128


def test_an_offline_plan_is_for_the_tensors_of_all_subgraphs() -> None:
    builder = ModelBuilder()
    chain(builder.main, "x", "y")
    chain(builder.add_subgraph(), "sub x", "sub y")
    builder.add_metadata("OfflineMemoryAllocation", plan_of(0, 32))
    with pytest.raises(PrepareError, match=r"\(2\) in metadata not equal nbr tensors \(4\)"):
        allocations(builder.build())


def test_a_variable_with_an_offline_offset_is_planned() -> None:
    builder = ModelBuilder()
    builder.main.add_tensor("v", (8,), F32, is_variable=True)
    chain(builder.main, "x", "y")
    builder.add_metadata("OfflineMemoryAllocation", plan_of(0, -1, -1))
    found = allocations(builder.build())
    assert found.buffers[0].name == "v"
    assert "TfLiteTensor variable buffer data" not in dict(found.categories)


def test_a_call_that_never_ends_is_walked_once() -> None:
    builder = ModelBuilder()
    graph = builder.main
    ask = graph.add_input("ask", (1,), BOOL)
    options = IfOptions(then_subgraph_index=0, else_subgraph_index=7)
    graph.add_operator("IF", [ask], [], options)
    assert lives(builder.build()) == {"ask": (0, 3)}


@pytest.mark.parametrize("depth", [30, 100])
def test_calls_that_double_or_nest_without_end_are_refused(depth: int) -> None:
    builder = ModelBuilder()
    graph = builder.main
    for number in range(1, depth + 1):
        ask = graph.add_input("ask", (1,), BOOL)
        other = number if depth == 30 else 9999
        options = IfOptions(then_subgraph_index=number, else_subgraph_index=other)
        graph.add_operator("IF", [ask], [], options)
        graph = builder.add_subgraph()
    with pytest.raises(PrepareError, match="is called too deep .* or too often"):
        allocations(builder.build())


def test_scratch_memory_of_no_bytes_takes_an_entry_of_the_planner() -> None:
    found = allocations(model_of("REDUCE_MAX", [((), F32), ((0,), I32)], [((), F32)]))

    assert [b.size for b in found.buffers if b.is_scratch] == [0, 0]
    assert found.least_arena == 1248  # TFLM's own figure
