"""Renew docs/operators.md: what every operator runs, and what of it is compiled.

Runs the tests with an observer around each operator's `reference` and `lower`, which notes the
element types that go through. Every node that it saw is then tried with all other types: a type
counts where `infer` accepts it and `reference` gives a result of the type that was inferred.
`--check` says whether the file is up to date (exit code 1: it is not).
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "docs" / "operators.md"
sys.path[:0] = [str(ROOT / "src"), str(ROOT)]

from litejit.model.schema import BUILTIN_NAMES  # noqa: E402 - after sys.path
from litejit.ops.base import Node, Op  # noqa: E402 - after sys.path
from litejit.ops.resolver import (  # noqa: E402 - after sys.path
    CUSTOM_FAMILIES,
    FAMILIES,
    BuiltinOpResolver,
)
from litejit.record import replace  # noqa: E402 - after sys.path
from litejit.types import DTYPES, Quantization, TensorType  # noqa: E402 - after sys.path

SHORT = {
    "FLOAT32": "f32", "FLOAT16": "f16", "BFLOAT16": "bf16", "FLOAT64": "f64", "BOOL": "bool",
    "COMPLEX64": "c64", "COMPLEX128": "c128", "STRING": "string", "RESOURCE": "resource",
    "VARIANT": "variant", **{f"{a}INT{n}": f"{b}{n}" for a, b in (("", "i"), ("U", "u"))
                             for n in (2, 4, 8, 16, 32, 64)},
}  # fmt: skip
ORDER = list(SHORT.values())
MOST_SAMPLES, MOST_ELEMENTS = 6, 4096
DATA = {"SPLIT": 1}  # where an operator's data is not its first input
ONE_SCALE = Quantization(np.array([0.05], np.float32), np.array([0], np.int64))
TESTS = ("ops", "engine", "api")
HEAD = """# Operators

Written by `python scripts/operators.py`, which runs the tests, and then every operator that they
ran with all other element types. Types are those of the first two inputs (`input·filter`,
`data·indices`), with `q` where there is a scale. **Compiled** are types for which the operator asks
for machine code, or needs none because it renames memory or is known before the run; in some shapes
it may still run in NumPy. Every type runs in NumPy too, with the same integers. Versions are those
that a model may ask for.
"""


class Observer:
    """Types that went through operators: name -> types of inputs -> whether it was compiled."""

    def __init__(self) -> None:
        self.seen: dict[str, dict[str, bool]] = defaultdict(dict)
        self.samples: dict[str, dict[Any, tuple[Node, tuple[Any, ...]]]] = defaultdict(dict)
        self.quiet = False

    def note(self, node: Any, *, compiled: bool) -> None:
        """One call of an operator's reference or lowering."""
        if not isinstance(node, Node):
            return  # a test's stand-in
        row, kinds = self.seen[node.name], kinds_of(node)
        row[kinds] = row.get(kinds, False) or compiled

    def keep(self, node: Any, inputs: tuple[Any, ...]) -> None:
        """Keep a small node of every combination of types, to be tried with other types."""
        if not isinstance(node, Node):
            return
        held = self.samples[node.name]
        small = all(x is None or x.size < MOST_ELEMENTS for x in inputs)
        if not self.quiet and small and len(held) < MOST_SAMPLES and not node.chain:
            copies = tuple(None if x is None else np.array(x) for x in inputs)
            held.setdefault(kinds_of(node), (node, copies))

    def watch(self, cls: type[Op]) -> None:
        """Observe the methods that a class defines itself."""
        for name in ("infer", "reference", "lower"):
            if name in vars(cls):
                setattr(cls, name, self._watched(vars(cls)[name], name))

    def _watched(self, method: Any, name: str) -> Any:
        def reference(op: Op, node: Any, *inputs: Any) -> Any:
            self.keep(node, inputs)
            result = method(op, node, *inputs)
            self.note(node, compiled=False)
            return result

        def lower(op: Op, node: Any, steps: Any) -> None:
            counting = Counting(steps)
            method(op, node, counting)
            if counting.used:
                self.note(node, compiled=True)

        def infer(op: Op, node: Any) -> Any:
            outputs = method(op, node)
            if outputs and all(t.is_constant for t in outputs):
                self.note(node, compiled=True)
            return outputs

        return {"infer": infer, "reference": reference, "lower": lower}[name]


class Counting:
    """A Lowering that remembers whether it was asked for anything that runs."""

    ASKS = ("call", "alias", "loop", "branch", "inline")

    def __init__(self, steps: Any) -> None:
        self.steps, self.used = steps, False

    def __getattr__(self, name: str) -> Any:
        if name in self.ASKS:
            self.used = True
        return getattr(self.steps, name)


class Dry:
    """A Lowering that runs nothing."""

    def __init__(self, node: Node) -> None:
        from litejit.codegen import isa

        self.isa, self.status = isa.host(), self
        self.inputs = tuple(None if t is None else self for t in node.inputs)
        self.outputs = (self,) * len(node.outputs)

    def at(self, offset_bytes: int) -> Dry:
        return self

    def constant(self, name: str, make: Any) -> Dry:
        return self

    def temporary(self, nbytes: int) -> Dry:
        return self

    scratch = persistent = temporary

    def call(self, *operands: Any, **more: Any) -> None:
        """Ask for nothing."""

    alias = may_share = loop = branch = inline = call


def vary(observer: Observer) -> None:
    """Try every node that was seen with all other types."""
    observer.quiet = True
    warnings.simplefilter("ignore")  # a complex number that becomes a real one
    for held in list(observer.samples.values()):
        for node, inputs in list(held.values()):
            for dtype in DTYPES:
                for scaled in (False, True):
                    attempt(observer, node, inputs, dtype, scaled)


def attempt(observer: Observer, node: Node, inputs: Any, dtype: Any, scaled: bool) -> None:
    """Run a node with the type of its data replaced; what it refuses is not noted."""
    data = next((t for t in (*node.inputs[DATA.get(node.name, 0) :], *node.outputs) if t), None)
    if data is None or scaled and not (dtype.is_integer and dtype.bits <= 16):
        return
    own = data.quantization if data.is_quantized and data.quantization.block_size == 0 else None
    scale = (own or ONE_SCALE) if scaled else None

    def other(tensor: TensorType | None, value: Any = None) -> TensorType | None:
        if tensor is None or tensor.dtype != data.dtype:
            return tensor
        made = replace(tensor, dtype=dtype, quantization=scale, value=None)
        return made.with_value(value) if tensor.is_constant and value is not None else made

    try:
        arrays = [
            x if t is None or t.dtype != data.dtype else np.asarray(x).astype(dtype.numpy)
            for x, t in zip(inputs, node.inputs, strict=True)
        ]
        types = tuple(other(t, x) for t, x in zip(node.inputs, arrays, strict=True))
        outputs = tuple(other(t) for t in node.outputs)
        trial = node.with_types(types, outputs)
        trial = trial.with_types(types, tuple(node.op.infer(trial)))
        row = observer.seen[node.name]
        before = dict(row)
        with np.errstate(all="ignore"):
            found = node.op.reference(trial, *arrays)
        results = found if isinstance(found, tuple) else (found,)
        fits = all(r.dtype == t.dtype.numpy for r, t in zip(results, trial.outputs, strict=False))
        if not fits:
            observer.seen[node.name] = before
            return
        node.op.lower(trial, Dry(trial))
    except Exception:  # noqa: BLE001 - a refusal, of whatever kind, is the answer
        return


def kinds_of(node: Any) -> str:
    """The types of a node's first two inputs, or of its output where it has none."""
    types = [t for t in node.inputs[:2] if t is not None] or list(node.outputs[:1])
    return "·".join(dict.fromkeys(_kind(t) for t in types if t is not None)) or "any"


def _kind(tensor: Any) -> str:
    name = SHORT[tensor.dtype.name]
    return f"q{name}" if tensor.is_quantized and name[0] in "iu" else name


def classes() -> Iterator[type[Op]]:
    """The classes of all operators, and what they inherit from."""
    resolver, found = BuiltinOpResolver(), dict.fromkeys(())
    for names in (*FAMILIES.values(), *CUSTOM_FAMILIES.values()):
        for name in names.split():
            versions = resolver.versions(name)
            op = resolver.find_op(name, versions[-1] if versions else 1)
            assert op is not None, name
            found.update(dict.fromkeys(c for c in type(op).__mro__ if issubclass(c, Op)))
    yield from (cls for cls in found if cls is not Op)


def run_tests(observer: Observer) -> int:
    """Run the operators' tests with their classes observed."""
    import pytest

    for cls in classes():
        observer.watch(cls)
    places = [str(ROOT / "tests" / name) for name in TESTS]
    return int(pytest.main(["-q", "-p", "no:cacheprovider", *places]))


def rows(observer: Observer, names: list[str]) -> Iterator[str]:
    """Lines of a table."""
    resolver = BuiltinOpResolver()
    yield "| operator | versions | compiled | in NumPy |"
    yield "|---|---|---|---|"
    for name in names:
        versions = resolver.versions(name)
        span = f"{versions[0]}–{versions[-1]}" if len(versions) > 1 else str(versions[0])
        seen = observer.seen.get(name, {})
        cells = [_cell(kinds for kinds, done in seen.items() if done is compiled)
                 for compiled in (True, False)]  # fmt: skip
        yield f"| {name} | {span} | {cells[0]} | {cells[1]} |"


def _cell(kinds: Any) -> str:
    def place(kind: str) -> tuple[Any, ...]:
        parts = () if kind == "any" else kind.split("·")
        return tuple(ORDER.index(part.removeprefix("q")) for part in parts), kind

    return ", ".join(sorted(kinds, key=place)) or "—"


def document(observer: Observer) -> str:
    """The whole page."""
    builtin = sorted(
        (name for names in FAMILIES.values() for name in names.split()), key=BUILTIN_NAMES.index
    )
    custom = sorted(name for names in CUSTOM_FAMILIES.values() for name in names.split())
    parts = [
        HEAD, f"\n## Builtin operators ({len(builtin)})\n", *rows(observer, builtin),
        f"\n## Custom operators that come with litejit ({len(custom)})\n",
        *rows(observer, custom), "",
    ]  # fmt: skip
    return "\n".join(parts)


def main() -> int:
    """Run the tests, write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only compare with the file")
    arguments = parser.parse_args()
    observer = Observer()
    if run_tests(observer):
        print("some tests failed: what they run may be missing from the table")
    vary(observer)
    text = document(observer)
    if arguments.check:
        return int(not TARGET.exists() or TARGET.read_text() != text)
    TARGET.write_text(text)
    silent = [n for names in (*FAMILIES.values(), *CUSTOM_FAMILIES.values())
              for n in names.split() if n not in observer.seen]  # fmt: skip
    print(f"wrote {TARGET.name}; no test ran: {' '.join(silent) or '(none)'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
