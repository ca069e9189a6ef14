"""`litejit arena` and `litejit micro-lint`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from litejit.cli import group, main
from litejit.micro.allocations import allocations
from litejit.model import read_model
from litejit.model.builder import ModelBuilder, per_tensor
from litejit.model.options import AddOptions
from litejit.types import F32, I8, I32


def write_sum(folder: Path) -> str:
    builder = ModelBuilder()
    graph = builder.main
    numbers = [graph.add_tensor(name, (1, 64), I8, quantization=per_tensor(0.5)) for name in "abcy"]
    graph.inputs += numbers[:2]
    graph.outputs += numbers[3:]
    graph.add_operator("ADD", numbers[:2], [numbers[2]], AddOptions())
    graph.add_operator("RELU", [numbers[2]], [numbers[3]])
    return written(builder, folder)


def written(builder: ModelBuilder, folder: Path) -> str:
    path = folder / "model.tflite"
    path.write_bytes(builder.to_bytes())
    return str(path)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(group, list(arguments), catch_exceptions=False)


def test_the_table_tells_head_tail_categories_operators_and_the_peak(tmp_path: Path) -> None:
    path = write_sum(tmp_path)
    found = allocations(read_model(path, strict=False), "cortex-m")
    done = run("arena", path, "--target", "cortex-m")
    assert done.exit_code == 0
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    start = "model.tflite on Cortex-M, 4-byte enums: greedy planner, plain allocator"
    assert lines[0] == start
    assert f"head: planned buffers {found.head} 4" in lines
    assert f"tail: all that stays {found.tail}" in lines
    assert "NodeAndRegistration struct 64 64 2" in lines
    assert "0 ADD 68 8 60 0" in lines
    assert "peak 192 bytes at 0 ADD, tick 1 of the plan" in lines
    assert "c 64 64 1 to 2" in lines
    assert any("CMSIS-NN" in line for line in lines)


def test_the_parts_of_the_tail_add_up(tmp_path: Path) -> None:
    done = run("arena", write_sum(tmp_path))
    lines = done.stdout.splitlines()
    start = next(k for k, line in enumerate(lines) if line.startswith("tail: "))
    stop = lines.index("", start)
    inside = [line for line in lines[start + 1 : stop] if "handles" not in line]
    known = [int(line.split()[-3]) for line in inside]
    rest = next(int(line.split()[-1]) for line in lines if "handles" in line)
    assert len(known) == 5
    assert sum(known) + rest == int(lines[start].split()[-1])


def test_json_is_the_whole_record(tmp_path: Path) -> None:
    path = write_sum(tmp_path)
    data = json.loads(run("arena", path, "--json", "--target", "riscv32").stdout)
    expected = allocations(read_model(path, strict=False), "riscv32").to_json()
    assert data == {"model": "model.tflite", **json.loads(json.dumps(expected))}


@pytest.mark.parametrize(
    ("fits", "code"), [("1M", 0), ("64k", 0), ("64 KiB", 0), ("0.5k", 1), ("100", 1)]
)
def test_the_exit_code_says_whether_it_fits(tmp_path: Path, fits: str, code: int) -> None:
    done = run("arena", write_sum(tmp_path), "--fits", fits)
    assert done.exit_code == code
    assert ("does not fit" in done.stderr) == bool(code)


def test_the_least_arena_fits_and_one_byte_less_does_not(tmp_path: Path) -> None:
    path = write_sum(tmp_path)
    least = allocations(read_model(path, strict=False)).least_arena
    assert run("arena", path, "--fits", str(least)).exit_code == 0
    done = run("arena", path, "--fits", str(least - 1))
    assert (done.exit_code, done.stderr) == (1, "does not fit: 1 bytes more are needed\n")


def test_the_command_line_ends_with_the_commands_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["litejit", "arena", write_sum(tmp_path), "--fits", "1"]
    monkeypatch.setattr("sys.argv", arguments)
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 1
    assert "does not fit" in capsys.readouterr().err


def test_a_size_that_is_none_is_refused(tmp_path: Path) -> None:
    done = run("arena", write_sum(tmp_path), "--fits", "much")
    assert done.exit_code == 2
    assert "'much' is no size: expected bytes, or a number with k or M" in done.stderr


@pytest.mark.parametrize("ending", ["svg", "html"])
def test_the_plan_is_written_as_svg_or_html(tmp_path: Path, ending: str) -> None:
    picture = tmp_path / f"plan.{ending}"
    assert run("arena", write_sum(tmp_path), "--plot", str(picture)).exit_code == 0
    text = picture.read_text(encoding="utf-8")
    assert text.count('class="buffer"') == 4
    assert text.startswith("<svg" if ending == "svg" else "<!DOCTYPE html>")


def test_other_pictures_are_refused(tmp_path: Path) -> None:
    done = run("arena", write_sum(tmp_path), "--plot", str(tmp_path / "plan.png"))
    assert done.exit_code == 2
    assert "ends in .svg or .html" in done.stderr


def test_a_model_that_tflm_refuses_is_pointed_to_the_linter(tmp_path: Path) -> None:
    builder = ModelBuilder()
    graph = builder.main
    x, y = graph.add_input("x", (4,), I32), graph.add_output("y", (4,), I32)
    graph.add_operator("NEG", [x], [y])
    path = written(builder, tmp_path)
    done = run("arena", path)
    assert done.exit_code == 0
    assert done.stderr == f"TFLM refuses something here: see `litejit micro-lint {path}`\n"


def write_refused(folder: Path) -> str:
    builder = ModelBuilder()
    graph = builder.main
    x, y = graph.add_input("x", (4,), F32), graph.add_output("y", (4,), F32)
    graph.add_operator("SIGN", [x], [y])
    graph.add_operator("GELU", [y], [x])
    return written(builder, folder)


def test_the_linter_lists_everything_and_fails(tmp_path: Path) -> None:
    done = run("micro-lint", write_refused(tmp_path))
    assert done.exit_code == 1
    assert [line.split(":")[0] for line in done.stdout.splitlines()] == [
        "SIGN (operator 0)",
        "GELU (operator 1)",
    ]


def test_the_linter_prints_json(tmp_path: Path) -> None:
    rows = json.loads(run("micro-lint", write_refused(tmp_path), "--json").stdout)
    assert [(row["operator"], row["name"], row["stage"]) for row in rows] == [
        (0, "SIGN", "load"),
        (1, "GELU", "load"),
    ]
    assert all(row["advice"] for row in rows)


def test_the_linter_is_content_with_what_tflm_runs(tmp_path: Path) -> None:
    done = run("micro-lint", write_sum(tmp_path))
    assert done.exit_code == 0
    assert done.stdout == "model.tflite: TFLM's Python resolver takes all of it\n"
