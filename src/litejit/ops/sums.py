"""Sums of products over windows in NumPy, exact for integers: matrix products over patches.

Integers are summed in float32 where no sum can pass 2**24, in float64 below 2**53: both are
exact then, and BLAS is fast.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from numpy.lib.stride_tricks import as_strided

from litejit.ops.window import Window2D, taps
from litejit.types import Array

PATCH_BYTES = 1 << 23  # patches gathered for one matrix product
ROW_ELEMENTS = 1 << 16  # outputs of a depthwise convolution summed at once

Finish: TypeAlias = Callable[[Array, int], Array]  # sums, batch item -> values of the output


def exact_type(weights: Array, *, largest: int, axis: tuple[int, ...] | int) -> Any:
    """The fastest type in which sums over `axis` of weights * inputs up to `largest` are exact."""
    total = np.abs(weights.astype(np.int64)).sum(axis)
    bound = int(total.max(initial=0)) * largest
    if bound < 1 << 24:
        return np.float32
    return np.float64 if bound < 1 << 53 else np.int64


def centered(x: Array, zero_point: int, kind: Any) -> Array:
    """x - zero_point in another type."""
    if zero_point == 0:
        return x.astype(kind, copy=False)
    return np.subtract(x, zero_point, dtype=kind)


def frame(x: Array, window: Window2D, zero_point: int, kind: Any) -> Array:
    """x - zero_point as `kind`, framed by zeros where windows hang over the edges."""
    if not window.is_padded:
        return np.ascontiguousarray(centered(x, zero_point, kind))
    n, h, w, c = x.shape
    shape = (n, window.top + h + window.bottom, window.left + w + window.right, c)
    image = np.zeros(shape, kind)
    inner = image[:, window.top : window.top + h, window.left : window.left + w]
    np.subtract(x, np.asarray(zero_point, kind), out=inner, casting="unsafe", dtype=kind)
    return image


def patches(image: Array, window: Window2D, start: int, stop: int) -> Array:
    """View [rows, out_w, filter_h, filter_w, channels] of one framed image [h, w, channels]."""
    row, column, channel = image.strides
    shape = (stop - start, window.out_w, window.filter_h, window.filter_w, image.shape[-1])
    strides = (
        *(row * window.stride_h, column * window.stride_w),
        *(row * window.dilation_h, column * window.dilation_w, channel),
    )
    return as_strided(image[start * window.stride_h :], shape, strides, writeable=False)


def convolve(
    image: Array, weights: Array, window: Window2D, out: Array, finish: Finish
) -> None:  # fmt: skip
    """out[n, i, j, o] = finish(sum over h, w, c of image[n, ...] * weights[o, h, w, c]).

    `image` comes from `frame`; grouped where weights have fewer channels than the image.
    """
    units, _, _, depth = weights.shape
    groups = max(image.shape[-1] // max(depth, 1), 1)
    share = units // groups
    size = weights[0].size if units else 0
    matrix = weights.reshape(groups, share, size).transpose(0, 2, 1)
    matrix = np.ascontiguousarray(matrix, image.dtype)
    row_bytes = max(window.out_w * size * image.dtype.itemsize, 1)
    step = max(PATCH_BYTES // row_bytes, 1)
    for n in range(len(image)):
        for start in range(0, window.out_h, step):
            stop = min(start + step, window.out_h)
            view = patches(image[n], window, start, stop)
            count = (stop - start) * window.out_w
            sums = np.empty((count, units), image.dtype)
            for g in range(groups):
                part = view[..., g * depth : (g + 1) * depth].reshape(count, size)
                np.matmul(part, matrix[g], out=sums[:, g * share : (g + 1) * share])
            out[n, start:stop] = finish(sums.reshape(stop - start, window.out_w, units), n)


def convolve_depthwise(
    image: Array, weights: Array, window: Window2D, out: Array, finish: Finish
) -> None:  # fmt: skip
    """out[n, i, j, c] = finish(sum over h, w of image[n, ..., c // m] * weights[h, w, c]).

    m = weights' channels // image's channels.
    """
    channels = weights.shape[-1]
    multiplier = channels // image.shape[-1]
    if multiplier > 1:
        image = np.repeat(image, multiplier, axis=-1)
    weights = np.ascontiguousarray(weights, image.dtype)[:, :, None, :]
    if channels < 64:  # NumPy's inner loop would run over so few elements
        weights = np.repeat(weights, max(window.out_w, 1), axis=2)
    step = max(ROW_ELEMENTS // max(window.out_w * channels, 1), 1)
    for n in range(len(image)):
        for start in range(0, window.out_h, step):
            stop = min(start + step, window.out_h)
            sums = np.zeros((1, stop - start, window.out_w, channels), image.dtype)
            products = np.empty_like(sums)
            for i in range(window.filter_h):
                for j in range(window.filter_w):
                    seen = taps(image[n : n + 1], window, i, j, start=start, stop=stop)
                    np.multiply(seen, weights[i, j], out=products)
                    sums += products
            out[n, start:stop] = finish(sums[0], n)


def convolve_transposed(x: Array, weights: Array, window: Window2D) -> Array:
    """Scatter x[n, i, j, c] * weights[o, h, w, c] over an image; float or exact sums.

    `window` is that of the forward convolution, from the result (`in_h` x `in_w`) to x.
    Returns [batch, in_h, in_w, units] in x's type.
    """
    n, h, w, depth = x.shape
    units, filter_h, filter_w, _ = weights.shape
    matrix = np.ascontiguousarray(weights.reshape(-1, depth).T, x.dtype)
    tall = max((h - 1) * window.stride_h + filter_h, window.top + window.in_h)
    wide = max((w - 1) * window.stride_w + filter_w, window.left + window.in_w)
    result = np.zeros((n, window.in_h, window.in_w, units), x.dtype)
    step = max(PATCH_BYTES // max(w * matrix.shape[1] * x.dtype.itemsize, 1), 1)
    for b in range(n):
        image = np.zeros((tall, wide, units), x.dtype)
        for start in range(0, h, step):
            stop = min(start + step, h)
            rows = x[b, start:stop].reshape(-1, depth) @ matrix
            parts = rows.reshape(stop - start, w, units, filter_h, filter_w)
            for i in range(filter_h):
                top = start * window.stride_h + i
                for j in range(filter_w):
                    bottom = top + (stop - start - 1) * window.stride_h + 1
                    right = j + (w - 1) * window.stride_w + 1
                    place = image[top : bottom : window.stride_h, j : right : window.stride_w]
                    place += parts[..., i, j]
        bottom, right = window.top + window.in_h, window.left + window.in_w
        result[b] = image[window.top : bottom, window.left : right]
    return result


def integer_product(
    data: Array, weights: Array, *, data_zero: int, weights_zero: int, largest: int
) -> Array:  # fmt: skip
    """Sums of (x - zero)(w - zero) as int64, exact."""
    shifted = weights.astype(np.int32) - weights_zero
    kind = exact_type(shifted, largest=largest, axis=1)
    product = centered(data, data_zero, kind) @ shifted.astype(kind).T
    result: Array = product.astype(np.int64)
    return result
