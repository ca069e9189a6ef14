"""The folder tree is the architecture: who may import whom, and how large a file may get."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "src" / "litejit"
LAYERS = [
    {"record"},
    {"errors", "settings", "types"},
    {"model", "codegen"},
    {"kernels"},
    {"ops"},
    {"engine"},
    {
        "details", "interpreter", "signature", "tensor_values", "opening", "metrics", "delegate",
        "native", "native_structs", "predictor", "edges", "profiling",
        "interpreter_api", "api_values",
        "cpp_api", "cpp_model", "selection",
        "micro", "cli", "__main__", "",
    },
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
HOMES = {
    "llvmlite": {"codegen/llvm.py"},
    "ctypes": {
        "codegen/loader.py", "engine/native.py", "engine/workers.py",
        "native.py", "native_structs.py",
    },
    "click": {"cli"},
    "rich": {"cli"},
}
TOO_DEAR_TO_IMPORT = {
    "json", "logging", "pathlib", "tempfile", "hashlib", "dataclasses", "inspect", "argparse",
    "importlib.metadata", "importlib.resources",
}  # fmt: skip
MAX_FILE_LINES = 500
MAX_FUNCTION_LINES = 60
FILES = sorted(ROOT.rglob("*.py"))


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def layer_of(path: Path) -> str:
    first = path.relative_to(ROOT).parts[0].removesuffix(".py")
    return "" if first == "__init__" else first


def imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_imports_point_to_lower_layers_only(path: Path) -> None:
    layer = layer_of(path)
    for name in imported(parsed(path)):
        top, _, rest = name.partition(".")
        if top != "litejit":
            continue
        other = rest.split(".")[0]
        if other not in LEVEL or other == layer or layer in ("", "__main__"):
            continue
        assert LEVEL[other] <= LEVEL[layer], f"{relative(path)} must not import {name}"


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_outside_libraries_have_one_home_each(path: Path) -> None:
    at = relative(path)
    for name in imported(parsed(path)):
        homes = HOMES.get(name.split(".")[0])
        assert homes is None or at in homes or at.split("/")[0] in homes, f"{at} imports {name}"


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_modules_of_the_warm_start_import_nothing_dear(path: Path) -> None:
    if relative(path).startswith("cli/"):
        return
    for node in parsed(path).body:
        for name in imported(node) if isinstance(node, ast.Import | ast.ImportFrom) else ():
            dear = {name, name.split(".")[0], ".".join(name.split(".")[:2])} & TOO_DEAR_TO_IMPORT
            assert not dear, f"{relative(path)} imports {name} at its top"


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_files_and_functions_stay_small(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= MAX_FILE_LINES or relative(path) == (
        "codegen/lang.py"
    )
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.FunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            assert lines <= MAX_FUNCTION_LINES, f"{relative(path)}: {node.name} has {lines} lines"


def test_the_language_stays_below_800_lines() -> None:
    assert len((ROOT / "codegen" / "lang.py").read_text().splitlines()) <= 800


@pytest.mark.parametrize("path", sorted((ROOT / "engine").glob("*.py")), ids=relative)
def test_the_engine_names_no_operator(path: Path) -> None:
    from litejit.model import BUILTIN_NAMES

    texts = {n.value for n in ast.walk(parsed(path)) if isinstance(n, ast.Constant)}
    named = {t for t in texts if isinstance(t, str)} & set(BUILTIN_NAMES)
    assert named <= {"CUSTOM"}, f"{relative(path)} names {named}"


@pytest.mark.parametrize("path", sorted((ROOT / "kernels").glob("*.py")), ids=relative)
def test_kernels_name_no_instruction_set(path: Path) -> None:
    from litejit.codegen.isa import ISAS

    texts = {n.value for n in ast.walk(parsed(path)) if isinstance(n, ast.Constant)}
    assert not {t for t in texts if isinstance(t, str)} & {isa.name for isa in ISAS}
    names = {n.attr for n in ast.walk(parsed(path)) if isinstance(n, ast.Attribute)}
    assert "arch" not in names, f"{relative(path)} asks for an architecture"
