"""Resolvers: what they hold, what replaces what, and selective registration."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from tests.api.models import custom_model, model

import litejit
from litejit.cli.ops import command
from litejit.cpp_api import InterpreterBuilder, Model
from litejit.model.builder import ModelBuilder
from litejit.ops.activation import Relu6
from litejit.ops.base import Op
from litejit.types import F32


class Mine(litejit.CustomOp):
    def invoke(self, context: litejit.Context, node: litejit.CustomNode) -> None:
        node.output().data = np.full(node.output().shape or (), 7, np.float32)


def test_builtin_resolver_finds_operators_by_name_and_number() -> None:
    resolver = litejit.BuiltinOpResolver()
    assert resolver.find_op("RELU6", 1) is resolver.find_op(21, 1)
    assert isinstance(resolver.find_op("RELU6"), Relu6)


@pytest.mark.parametrize(
    ("operator", "version"), [("RELU6", 99), ("RELU6", 0), ("NoSuchOp", 1), (9999, 1), (-1, 1)]
)
def test_unknown_operators_are_none(operator: Any, version: int) -> None:
    assert litejit.BuiltinOpResolver().find_op(operator, version) is None


def test_mutable_resolver_is_empty_at_first() -> None:
    resolver = litejit.MutableOpResolver()
    assert resolver.find_op("ADD") is None
    assert len(resolver.versions("ADD")) == 0


def test_added_builtin_has_the_versions_that_were_given() -> None:
    resolver = litejit.MutableOpResolver()
    resolver.add_builtin("CONV_2D", min_version=2, max_version=3)
    found = [v for v in range(1, 9) if resolver.find_op("CONV_2D", v) is not None]
    assert found == [2, 3]
    assert list(resolver.versions("CONV_2D")) == [2, 3]


def test_added_builtin_has_all_its_versions_otherwise() -> None:
    resolver = litejit.MutableOpResolver()
    resolver.add_builtin("CONV_2D")
    assert resolver.versions("CONV_2D") == litejit.BuiltinOpResolver().versions("CONV_2D")


def test_later_registration_replaces_an_earlier_one_of_the_same_version() -> None:
    resolver, own = litejit.BuiltinOpResolver(), litejit.BuiltinOpResolver()
    resolver.add_builtin("ADD", Mine())
    assert resolver.find_op("ADD", 1) is not own.find_op("ADD", 1)
    assert resolver.find_op("ADD", 2) is own.find_op("ADD", 2)
    resolver.add_builtin("ADD", own.find_op("ADD", 1))
    assert resolver.find_op("ADD", 1) is own.find_op("ADD", 1)


def test_custom_operator_serves_every_version_unless_one_is_given() -> None:
    resolver = litejit.MutableOpResolver()
    resolver.add_custom("A", Mine())
    resolver.add_custom("B", Mine(), 2, 3)
    assert isinstance(resolver.find_op("A", 5), Op)
    assert [v for v in range(6) if resolver.find_op("B", v)] == [2, 3]


def test_add_op_takes_builtin_and_custom_names() -> None:
    resolver = litejit.MutableOpResolver()
    resolver.add_op("ADD")
    resolver.add_op("Mine", Mine())
    assert resolver.find_op("ADD") is not None
    assert resolver.find_op("Mine") is not None


def test_add_all_copies_and_replaces() -> None:
    first, second = litejit.MutableOpResolver(), litejit.MutableOpResolver()
    first.add_builtin("ADD")
    first.add_custom("Mine", Mine())
    second.add_builtin("ADD", Mine())
    first.add_all(second)
    assert first.find_op("ADD") is second.find_op("ADD")
    assert first.find_op("Mine") is not None


def test_chained_resolver_is_asked_last() -> None:
    first = litejit.MutableOpResolver()
    first.add_builtin("ADD", Mine())
    first.chain(litejit.BuiltinOpResolver())
    assert first.find_op("ADD") is not litejit.BuiltinOpResolver().find_op("ADD")
    assert first.find_op("SUB") is litejit.BuiltinOpResolver().find_op("SUB")


def test_unknown_builtin_cannot_be_added() -> None:
    with pytest.raises(ValueError, match="no builtin operator is called 'NOPE'; use add_custom"):
        litejit.MutableOpResolver().add_builtin("NOPE")


def test_custom_name_of_a_builtin_is_no_builtin() -> None:
    interpreter = litejit.Interpreter(model_content=custom_model("ADD"))
    with pytest.raises(RuntimeError, match="unresolved custom op: ADD"):
        interpreter.allocate_tensors()


def test_replaced_builtin_is_never_fused() -> None:
    from litejit.model.options import FullyConnectedOptions

    builder = ModelBuilder()
    graph = builder.main
    x = graph.add_input("x", (1, 4), F32)
    w = graph.add_constant("w", np.ones((3, 4), np.float32))
    t, y = graph.add_tensor("t", (1, 3), F32), graph.add_output("y", (1, 3), F32)
    graph.add_operator("FULLY_CONNECTED", [x, w, -1], [t], FullyConnectedOptions())
    graph.add_operator("RELU", [t], [y])
    interpreter = litejit.InterpreterWithCustomOps(
        [lambda r: r.add_builtin("RELU", Mine())], model_content=builder.to_bytes()
    )
    interpreter.allocate_tensors()
    interpreter.set_tensor(0, np.ones((1, 4), np.float32))
    interpreter.invoke()
    assert interpreter.get_tensor(3).tolist() == [[7, 7, 7]]


def test_reference_resolver_runs_numpy_only() -> None:
    kind = litejit.OpResolverType.BUILTIN_REF
    interpreter = litejit.Interpreter(
        model_content=model("fixed"), experimental_op_resolver_type=kind
    )
    interpreter.allocate_tensors()
    assert interpreter._runner.isa is None
    assert not litejit.BuiltinRefOpResolver.compiled


# -- selective registration --


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    paths = {}
    for name in ("add", "fixed", "gather", "quantized"):
        path = tmp_path / f"{name}.tflite"
        path.write_bytes(model(name))
        paths[name] = str(path)
    path = tmp_path / "custom.tflite"
    path.write_bytes(custom_model("CustomOp"))
    return {**paths, "custom": str(path)}


def module_of(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location("selected", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_written_module_runs_its_models_and_refuses_another(
    files: dict[str, str], tmp_path: Path
) -> None:
    target = tmp_path / "selected.py"
    three = [files["add"], files["fixed"], files["gather"]]
    result = CliRunner().invoke(command, [*three, "-o", str(target)])
    assert result.exit_code == 0, result.output
    resolver = module_of(target).resolver()
    for path in three:
        interpreter = InterpreterBuilder(Model.from_file(path), resolver)()
        assert interpreter is not None
        assert interpreter.allocate_tensors() == 0
        assert interpreter.invoke() == 0
    told: list[str] = []
    refused = Model.from_file(files["quantized"], error_reporter=told.append)
    assert InterpreterBuilder(refused, resolver)() is None
    assert "Didn't find op for builtin opcode 'FULLY_CONNECTED' version '5'" in told[0]


def test_written_module_takes_custom_operators_by_name(
    files: dict[str, str], tmp_path: Path
) -> None:
    target = tmp_path / "selected.py"
    CliRunner().invoke(command, [files["custom"], "-o", str(target)])
    resolver = module_of(target).resolver(CustomOp=Mine())
    assert resolver.find_op("CustomOp") is not None


def test_operators_are_listed_with_versions(files: dict[str, str]) -> None:
    result = CliRunner().invoke(command, [files["quantized"], files["custom"]])
    assert [line.split() for line in result.output.splitlines()] == [
        ["operator", "versions", "kind"],
        ["FULLY_CONNECTED", "5", "builtin"],
        ["CustomOp", "1", "custom"],
    ]


def test_lines_for_tflm_name_exactly_the_operators(files: dict[str, str]) -> None:
    result = CliRunner().invoke(command, ["--tflm", files["quantized"], files["gather"]])
    assert result.output.splitlines() == [
        "tflite::MicroMutableOpResolver<2> op_resolver;",
        "TF_LITE_ENSURE_STATUS(op_resolver.AddFullyConnected());",
        "TF_LITE_ENSURE_STATUS(op_resolver.AddGather());",
    ]


@pytest.mark.parametrize(
    ("name", "method"),
    [
        ("DEPTHWISE_CONV_2D", "DepthwiseConv2D"),
        ("L2_NORMALIZATION", "L2Normalization"),
        ("UNIDIRECTIONAL_SEQUENCE_LSTM", "UnidirectionalSequenceLSTM"),
        ("PADV2", "PadV2"),
        ("BATCH_MATMUL", "BatchMatMul"),
        ("SPACE_TO_BATCH_ND", "SpaceToBatchNd"),
        ("CUMSUM", "CumSum"),
        ("SVDF", "Svdf"),
        ("SPLIT_V", "SplitV"),
    ],
)
def test_methods_are_named_as_tflm_names_them(name: str, method: str) -> None:
    from litejit.selection import tflm_lines

    assert f".Add{method}()" in tflm_lines({name: (1, 1)}, {})


def test_operators_of_tensorflow_itself_are_left_out() -> None:
    from litejit.model import read_model
    from litejit.selection import operators_of

    assert operators_of([read_model(model("flex")), read_model(model("add"))]) == (
        {"ADD": (1, 1)},
        {},
    )


def test_custom_operators_are_lines_of_their_own_for_tflm() -> None:
    from litejit.selection import tflm_lines

    lines = tflm_lines({}, {"CustomOp": (1, 1), "TFLite_Detection_PostProcess": (1, 1)})
    assert 'AddCustom("CustomOp", tflite::Register_CUSTOM_OP())' in lines
    assert "AddDetectionPostprocess()" in lines
