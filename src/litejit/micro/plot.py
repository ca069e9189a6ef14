"""A picture of TFLM's memory plan: operators to the right, bytes upwards, a block a buffer.

SVG and HTML that need nothing else: no script, no font, no network.
"""

from __future__ import annotations

import math
from html import escape

from litejit.micro.allocations import Allocations
from litejit.micro.planners import Buffer
from litejit.micro.structs import TARGETS
from litejit.record import Record

_LEFT, _RIGHT, _TOP = 92, 28, 92
_PLOT_HEIGHT, _PLOT_WIDTH = 460, 1020
_MIN_COLUMN, _MAX_COLUMN = 9, 150
_LABEL_STEP = 14  # pixels between operators' names that can still be read
_LABEL_HEIGHT = 148  # room for the operators' names, which stand aslant
_LETTER = 6.1  # width of a letter of the blocks' names
_STYLE = """
text { font: 11px system-ui, "DejaVu Sans", sans-serif; fill: #1c2733 }
.title { font-size: 17px; font-weight: 600 }
.axis { fill: #5b6875 }
.grid { stroke: #e3e8ee; stroke-width: 1 }
.buffer rect { stroke: #ffffff; stroke-width: 1 }
.buffer:hover rect { stroke: #1c2733; stroke-width: 2 }
.tensor-name { pointer-events: none; font-size: 10px }
#peak-band { fill: #d0342c; fill-opacity: .1; stroke: #d0342c; stroke-opacity: .6;
  pointer-events: none }
#peak-line { stroke: #d0342c; stroke-width: 1.5; stroke-dasharray: 6 4 }
#peak-label { fill: #b3241d; font-weight: 600; font-size: 12px }
.at-peak { fill: #b3241d; font-weight: 600 }
"""
_PAGE = """<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>
body {{ margin: 24px; font: 14px/1.45 system-ui, "DejaVu Sans", sans-serif; color: #1c2733;
       background: #ffffff }}
.plan {{ overflow-x: auto }}
table {{ border-collapse: collapse; margin-top: 12px }}
th, td {{ padding: 3px 12px 3px 0; text-align: left; border-bottom: 1px solid #e3e8ee }}
td.n, th.n {{ text-align: right; font-variant-numeric: tabular-nums }}
summary {{ cursor: pointer; margin-top: 18px }}
</style>
<div class="plan">
{svg}
</div>
<details><summary>The {count} planned buffers</summary>
<table>
<tr><th>buffer<th class="n">offset<th class="n">bytes<th class="n">first<th class="n">last</tr>
{rows}
</table></details>
</html>
"""


class _Scale(Record):
    """From ticks and bytes to pixels."""

    first: int
    columns: int
    column: float
    head: int

    def x(self, tick: float) -> float:
        """Left edge of a tick's column."""
        return _LEFT + (tick - self.first) * self.column

    def y(self, offset: float) -> float:
        """Height of an offset; 0 lies at the bottom."""
        return _TOP + _PLOT_HEIGHT * (1 - offset / max(self.head, 1))

    @property
    def width(self) -> float:
        """Width of all columns."""
        return self.columns * self.column


def size_text(nbytes: int) -> str:
    """Bytes, and in KiB where that says more: `85264 bytes (83.3 KiB)`."""
    return f"{nbytes} bytes" + (f" ({nbytes / 1024:.1f} KiB)" if nbytes >= 1024 else "")


def plot_html(found: Allocations, title: str) -> str:
    """A page with the plan and a table of its buffers."""
    rows = "\n".join(
        f'<tr><td>{escape(b.name)}<td class="n">{b.offset}<td class="n">{b.size}'
        f'<td class="n">{b.first}<td class="n">{b.last}</tr>'
        for b in found.buffers
    )
    return _PAGE.format(
        title=escape(f"{title}: memory plan"),
        svg=plot_svg(found, title),
        count=len(found.buffers),
        rows=rows,
    )


def plot_svg(found: Allocations, title: str) -> str:
    """The plan as an SVG picture. The group of every planned buffer has the class `buffer`."""
    scale = _scale_of(found)
    short = short_names([buffer.name for buffer in found.buffers])
    width = max(_LEFT + scale.width + _RIGHT, 640)
    height = _TOP + _PLOT_HEIGHT + _LABEL_HEIGHT
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height}"'
        f' viewBox="0 0 {width:.0f} {height}" role="img" aria-label="{escape(title)}">',
        f"<style>{_STYLE}</style>",
        f'<rect width="{width:.0f}" height="{height}" fill="#ffffff"/>',
        *_headline(found, title),
        *_grid(scale),
        *[_block(b, number, scale, short[b.name]) for number, b in enumerate(found.buffers)],
        *_peak_band(found, scale),
        *_operators(found, scale),
        *_peak_line(found, scale),
        "</svg>",
    ]
    return "\n".join(parts)


def _scale_of(found: Allocations) -> _Scale:
    ticks = [b.first for b in found.buffers] + [b.last for b in found.buffers]
    ticks += [entry[0] for entry in found.ticks]
    first, last = min(ticks, default=0), max(ticks, default=0)
    columns = last - first + 1
    column = min(max(_PLOT_WIDTH / columns, _MIN_COLUMN), _MAX_COLUMN)
    return _Scale(first, columns, column, found.head)


def _headline(found: Allocations, title: str) -> list[str]:
    facts = (
        f"{TARGETS[found.target].title}, {found.planner} planner: "
        f"least arena {size_text(found.least_arena)}; head {size_text(found.head)}, "
        f"tail {size_text(found.tail)}"
    )
    return [
        f'<text class="title" x="{_LEFT}" y="30">{escape(title)}</text>',
        f'<text x="{_LEFT}" y="50">{escape(facts)}</text>',
        f'<text class="axis" x="{_LEFT - 78}" y="{_TOP - 12}">offset</text>',
    ]


def _grid(scale: _Scale) -> list[str]:
    step = 16
    while scale.head > 8 * step:
        step *= 2
    parts = []
    for offset in range(0, scale.head + 1, step):
        y, end = scale.y(offset), _LEFT + scale.width
        label = f"{offset / 1024:g} KiB" if step >= 256 else str(offset)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{end:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(
            f'<text class="axis" text-anchor="end" x="{_LEFT - 8}" y="{y + 4:.1f}">{label}</text>'
        )
    return parts


def short_names(names: list[str]) -> dict[str, str]:
    """Names without the parts of a path that most of them begin or end with, by full name."""
    result = {}
    split = {name: name.split("/") for name in names}
    heads = _often([parts[: k + 1] for parts in split.values() for k in range(len(parts) - 1)])
    tails = _often([parts[k:] for parts in split.values() for k in range(1, len(parts))])
    for name, parts in split.items():
        start = max((len(h) for h in heads if parts[: len(h)] == h), default=0)
        stop = len(parts) - max((len(t) for t in tails if parts[-len(t) :] == t), default=0)
        result[name] = "/".join(parts[start:stop]) if start < stop else parts[-1]
    return result


def _often(paths: list[list[str]]) -> list[list[str]]:
    """Those of the paths that stand there at least three times."""
    counts: dict[str, int] = {}
    for path in paths:
        counts["/".join(path)] = counts.get("/".join(path), 0) + 1
    return [text.split("/") for text, count in counts.items() if count >= 3]


def _block(buffer: Buffer, number: int, scale: _Scale, short: str) -> str:
    x, y = scale.x(buffer.first), scale.y(buffer.end)
    width = scale.x(buffer.last + 1) - x
    height = scale.y(buffer.offset) - y
    hue = number * 137.508 % 360  # the golden angle keeps neighbours apart
    fill = f"hsl({hue:.0f} 58% {72 if not buffer.is_scratch else 84}%)"
    uses = f"operators {buffer.first} to {buffer.last}" if buffer.first >= 0 else "never used"
    hint = f"{buffer.name}\n{size_text(buffer.size)} at offset {buffer.offset}\n{uses}"
    label = _label(short, x, y, width, height)
    dashes = ' stroke-dasharray="4 2" style="stroke:#5b6875"' if buffer.is_scratch else ""
    return (
        f'<g class="buffer" data-name="{escape(buffer.name)}" data-offset="{buffer.offset}"'
        f' data-size="{buffer.size}"><title>{escape(hint)}</title>'
        f'<rect x="{x:.1f}" y="{y:.2f}" width="{width:.1f}" height="{height:.2f}" rx="2"'
        f' fill="{fill}"{dashes}/>{label}</g>'
    )


def _label(name: str, x: float, y: float, width: float, height: float) -> str:
    """The name, cut to the block, along its longer side; nothing where no word would fit."""
    upright = height > 1.6 * width and width >= 13
    room, across = (height, width) if upright else (width, height)
    letters = int((room - 2) / _LETTER)
    if across < 12 or letters < 3:
        return ""
    text = name if len(name) <= letters else name[: letters - 1].rstrip("_/;:. ") + "…"
    middle_x, middle_y = x + width / 2, y + height / 2
    turn = f' transform="rotate(-90 {middle_x:.1f} {middle_y:.1f})"' if upright else ""
    return (
        f'<text class="tensor-name" text-anchor="middle" x="{middle_x:.1f}"'
        f' y="{middle_y + 4:.1f}"{turn}>{escape(text)}</text>'
    )


def _operators(found: Allocations, scale: _Scale) -> list[str]:
    names = {(one.subgraph, one.operator): one.name for one in found.operators}
    labels = {0: "inputs", -1: "unused"}
    for tick, graph, index in found.ticks:
        where = f"{index}" if not graph else f"{graph}:{index}"
        labels[tick] = f"{where} {names.get((graph, index), '')}"
    peak, base = found.peak, _TOP + _PLOT_HEIGHT + 14
    every = math.ceil(_LABEL_STEP / scale.column)
    parts = []
    for tick in range(scale.first, scale.first + scale.columns):
        if tick != peak and (tick % every or abs(tick - peak) < every):
            continue  # names would stand on each other
        text = escape(labels.get(tick, ""))
        x = scale.x(tick) + scale.column / 2 + 3
        kind = "at-peak" if tick == peak and found.buffers else "axis"
        parts.append(
            f'<text class="operator {kind}" text-anchor="end" x="{x:.1f}" y="{base}"'
            f' transform="rotate(-45 {x:.1f} {base})">{text}</text>'
        )
    return parts


def _peak_band(found: Allocations, scale: _Scale) -> list[str]:
    if not found.buffers:
        return []
    return [
        f'<rect id="peak-band" x="{scale.x(found.peak):.1f}" y="{_TOP}"'
        f' width="{scale.column:.1f}" height="{_PLOT_HEIGHT}"/>'
    ]


def peak_text(found: Allocations) -> str:
    """Where the plan reaches its height: `peak 55296 bytes (54.0 KiB) at 2 CONV_2D`."""
    operator = found.operator_at(found.peak)
    where = "the inputs" if operator is None else f"{operator.operator} {operator.name}"
    if operator is not None and operator.subgraph:
        where += f" of subgraph {operator.subgraph}"
    return f"peak {size_text(found.head)} at {where}"


def _peak_line(found: Allocations, scale: _Scale) -> list[str]:
    if not found.buffers:
        return [f'<text x="{_LEFT}" y="{_TOP + 40}">No buffer is planned.</text>']
    y, middle = scale.y(found.head), scale.x(found.peak) + scale.column / 2
    end = _LEFT + scale.width
    after = middle < _LEFT + scale.width / 2
    anchor, x = ("start", max(middle, _LEFT)) if after else ("end", middle)
    return [
        f'<line id="peak-line" x1="{_LEFT}" x2="{end:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>',
        f'<text id="peak-label" text-anchor="{anchor}" x="{x:.1f}" y="{y - 8:.1f}">'
        f"{escape(peak_text(found))}</text>",
    ]
