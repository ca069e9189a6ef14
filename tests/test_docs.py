"""Every Python snippet of README.md and docs/ runs, those of one page one after another."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from litejit.ops import resolver as resolvers

ROOT = Path(__file__).parent.parent
SNIPPET = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PAGES = [
    path
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
    if SNIPPET.search(path.read_text())
]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_snippets_run(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(resolvers, "_DECORATED", {})
    text = path.read_text()
    names: dict[str, object] = {"__name__": path.stem}
    for match in SNIPPET.finditer(text):
        line = text[: match.start(1)].count("\n")
        code = compile("\n" * line + match.group(1), str(path), "exec")
        exec(code, names)


def test_pages_with_snippets_are_found() -> None:
    assert {"README.md", "migrating.md"} <= {path.name for path in PAGES}
