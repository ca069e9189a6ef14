"""RFFT2D and IRFFT2D."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from tests.kernels.harness import HOST_ISAS
from tests.ops.lowered import RunningSteps
from tests.ops.whole import Given, agrees, fixed, run

from litejit.model.options.elementwise import Rfft2dOptions
from litejit.ops.base import registered
from litejit.types import C64, F32

RNG = np.random.default_rng(0)


def lengths(height: int, width: int) -> Given:
    return fixed(np.array([height, width], np.int32))


@pytest.mark.parametrize("size", [(4, 8), (1, 16), (8, 2), (16, 32), (2, 2)])
@pytest.mark.parametrize("shape", [(4, 8), (3, 5, 7), (2, 1, 20, 3)])
def test_the_transform_of_a_cropped_or_padded_image_is_litert_s(shape, size):
    x = Given(RNG.standard_normal(shape).astype(np.float32))
    agrees("RFFT2D", Rfft2dOptions(), [x, lengths(*size)], [C64], rtol=1e-5)


def test_a_wave_has_one_coefficient():
    wave = np.cos(2 * np.pi * np.arange(8) / 4).astype(np.float32)
    (y,) = run("RFFT2D", Rfft2dOptions(), [Given(wave[None]), lengths(1, 8)], [C64])
    np.testing.assert_allclose(y, [[0, 0, 4, 0, 0]], atol=1e-6)


def test_lengths_may_come_late():
    x, late = Given(RNG.standard_normal((3, 5)).astype(np.float32)), Given(np.int32([4, 4]))
    (y,) = run("RFFT2D", Rfft2dOptions(), [x, late], [C64])
    (want,) = run("RFFT2D", Rfft2dOptions(), [x, lengths(4, 4)], [C64])
    np.testing.assert_array_equal(y, want)


@pytest.mark.parametrize("size", [(3, 4), (4, 0), (-4, 4), (1 << 25, 4)])
def test_lengths_must_be_powers_of_two(size):
    x = Given(np.zeros((4, 4), np.float32))
    with pytest.raises(RuntimeError, match="fft_length"):
        run("RFFT2D", Rfft2dOptions(), [x, lengths(*size)], [C64])
    with pytest.raises(RuntimeError, match="fft_length"):
        run("RFFT2D", Rfft2dOptions(), [x, Given(np.array(size, np.int32))], [C64])


def test_the_inverse_gives_the_image_back():
    x = RNG.standard_normal((2, 8, 16)).astype(np.float32)
    (y,) = run("RFFT2D", Rfft2dOptions(), [Given(x), lengths(8, 16)], [C64])
    (back,) = run("IRFFT2D", {}, [Given(y), lengths(8, 16)], [F32])
    np.testing.assert_allclose(back, x, atol=1e-6)


@pytest.mark.parametrize("isa", HOST_ISAS, ids=lambda isa: isa.name)
@pytest.mark.parametrize("size", [(1, 2), (1, 4), (1, 64), (2, 2), (8, 32), (64, 8), (1, 1024)])
@pytest.mark.parametrize("shape", [(1, 70), (2, 5, 7), (3, 40, 20)])
def test_kernels_give_what_numpy_gives(shape, size, isa):
    rng = np.random.default_rng(1)
    height, width = size
    number = np.array(size, np.int32)
    x = rng.standard_normal(shape).astype(np.float32)
    z = (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)).astype(np.complex64)
    for name, value, columns, dtype in (
        ("RFFT2D", x, width // 2 + 1, np.complex64), ("IRFFT2D", z, width, np.float32),
    ):  # fmt: skip
        inputs = (SimpleNamespace(dims=shape, size=value.size), SimpleNamespace(value=number))
        node = SimpleNamespace(input=lambda k, inputs=inputs: inputs[k])
        out = np.zeros((*shape[:-2], height, columns), dtype)
        steps = RunningSteps(isa, [value, number], [out])
        op = registered(name)[0]
        op.lower(node, steps)
        want = op.reference(SimpleNamespace(check=lambda ok, text: ok), value, number)
        found = steps.results[0].array
        np.testing.assert_allclose(found, want, rtol=1e-5, atol=2e-7 * np.abs(want).max())
