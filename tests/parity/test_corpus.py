"""Recorded one-operator models give the recorded results; what LiteRT rejects is an error here."""

from __future__ import annotations

import importlib.util
import json
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from litejit import Interpreter, OpResolverType
from litejit.ops.resolver import BuiltinOpResolver

CORPUS = Path(__file__).parent.parent.parent.parent / "shared" / "corpus"
SAMPLE = 10  # every tenth case by default
# Models that LiteRT rejects and litejit, rightly, runs: see docs/numerics.md.
ACCEPTED_GROUPS = {  # custom operators that LiteRT ships but does not register
    "avg_pool3d",
    "broadcast_gradient_args",
    "irfft2d",
    "max_pool3d",
    "max_pool_with_argmax",
    "parse_example",
    "roll",
}
ACCEPTED = {
    "conv_bias_relu6__10002",  # LiteRT's process aborts
    "repo__tflite__testdata__while_op_with_forwarding_input.bin-a",
    "repo_tflm__tensorflow__lite__micro__models__keyword_scrambled_8bit.tflite-a",  # aborts
}
pytestmark = pytest.mark.skipif(not CORPUS.is_dir(), reason="no corpus beside this checkout")


@cache
def checker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("corpus_check", CORPUS / "check.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@cache
def cases() -> dict[str, list[dict[str, Any]]]:
    index = CORPUS / "open" / "index.jsonl"
    groups: dict[str, list[dict[str, Any]]] = {}
    for line in index.read_text().splitlines() if index.exists() else ():
        case = json.loads(line)
        groups.setdefault(case["op_test"], []).append(case)
    return groups


def is_known(case: dict[str, Any]) -> bool:
    resolver = BuiltinOpResolver()
    return all(
        len(resolver.versions(name)) for name in case["ops"] if not name.startswith("CUSTOM:")
    )


def verdict(case: dict[str, Any], **arguments: Any) -> str:
    """Empty where litejit does what the case expects, else what is wrong."""
    check = checker()
    base = CORPUS / "open" / case["op_test"] / case["id"]
    record = base.with_name(base.name + ".npz")
    model = base.with_name(base.name + ".tflite").read_bytes()
    inputs = check.load(record, "in") if record.exists() else []
    stage, got = check.run_case(Interpreter, arguments, model, inputs)
    if case["expect"] == "error":
        rightly = case["id"] in ACCEPTED or case["op_test"] in ACCEPTED_GROUPS
        return "" if stage or rightly else "accepted"
    if stage:
        return f"{stage}: {got}"
    problems = []
    for side in ("ref", "xnn"):
        if case["have_" + side]:
            problem = differs(check, got, check.load(record, side), case["cls"])
            if not problem:
                return ""
            problems.append(problem)
    return "; ".join(problems)


def differs(check: ModuleType, got: list[Any], want: list[Any], kinds: list[str]) -> str:
    if len(got) != len(want):
        return f"{len(got)} outputs, expected {len(want)}"
    for mine, theirs, kind in zip(got, want, kinds, strict=True):
        ok, _, text = check.compare(mine, theirs, kind)
        if not ok:
            return str(text)
    return ""


def sample(group: str, *, whole: bool) -> list[dict[str, Any]]:
    chosen = cases()[group] if whole else cases()[group][::SAMPLE]
    return [case for case in chosen if is_known(case)]


@pytest.mark.parametrize("group", sorted(cases()))
def test_compiled_kernels_do_what_was_recorded(group: str, all_cases: bool) -> None:
    chosen = sample(group, whole=all_cases)
    if not chosen:
        pytest.skip("operators of this group are not there yet")
    wrong = {case["id"]: text for case in chosen if (text := verdict(case))}
    assert not wrong


@pytest.mark.parametrize("group", sorted(cases()))
def test_numpy_does_what_was_recorded(group: str, all_cases: bool) -> None:
    chosen = sample(group, whole=all_cases)
    if not chosen:
        pytest.skip("operators of this group are not there yet")
    numpy_only = {"experimental_op_resolver_type": OpResolverType.BUILTIN_REF}
    wrong = {case["id"]: text for case in chosen if (text := verdict(case, **numpy_only))}
    assert not wrong
