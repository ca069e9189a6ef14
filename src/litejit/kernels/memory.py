"""Memory that lies in one piece, copied or filled, as a part of other kernels."""

from __future__ import annotations

from collections.abc import Callable

from litejit.codegen.lang import Function, Pointer, Type, Value, i8, i64


def copy_bytes(fn: Function, source: Pointer, target: Pointer, count: Value) -> None:
    """Copy `count` bytes, any number."""
    lanes = fn.isa.lanes(i8)
    whole = count / lanes * lanes
    with fn.loop(whole, step=lanes) as at:
        target.store(at, source.load(at, lanes=lanes))
    with fn.loop(count, start=whole) as at:
        target[at] = source[at]


def copy_words(
    fn: Function, source: Pointer, target: Pointer, run: Value, word: Type, groups: int
) -> None:
    """Copy `run` bytes by words: exactly `groups` (1 or 2, overlapping), or 0: in a loop."""
    lanes = word.bits * word.lanes // 8
    last = run - lanes
    if groups:
        places = [fn.const(0, i64), last][:groups]
        values = [_read(source, at, word) for at in places]
        for at, value in zip(places, values, strict=True):
            _write(target, at, value)
        return
    with fn.loop(last, step=lanes) as at:
        _write(target, at, _read(source, at, word))
    _write(target, last, _read(source, last, word))


def store_items(fn: Function, y: Pointer, lanes: int, made: Callable[[Value], Value]) -> None:
    """y[i] = made(i) for all work items, a vector at a time; `made` gives what follows i, too."""
    whole = fn.begin + (fn.end - fn.begin) / lanes * lanes
    with fn.loop(whole, start=fn.begin, step=lanes) as i:
        y.store(i, made(i))
    with fn.when(whole < fn.end):
        y.store(whole, made(whole), mask=fn.first(fn.end - whole, lanes))


def _read(at: Pointer, offset: Value, word: Type) -> Value:
    return (at + offset).cast(word.scalar).load(lanes=word.lanes, align=1)


def _write(at: Pointer, offset: Value, value: Value) -> None:
    (at + offset).cast(value.type.scalar).store(0, value, align=1)
