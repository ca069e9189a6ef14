"""Selective registration: which operators models need, and code that registers just those."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from litejit.model import Model

Operators = dict[str, tuple[int, int]]  # name -> smallest and largest version

# Where TFLM's name of a method does not follow from the operator's.
_TFLM_WORDS = {"Padv2": "PadV2", "Cumsum": "CumSum", "Lstm": "LSTM", "BatchMatmul": "BatchMatMul"}
_TFLM_CUSTOM = {
    "TFLite_Detection_PostProcess": "DetectionPostprocess",
    "CIRCULAR_BUFFER": "CircularBuffer",
    "ethos-u": "EthosU",
}


def operators_of(models: Iterable[Model]) -> tuple[Operators, Operators]:
    """The builtin and the custom operators that models use, with their versions.

    Operator codes that no operator refers to are left out, and so are the names of TensorFlow's
    own operators (Flex...), which no resolver holds.
    """
    builtin: Operators = {}
    custom: Operators = {}
    for model in models:
        used = {operator.code for graph in model.subgraphs for operator in graph.operators}
        for index in sorted(used):
            code = model.operator_codes[index]
            if code.is_custom and code.name.startswith("Flex"):
                continue
            table = custom if code.is_custom else builtin
            low, high = table.get(code.name, (code.version, code.version))
            table[code.name] = (min(low, code.version), max(high, code.version))
    return dict(sorted(builtin.items())), dict(sorted(custom.items()))


def python_module(builtin: Operators, custom: Mapping[str, object], title: str) -> str:
    """A Python module whose `register_selected_ops(resolver)` registers just these operators."""
    lines = [
        f'"""Registers the operators of {title}; written by `litejit ops`."""',
        "",
        "from __future__ import annotations",
        "",
        "from typing import Any",
        "",
        "from litejit import MutableOpResolver",
        "",
        "",
        "def register_selected_ops(resolver: MutableOpResolver, **customs: Any) -> None:",
        '    """Register them; custom operators are passed by name."""',
    ]
    for name, (low, high) in builtin.items():
        lines.append(f'    resolver.add_builtin("{name}", min_version={low}, max_version={high})')
    for name in custom:
        lines.append(f"    resolver.add_custom({name!r}, customs[{name!r}])")
    if not builtin and not custom:
        lines.append("    del resolver, customs  # these models have no operators")
    lines += [
        "",
        "",
        "def resolver(**customs: Any) -> MutableOpResolver:",
        '    """A resolver that holds just these operators."""',
        "    result = MutableOpResolver()",
        "    register_selected_ops(result, **customs)",
        "    return result",
        "",
    ]
    return "\n".join(lines)


def tflm_lines(builtin: Operators, custom: Mapping[str, object]) -> str:
    """The C++ lines that register just these operators with a MicroMutableOpResolver."""
    count = len(builtin) + len(custom)
    lines = [f"tflite::MicroMutableOpResolver<{count}> op_resolver;"]
    lines += [f"TF_LITE_ENSURE_STATUS(op_resolver.Add{_method(name)}());" for name in builtin]
    for name in custom:
        if name in _TFLM_CUSTOM:
            call = f"Add{_TFLM_CUSTOM[name]}()"
        else:
            call = f'AddCustom("{name}", tflite::Register_{_symbol(name)}())'
        lines.append(f"TF_LITE_ENSURE_STATUS(op_resolver.{call});")
    return "\n".join(lines) + "\n"


def _method(name: str) -> str:
    """TFLM's word for a builtin operator: DEPTHWISE_CONV_2D is DepthwiseConv2D."""
    words = [part if part[0].isdigit() else part.capitalize() for part in name.split("_")]
    text = "".join(words)
    for usual, tflm in _TFLM_WORDS.items():
        text = text.replace(usual, tflm)
    return text


def _symbol(name: str) -> str:
    """The name of a custom operator's C++ function: CustomOp is CUSTOM_OP."""
    text = ""
    for before, letter in zip(" " + name, name, strict=False):
        text += "_" if before.islower() and letter.isupper() else ""
        text += letter if letter.isalnum() else "_"
    return text.upper()
