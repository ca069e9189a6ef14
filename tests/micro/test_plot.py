"""The picture of the memory plan, as text and in a real browser."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from tests.micro.arena_models import MODELS

from litejit.micro.allocations import Allocations, allocations
from litejit.micro.plot import peak_text, plot_html, plot_svg, short_names, size_text
from litejit.model import read_model
from litejit.model.builder import ModelBuilder
from litejit.types import F32

SVG = "{http://www.w3.org/2000/svg}"
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--hide-scrollbars", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--dump-dom",
)  # fmt: skip
MEASURE = """
<script>
const box = e => { const r = e.getBoundingClientRect();
                   return [r.left, r.top, r.width, r.height]; };
const blocks = [...document.querySelectorAll(".buffer")].map(
    e => [e.dataset.name, ...box(e.querySelector("rect"))]);
const label = document.querySelector("#peak-label");
const found = {blocks, label: label && label.textContent, at: label && box(label)};
const out = document.createElement("pre");
out.id = "measured";
out.textContent = JSON.stringify(found);
document.body.append(out);
</script>
"""


def branches() -> Allocations:
    return allocations(MODELS["branches"].build(), "cortex-m")


def person_detect() -> Allocations:
    path = Path(__file__).parent.parent.parent.parent / "shared" / "models" / "person_detect.tflite"
    if not path.is_file():
        pytest.skip("person_detect.tflite is not beside this checkout")
    return allocations(read_model(str(path), strict=False), "cortex-m")


def groups(found: Allocations) -> list[ElementTree.Element]:
    root = ElementTree.fromstring(plot_svg(found, "a & b"))
    return [group for group in root.iter(f"{SVG}g") if group.get("class") == "buffer"]


def test_every_planned_buffer_has_one_block_with_its_name() -> None:
    found = branches()
    assert [group.get("data-name") for group in groups(found)] == [b.name for b in found.buffers]


def test_blocks_stand_where_the_buffers_lie() -> None:
    found = branches()
    rects = [group.find(f"{SVG}rect") for group in groups(found)]
    spans = [(float(r.get("x", 0)), float(r.get("width", 0))) for r in rects if r is not None]
    heights = [float(r.get("height", 0)) for r in rects if r is not None]
    column = spans[0][1] / (found.buffers[0].last - found.buffers[0].first + 1)
    for buffer, (_, width), height in zip(found.buffers, spans, heights, strict=True):
        assert width == pytest.approx(column * (buffer.last - buffer.first + 1), abs=0.2)
        assert height == pytest.approx(460 * buffer.size / found.head, abs=0.02)


def test_the_picture_needs_nothing_from_elsewhere() -> None:
    page = plot_html(branches(), "plan")
    links = re.findall(r"(?:src|href|url)\s*[=(]", page)
    assert not links
    assert set(re.findall(r"https?://[^\"']+", page)) == {"http://www.w3.org/2000/svg"}


def test_names_cannot_break_out_of_the_picture() -> None:
    builder = ModelBuilder()
    builder.main.add_tensor('<script>"&', (64,), F32)
    found = allocations(builder.build())
    assert "<script>" not in plot_html(found, "</title><script>")
    assert groups(found)[0].get("data-name") == '<script>"&'


def test_the_peak_is_marked_and_says_where_it_is() -> None:
    found = branches()
    text = peak_text(found)
    assert text == f"peak {found.head} bytes at {found.operators[1].operator} NEG of subgraph 1"
    root = ElementTree.fromstring(plot_svg(found, "plan"))
    marks = {e.get("id"): e for e in root.iter() if e.get("id")}
    assert set(marks) == {"peak-band", "peak-line", "peak-label"}
    assert marks["peak-label"].text == text


def test_a_plan_without_buffers_can_be_drawn() -> None:
    found = allocations(ModelBuilder().build())
    assert "No buffer is planned." in plot_svg(found, "nothing")
    assert groups(found) == []


def test_paths_lose_the_parts_that_most_names_share() -> None:
    names = [f"net/net/conv_{k}/Relu" for k in range(4)] + ["input", "net/other"]
    short = short_names(names)
    assert [short[name] for name in names] == [
        "conv_0", "conv_1", "conv_2", "conv_3", "input", "other",
    ]  # fmt: skip


def test_sizes_are_told_in_bytes_and_kib() -> None:
    assert [size_text(n) for n in (512, 55296)] == ["512 bytes", "55296 bytes (54.0 KiB)"]


@pytest.mark.skipif(BROWSER is None, reason="no chromium is installed")
@pytest.mark.parametrize("make", [branches, person_detect])
def test_a_browser_shows_every_block_and_the_peak(make: Any, tmp_path: Path) -> None:
    found = make()
    page = tmp_path / "plan.html"
    page.write_text(plot_html(found, "plan") + MEASURE, encoding="utf-8")
    command = [str(BROWSER), *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    text = re.search(r'<pre id="measured">(.*?)</pre>', done.stdout, re.DOTALL)
    assert text is not None, done.stderr
    shown = json.loads(unescape(text[1]))

    assert [block[0] for block in shown["blocks"]] == [b.name for b in found.buffers]
    assert shown["label"] == peak_text(found)
    assert shown["at"][2] > 100
    boxes = [block[1:] for block in shown["blocks"]]
    assert all(width > 0 and height > 0 for _, _, width, height in boxes)
    assert_no_overlaps(boxes)


def assert_no_overlaps(boxes: list[list[float]]) -> None:
    """Living buffers share no memory, so no block may cover another (half a pixel is a line)."""
    for k, (x, y, width, height) in enumerate(boxes):
        for left, top, wide, high in boxes[k + 1 :]:
            across = min(x + width, left + wide) - max(x, left)
            down = min(y + height, top + high) - max(y, top)
            assert across < 0.5 or down < 0.5
