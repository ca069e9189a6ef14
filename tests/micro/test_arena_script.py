"""The order in which TFLM fills its arena, and the report about it."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from tests.micro.arena_models import model_of

from litejit.errors import ModelError, PrepareError
from litejit.micro.allocations import ArenaTooSmall, allocations, least_arena_of
from litejit.micro.ledger import Persist, Planner, Reset, Resize, Step, Temporary
from litejit.micro.script import (
    BUFFERS,
    EVAL_TENSORS,
    NODES,
    QUANTIZATIONS,
    TENSORS,
    VARIABLES,
    Setup,
    resource_variables,
    write_script,
)
from litejit.micro.structs import TARGETS
from litejit.model import Model
from litejit.model.builder import ModelBuilder, per_channel, per_tensor
from litejit.model.options import AddOptions, VarHandleOptions
from litejit.types import F32, I8, I32, RESOURCE, Quantization

TEXT = "[RecordingMicroAllocator] "


def steps(model: Model, target: str = "wheel", planner: str = "greedy", **more: int) -> list[Step]:
    chosen = TARGETS[target]
    return write_script(model, Setup(chosen, planner, chosen.recording, **more)).steps


def sum_of_two(quantization: Quantization | None = None) -> Model:
    builder = ModelBuilder()
    graph = builder.main
    dtype = F32 if quantization is None else I8
    a = graph.add_input("a", (8,), dtype, quantization=quantization)
    b = graph.add_input("b", (8,), dtype, quantization=quantization)
    y = graph.add_output("y", (8,), dtype, quantization=quantization)
    graph.add_operator("ADD", [a, b], [y], AddOptions())
    return builder.build()


def mean() -> Model:
    builder = ModelBuilder()
    graph = builder.main
    x = graph.add_input("x", (4, 4), F32)
    axes = graph.add_constant("axes", [1], I32)
    y = graph.add_output("y", (4,), F32)
    graph.add_operator("MEAN", [x, axes], [y])
    return builder.build()


def variables(*names: str) -> Model:
    builder = ModelBuilder()
    graph = builder.main
    value = graph.add_input("value", (10,), F32)
    for name in names:
        handle = graph.add_tensor("handle", (1,), RESOURCE)
        graph.add_operator("VAR_HANDLE", [], [handle], VarHandleOptions(shared_name=name))
        graph.add_operator("ASSIGN_VARIABLE", [handle, value], [])
    return builder.build()


def test_the_arena_is_filled_in_tflms_order() -> None:
    assert steps(sum_of_two()) == [
        Persist(104, 8), Persist(72, 8), Persist(272, 8),
        Persist(16, 8),
        Resize(192),
        Persist(24, 8),
        Persist(72, 8, EVAL_TENSORS, 3),
        Persist(64, 8, NODES, 1),
        Persist(8, 4),
        Persist(60, 16, BUFFERS),
        Temporary(64, 8), Temporary(64, 8), Temporary(64, 8),
        Reset(), Resize(192, soft=True),
        Temporary(8, 8), Temporary(96, 8),
        Planner(3),
        Reset(), Resize(0), Resize(96),
        Persist(16, 16, BUFFERS), Persist(64, 8, TENSORS), Persist(64, 8, TENSORS),
        Persist(8, 16, BUFFERS), Persist(64, 8, TENSORS),
    ]  # fmt: skip


def test_firmware_uses_the_plain_allocator() -> None:
    start = steps(sum_of_two(), "cortex-m")[:4]
    assert start == [Persist(36, 4), Persist(44, 4), Persist(36, 4), Persist(8, 4)]


def test_the_linear_planner_is_larger_and_has_no_bound_for_its_entries() -> None:
    found = steps(sum_of_two(), planner="linear")
    assert found[1] == Persist(8216, 8)
    assert not any(isinstance(step, Planner) for step in found)


def test_a_quantized_temporary_costs_its_scales_and_zero_points_too() -> None:
    found = steps(sum_of_two(per_tensor(0.5, 3)))
    assert found.count(Temporary(24, 8)) == 3
    assert found.count(Temporary(8, 4)) == 3


def test_zero_points_take_four_bytes_a_channel() -> None:
    found = steps(sum_of_two(per_channel([0.5] * 8)))
    assert found.count(Temporary(36, 4)) == 3


def test_scales_without_zero_points_are_no_quantization() -> None:
    half = Quantization(np.array([0.5], np.float32), np.zeros(0, np.int64))
    with pytest.raises(PrepareError, match="INT8 without a scale and a zero point"):
        steps(sum_of_two(half))
    loose = model_of("RELU", [((8,), I8, half)], [((8,), I8, half)])
    assert Temporary(24, 8) not in steps(loose)


def test_quantized_inputs_and_outputs_cost_three_entries_each() -> None:
    found = [s for s in steps(sum_of_two(per_tensor(0.5))) if isinstance(s, Persist)][-11:]
    assert found == [
        Persist(16, 16, BUFFERS),
        *[Persist(64, 8, TENSORS), Persist(24, 8, QUANTIZATIONS), Persist(8, 4, QUANTIZATIONS)] * 2,
        Persist(8, 16, BUFFERS),
        *[Persist(64, 8, TENSORS), Persist(24, 8, QUANTIZATIONS), Persist(8, 4, QUANTIZATIONS)],
    ]  # fmt: skip


def test_a_tensor_that_is_input_and_output_appears_twice() -> None:
    builder = ModelBuilder()
    x = builder.main.add_input("x", (8,), F32)
    builder.main.outputs.append(x)
    found = steps(builder.build())
    assert found.count(Persist(64, 8, TENSORS)) == 2
    assert found.count(Persist(8, 16, BUFFERS)) == 2


def test_room_for_twelve_more_requests_is_kept_behind_every_operator() -> None:
    assert Resize(14 * 16, soft=True) in steps(mean())
    assert Resize(14 * 12, soft=True) in steps(mean(), "cortex-m")


def test_every_scratch_request_gets_a_handle_that_no_book_enters() -> None:
    found = steps(mean())
    assert Persist(16, 8) in found[found.index(Resize(14 * 16, soft=True)) :]


def test_scratch_requests_are_planned_with_the_tensors() -> None:
    assert Temporary(32 * 5, 8) in steps(mean())
    assert Temporary(24 * 5, 4) in steps(mean(), "cortex-m")


def test_resource_variables_are_allocated_before_anything_of_the_model() -> None:
    found = steps(variables("a", "b"))
    assert found[3:6] == [Persist(16, 16, BUFFERS), Persist(80, 16, BUFFERS), Persist(16, 8)]
    assert steps(variables("a"), "cortex-m")[3:5] == [
        Persist(12, 16, BUFFERS),
        Persist(20, 16, BUFFERS),
    ]


def test_resource_variables_are_counted_by_shared_name() -> None:
    assert resource_variables(variables("a", "b", "a")) == 2
    assert resource_variables(sum_of_two()) == 0


def test_the_first_assignment_to_a_variable_allocates_it() -> None:
    found = allocations(variables("a", "b", "a"))
    assigned = [o.persistent for o in found.operators if o.name == "ASSIGN_VARIABLE"]
    assert assigned == [(4, 40), (4, 40), (4,)]


def test_alternate_memory_costs_one_entry() -> None:
    assert steps(sum_of_two(), alternate_bytes=64)[3] == Persist(8, 16, BUFFERS)


def test_variable_tensors_are_allocated_while_the_plan_is_made() -> None:
    builder = ModelBuilder()
    builder.main.add_tensor("v", (5,), F32, is_variable=True)
    found = steps(builder.build())
    at = found.index(Persist(20, 16, VARIABLES))
    assert isinstance(found[at - 1], Temporary)
    assert isinstance(found[at + 1], Planner)


def test_the_report_has_tflms_words() -> None:
    assert allocations(sum_of_two()).text() == "".join(
        f"{TEXT}{line}\r\n"
        for line in (
            "Arena allocation total 1024 bytes",
            "Arena allocation head 96 bytes",
            "Arena allocation tail 928 bytes",
            "'TfLiteEvalTensor data' used 72 bytes with alignment overhead "
            "(requested 72 bytes for 3 allocations)",
            "'Persistent TfLiteTensor data' used 192 bytes with alignment overhead "
            "(requested 192 bytes for 3 tensors)",
            "'Persistent buffer data' used 104 bytes with alignment overhead "
            "(requested 84 bytes for 3 allocations)",
            "'NodeAndRegistration struct' used 64 bytes with alignment overhead "
            "(requested 64 bytes for 1 NodeAndRegistration structs)",
        )
    )


@pytest.mark.parametrize(
    ("arena_bytes", "tail"), [(4096, 928), (4104, 920), (4100, 932), (4097, 929)]
)
def test_the_tail_depends_on_the_arenas_size_modulo_16(arena_bytes: int, tail: int) -> None:
    found = allocations(sum_of_two(), arena_bytes=arena_bytes)
    assert (found.tail, found.head) == (tail, 96)  # as the wheel says


def test_an_arena_that_is_too_small_is_refused_with_the_size_that_would_do() -> None:
    least = least_arena_of(sum_of_two())
    assert allocations(sum_of_two(), arena_bytes=least).least_arena == least
    with pytest.raises(ArenaTooSmall) as caught:
        allocations(sum_of_two(), arena_bytes=512)
    assert str(caught.value) == (
        "Failed to resize buffer. Requested: 192, available 48, missing: 144\n"
        f"The arena has 512 bytes, {least} would do."
    )
    assert (caught.value.arena_bytes, caught.value.needed) == (512, least)


def test_the_least_arena_can_be_larger_than_what_is_in_use_at_the_end() -> None:
    found = allocations(sum_of_two())
    assert (found.total, found.least_arena) == (1024, 1136)  # as the wheel says and takes


def test_a_block_of_init_that_does_not_fit_is_a_failure() -> None:
    builder = ModelBuilder()
    graph = builder.main
    x, y = graph.add_input("x", (4,), F32), graph.add_output("y", (4,), F32)
    graph.add_operator("ELU", [x], [y])
    with pytest.raises(ArenaTooSmall, match="tail memory. Requested: 256"):
        allocations(builder.build(), arena_bytes=944)


def test_json_holds_everything() -> None:
    found = allocations(mean(), "cortex-m-short-enums")
    data = json.loads(json.dumps(found.to_json()))
    assert data["total"] == found.total == data["head"] + data["tail"]
    assert data["target"] == "cortex-m-short-enums"
    assert data["categories"]["NodeAndRegistration struct"] == {
        "used": 32, "requested": 32, "count": 1,
    }  # fmt: skip
    assert data["operators"][0]["scratch"] == [8, 4]
    assert [b["name"] for b in data["buffers"]][:2] == ["x", "y"]
    assert data["buffers"][0]["offset"] == found.buffers[0].offset
    assert data["peak"] == {
        "tick": 1, "subgraph": 0, "operator": 0, "name": "MEAN", "buffers": [0, 1, 2, 3],
    }  # fmt: skip


def test_the_peak_is_where_living_buffers_reach_highest() -> None:
    builder = ModelBuilder()
    graph = builder.main
    sizes = (16, 64, 128, 16)
    numbers = [graph.add_tensor(f"t{k}", (size,), F32) for k, size in enumerate(sizes)]
    for one, other in zip(numbers, numbers[1:], strict=False):
        graph.add_operator("NEG", [one], [other])
    graph.inputs.append(numbers[0])
    graph.outputs.append(numbers[-1])
    found = allocations(builder.build())
    assert found.peak == 2
    assert [b.name for b in found.alive_at(found.peak)] == ["t2", "t1"]
    operator = found.operator_at(found.peak)
    assert operator is not None
    assert (operator.name, operator.operator) == ("NEG", 1)


def test_old_compressed_weights_are_said_not_to_be_counted() -> None:
    builder = ModelBuilder()
    builder.add_metadata("COMPRESSION_METADATA", b"1234")
    assert any("COMPRESSION_METADATA" in note for note in allocations(builder.build()).notes)
    assert any("CMSIS-NN" in note for note in allocations(sum_of_two()).notes)


def test_an_operator_that_tflm_lacks_is_refused() -> None:
    builder = ModelBuilder()
    graph = builder.main
    x, y = graph.add_input("x", (4,), F32), graph.add_output("y", (4,), F32)
    graph.add_operator("GELU", [x], [y])
    with pytest.raises(PrepareError, match=r"GELU \(operator 0 of subgraph 0\): TFLM's arena"):
        allocations(builder.build())


def test_unknown_planners_are_refused() -> None:
    with pytest.raises(ValueError, match="no planner 'best': expected greedy or linear"):
        allocations(sum_of_two(), planner="best")


def test_the_arena_needs_no_llvmlite_to_be_worked_out_and_drawn() -> None:
    code = (
        "import sys; sys.modules['llvmlite'] = None\n"
        "from litejit.micro import allocations, lint, plot\n"
        "from litejit.model.builder import ModelBuilder\n"
        "model = ModelBuilder().build()\n"
        "found = allocations.allocations(model)\n"
        "assert plot.plot_html(found, 'x') and not lint.lint(model)\n"
        "assert found.total == 496, found.total\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_tensors_that_do_not_exist_are_refused() -> None:
    builder = ModelBuilder()
    builder.main.add_input("x", (4,), F32)
    builder.main.outputs.append(7)
    with pytest.raises(ModelError, match="output 7 of subgraph 0 is no tensor of 1"):
        allocations(builder.build())
    builder = ModelBuilder()
    x = builder.main.add_input("x", (4,), F32)
    builder.main.add_operator("NEG", [x], [5])
    with pytest.raises(ModelError, match=r"NEG \(operator 0 of subgraph 0\): tensor 5"):
        allocations(builder.build())
