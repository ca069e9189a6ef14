"""The table of TFLM's operators and types."""

from __future__ import annotations

import pytest

from litejit.micro import support
from litejit.model import BUILTIN_NAMES


def test_the_table_holds_118_operators() -> None:
    assert (len(support.BUILTINS), len(support.CUSTOMS)) == (100, 18)
    assert set(support.BUILTINS) <= set(BUILTIN_NAMES)


def test_every_rule_can_be_read() -> None:
    for rules in (*support.BUILTINS.values(), *support.CUSTOMS.values()):
        for rule in rules:
            assert len(support.alternatives(rule)) == (rule.count("|") + 1 if rule else 0)


def test_a_rule_names_alternatives_operands_and_results() -> None:
    one, two = support.alternatives("i8 i8,i4 * | f32 f32 -> f32")
    assert one.inputs == (("INT8",), ("INT8", "INT4"), ())
    assert one.outputs == ()
    assert two.outputs == (("FLOAT32",),)


def test_operands_of_one_alternative_go_together() -> None:
    rule = "i8 i8 -> i8 | f32 f32 -> f32"
    assert support.accepts(rule, ("INT8", "INT8"), ("INT8",))
    assert not support.accepts(rule, ("INT8", "FLOAT32"), ("INT8",))
    assert not support.accepts(rule, ("INT8", "INT8"), ("FLOAT32",))


def test_absent_operands_and_those_behind_the_rule_are_accepted() -> None:
    assert support.accepts("i8 i8 i32", ("INT8", "INT8", None), ())
    assert support.accepts("i8", ("INT8", "FLOAT64"), ("STRING",))
    assert support.accepts("", ("STRING",), ())


@pytest.mark.parametrize(
    ("name", "inputs", "outputs", "stage"),
    [
        ("CONV_2D", ("INT8", "INT8", "INT32"), ("INT8",), None),
        ("CONV_2D", ("INT16", "INT8", None), ("INT16",), None),
        ("CONV_2D", ("FLOAT32", "INT8", "FLOAT32"), ("FLOAT32",), "prepare"),
        ("CONV_2D", ("UINT8", "UINT8", "INT32"), ("UINT8",), "prepare"),
        ("FULLY_CONNECTED", ("INT32", "INT8", None), ("INT32",), "prepare"),
        ("LOG", ("INT8",), ("INT8",), "invoke"),
        ("MAX_POOL_2D", ("INT32",), ("INT32",), "prepare"),
        ("BATCH_MATMUL", ("INT16", "INT8"), ("INT16",), "prepare"),
        ("EXP", ("INT16",), ("INT16",), "prepare"),
        ("PAD", ("BOOL", "INT32"), ("BOOL",), "invoke"),
        ("EQUAL", ("INT16", "INT16"), ("BOOL",), "invoke"),
        ("GREATER", ("INT16", "INT16"), ("BOOL",), None),
        ("REDUCE_MAX", ("INT16", "INT32"), ("INT16",), "invoke"),
        ("DEQUANTIZE", ("FLOAT16",), ("FLOAT32",), "prepare"),
        ("RESHAPE", ("UINT16",), ("UINT16",), None),
    ],
)
def test_types_are_refused_where_tflm_refuses_them(
    name: str, inputs: tuple[str | None, ...], outputs: tuple[str, ...], stage: str | None
) -> None:
    assert support.refusing_stage(name, inputs, outputs) == stage


def test_custom_operators_have_a_table_of_their_own() -> None:
    assert support.is_supported("SignalRfft", custom=True)
    assert not support.is_supported("SignalRfft")
    assert not support.is_supported("ADD", custom=True)
    assert support.refusing_stage("SignalRfft", ("INT8",), ("INT8",), custom=True) == "prepare"
    with pytest.raises(KeyError):
        support.refusing_stage("TILE", (), ())
