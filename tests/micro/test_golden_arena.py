"""TFLM's own reports, recorded from its wheel: text, plan and least arena of every model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from litejit.errors import ModelError
from litejit.micro.allocations import ArenaTooSmall, allocations
from litejit.micro.ledger import least_arena
from litejit.micro.script import Setup, write_script
from litejit.micro.structs import TARGETS
from litejit.model import Model, read_model

GOLDEN = Path(__file__).parent.parent.parent.parent / "shared" / "tflm_golden"
if not GOLDEN.is_dir():
    pytest.skip("the folder with TFLM's recorded reports is not there", allow_module_level=True)

# Bytes by which our least arena may lie above the recorded one, where a kernel's persistent
# memory ran into live temporaries and nothing that mattered was overwritten.
GUARD_BYTES = 48
CASES = [
    path
    for path in sorted(GOLDEN.glob("*/*.json"))
    if '"print_allocations"' in path.read_text(encoding="utf-8")
]


def case_of(path: Path) -> tuple[dict[str, Any], Model]:
    said = json.loads(path.read_text(encoding="utf-8"))
    file = path.parent / said["model_file"]
    if not file.is_file():
        pytest.skip(f"{file.name} is not beside its recording")
    try:
        return said, read_model(str(file), strict=False)
    except ModelError as error:
        pytest.skip(f"{file.name} is another file than the recorded one: {error}")


@pytest.mark.parametrize("path", CASES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_the_arena_is_tflms_own(path: Path) -> None:
    said, model = case_of(path)
    found = allocations(model)

    assert found.text() == said["print_allocations"]
    plan = [[b.size, b.first, b.last, b.fixed, b.offset] for b in found.buffers]
    assert plan == said["trace"]["plan"]
    calls = said["trace"]["calls"]
    for operator in found.operators:
        where = f"{operator.subgraph}/{operator.operator}"
        both = calls.get(f"init/{where}", []) + calls.get(f"prepare/{where}", [])
        assert [size for kind, size in both if kind == "P"] == list(operator.persistent)
        assert [size for kind, size in both if kind == "S"] == list(operator.scratch)
    assert_least_arena(said, model, found.least_arena)


def assert_least_arena(said: dict[str, Any], model: Model, least: int) -> None:
    recorded = said["min_arena_16"]
    if str(said.get("invoke_at_min")).startswith("signal"):
        # TFLM says that it allocated, and then dies on a block of Init that it did not get.
        assert least > recorded
    else:
        assert_between(model, "greedy", recorded, least)
        assert least - recorded <= GUARD_BYTES
    assert allocations(model, arena_bytes=least).least_arena == least
    with pytest.raises(ArenaTooSmall, match=f"{least} would do") as caught:
        allocations(model, arena_bytes=least - 16)
    assert caught.value.needed == least


def assert_between(model: Model, planner: str, recorded: int, least: int) -> None:
    """Equal, unless persistent memory of a Prepare can overwrite temporaries of it."""
    setup = Setup(TARGETS["wheel"], planner, planner == "greedy")
    reckless = least_arena(write_script(model, setup).steps, guarded=False)
    assert reckless <= recorded <= least


@pytest.mark.parametrize("path", CASES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_the_arena_without_sharing_is_tflms_own(path: Path) -> None:
    said, model = case_of(path)
    recorded = said.get("preserve_min_arena_16")
    if not recorded:
        pytest.skip("TFLM was not asked, or refused, to preserve all tensors")
    if str(said.get("invoke_at_min")).startswith("signal"):
        pytest.skip("TFLM dies in the arena that it takes to be large enough")
    assert_between(model, "linear", recorded, allocations(model, planner="linear").least_arena)


@pytest.mark.parametrize(
    ("name", "target", "planner", "total", "least"),
    [
        ("person_detect", "wheel", "greedy", 85264, 85264),
        ("person_detect", "cortex-m", "greedy", 82300, 82304),
        ("person_detect", "riscv32", "greedy", 82300, 82304),
        ("person_detect", "cortex-m-short-enums", "greedy", 82292, 82304),
        ("person_detect", "wheel", "linear", None, 278960),
        ("kws_ref_model", "wheel", "greedy", None, 24272),
        ("kws_ref_model", "cortex-m", "greedy", None, 22784),
        ("kws_ref_model", "cortex-m-short-enums", "greedy", None, 22784),
        ("hello_world_int8", "wheel", "greedy", 1504, 1936),
        ("hello_world_int8", "cortex-m", "greedy", 716, 1104),
        ("hello_world_int8", "cortex-m-short-enums", "greedy", 676, 1072),
        ("ad01_int8", "wheel", "greedy", 3984, 4640),
    ],
)
def test_figures_of_known_models_are_those_of_tflm_built_for_the_target(
    name: str, target: str, planner: str, total: int | None, least: int
) -> None:
    file = GOLDEN.parent / "models" / f"{name}.tflite"
    if not file.is_file():
        pytest.skip(f"{file.name} is not there")
    found = allocations(read_model(str(file), strict=False), target, planner=planner)
    assert found.least_arena == least
    assert total is None or found.total == total
