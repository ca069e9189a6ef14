"""8-bit convolution kernels against NumPy at sizes around the edges of tiles."""

from __future__ import annotations

import numpy as np
import pytest
from tests.kernels import oracle_int8 as oracle
from tests.kernels.harness import HOST_ISAS, run

from litejit.codegen import llvm
from litejit.codegen.isa import ISAS
from litejit.codegen.lang import i32
from litejit.kernels import epilogue_int8 as ep
from litejit.kernels import packing_int8 as packing
from litejit.kernels.conv_int8 import ConvSpec
from litejit.kernels.sliding_int8 import SlidingSpec

BYTE = {False: np.int8, True: np.uint8}
NAMES = [isa.name for isa in HOST_ISAS]


class Layer:
    """Random data of one layer, the kernel's operands and the expected result."""

    def __init__(self, rng, isa, spec, m, k, n, image=None, out=None, window=(1, 1),
                 stride=(1, 1), dilation=(1, 1), pad=(0, 0), common=None):  # fmt: skip
        lanes, epi = isa.lanes(i32), spec.epilogue
        s = self.scaling = oracle.Scaling(
            rng, n, k * window[0] * window[1], unsigned=spec.unsigned
        )
        taps = window[0] * window[1]
        shape = (*image, k) if image else (m, k)
        self.x = rng.integers(s.low, s.high + 1, shape).astype(s.dtype)
        raw = rng.integers(0, 256, (taps, n, k)) if spec.sums else None
        zero = int(rng.integers(100, 150)) if spec.sums else 0
        w = raw - 128 if spec.sums else rng.integers(-127, 128, (taps, n, k))
        meant = raw - zero if spec.sums else w
        order = packing.channel_order(n, lanes, spec.vectors)
        multiple = 4 * spec.chains
        self.weights = np.ascontiguousarray(
            packing.pack_weights(w, order, lanes, spec.vectors, multiple)
        )
        depth = self.weights.shape[2] * 4
        moved = oracle.moved_by(isa, unsigned=spec.unsigned)
        # sum (x - zx)(w - zw) = sum a w' - (zx + moved) sum (w' - zw') - zw' sum a
        sums = meant.sum((0, 2))
        channels = oracle.channel_block(lanes, order, epi, s, sums, moved)
        shared = ep.common_constants(lanes, s.low, s.high) if common is None else common
        shared = shared.copy()
        shared[60:64] = np.array([-(zero - 128) if spec.sums else 0], np.int32).view(np.uint8)
        ones = np.zeros((depth + 64,), np.int8)
        ones[:k] = 1
        if image:
            rows = oracle.conv_windows(self.x, s.input_zero, *window, stride, dilation, pad, out)
        else:
            rows = self.x.astype(np.int64)[None]
        self.m = rows.shape[1]
        self.acc = np.einsum("tmk,tnk->mn", rows - s.input_zero, meant) + s.bias
        panels = len(order) // lanes // spec.vectors
        ih, iw = image or (1, 1)
        self.panels = panels
        out_w = out[1] if out else 1
        self.shape = (depth, self.m, max(n - lanes, 0), k, n, out_w * n, panels, 1, *window,
                      *dilation, *stride, *pad, ih, iw, out_w, (taps + 1) * 128,
                      *[0] * 5)  # fmt: skip
        self.fixed = (self.weights, channels, ones, np.full(depth, s.input_zero, s.dtype),
                      np.zeros((taps + 1) * 16, np.int64))  # fmt: skip
        self.common, self.spec, self.isa, self.n = shared, spec, isa, n

    def run(self, other=0, table=0, group=1, cuts=()):
        y = np.zeros((self.m, self.n), self.scaling.dtype)
        shape = [*self.shape[:7], group, *self.shape[8:]]
        tiles = -(-self.m // self.spec.rows)
        items = tiles * -(-self.panels // group)
        return run(self.spec, self.x, *self.fixed, y, self.common, other, table, *shape,
                   items=items, isa=self.isa, cuts=cuts)[6]  # fmt: skip


def narrow(n, isa):
    return n if n < isa.lanes(i32) else 0


@pytest.mark.parametrize("isa", HOST_ISAS, ids=NAMES)
@pytest.mark.parametrize("unsigned", [False, True])
def test_matrix_product_at_the_edges_of_tiles(isa, unsigned):
    rng = np.random.default_rng(1)
    for m, k, n in [(1, 4, 16), (5, 3, 17), (7, 16, 32), (8, 9, 33), (3, 31, 8), (2, 64, 5),
                    (9, 5, 1), (4, 12, 50), (8, 8, 4), (6, 20, 13)]:  # fmt: skip
        spec = ConvSpec(4, 2, ep.Epilogue("u64", unsigned, narrow=narrow(n, isa)), unsigned)
        layer = Layer(rng, isa, spec, m, k, n)
        np.testing.assert_array_equal(layer.run(group=2), layer.scaling.finish(layer.acc))


@pytest.mark.parametrize("isa", HOST_ISAS, ids=NAMES)
def test_cuts_and_groups_do_not_change_the_result(isa):
    rng = np.random.default_rng(2)
    layer = Layer(rng, isa, ConvSpec(3, 2, ep.Epilogue("u64")), 11, 24, 100)
    want = layer.scaling.finish(layer.acc)
    for group in (1, 2, 3, 9):
        np.testing.assert_array_equal(layer.run(group=group, cuts=(1, 3)), want)


@pytest.mark.parametrize("isa", HOST_ISAS, ids=NAMES)
def test_chains_add_up(isa):
    rng = np.random.default_rng(3)
    for m, k in [(1, 33), (2, 64), (1, 5)]:
        layer = Layer(rng, isa, ConvSpec(1, 2, ep.Epilogue("u64"), chains=4), m, k, 40)
        np.testing.assert_array_equal(layer.run(), layer.scaling.finish(layer.acc))


@pytest.mark.parametrize("isa", HOST_ISAS, ids=NAMES)
@pytest.mark.parametrize("taps", [False, True])
def test_wide_unsigned_weights_use_sums(isa, taps):
    rng = np.random.default_rng(4)
    spec = ConvSpec(3, 1, ep.Epilogue("u64", True), True, taps=taps, sums=True)
    window = {"image": (6, 5), "out": (6, 5), "window": (3, 3), "pad": (1, 1)} if taps else {}
    layer = Layer(rng, isa, spec, 10, 7, 20, **window)
    np.testing.assert_array_equal(layer.run(), layer.scaling.finish(layer.acc))


@pytest.mark.parametrize("isa", HOST_ISAS, ids=NAMES)
@pytest.mark.parametrize("unsigned", [False, True])
def test_windows_read_zero_points_outside_the_image(isa, unsigned):
    rng = np.random.default_rng(5)
    cases = [  # image, k, n, window, stride, dilation, pad, out
        ((5, 7), 3, 16, (3, 3), (1, 1), (1, 1), (1, 1), (5, 7)),
        ((9, 4), 8, 20, (3, 2), (2, 1), (1, 1), (1, 0), (5, 4)),
        ((8, 8), 5, 33, (3, 3), (1, 1), (2, 3), (2, 3), (8, 8)),
        ((4, 30), 16, 17, (5, 1), (1, 3), (1, 1), (2, 0), (4, 10)),
        ((6, 6), 1, 18, (1, 1), (2, 2), (1, 1), (0, 0), (3, 3)),
    ]
    for image, k, n, window, stride, dilation, pad, out in cases:
        spec = ConvSpec(5, 2, ep.Epilogue("u64", unsigned), unsigned, taps=True, one_step=k < 4)
        layer = Layer(rng, isa, spec, 0, k, n, image=image, out=out, window=window,
                      stride=stride, dilation=dilation, pad=pad)  # fmt: skip
        got = layer.run(cuts=(1,), group=3)
        np.testing.assert_array_equal(got, layer.scaling.finish(layer.acc))


def add_numbers(rng, kind, low=-128, high=127):
    own = (int(rng.integers(1 << 30, 1 << 31)), -2) if kind == "own" else (1 << 30, 0)
    other = (int(rng.integers(1 << 30, 1 << 31)), -1) if kind == "other" else (1 << 30, 0)
    total = (int(rng.integers(1 << 30, 1 << 31)), -18)
    zeros = (int(v) for v in rng.integers(-60, 60, 3))
    return ep.AddNumbers(own, other, total, *zeros, low, high)


def added(own, other, add):
    """What ADD makes of two int8 arrays."""
    terms = [
        oracle.rounded((q.astype(np.int64) - zero) << 20, *scale)
        for q, zero, scale in ((own, add.own_zero, add.own), (other, add.other_zero, add.other))
    ]
    return np.clip(oracle.rounded(sum(terms), *add.total) + add.zero, add.low, add.high)


@pytest.mark.parametrize("isa", HOST_ISAS, ids=NAMES)
@pytest.mark.parametrize("kind", ["own", "other", "none"])
def test_residual_add_equals_three_rescalings(isa, kind):
    rng = np.random.default_rng(6)
    add = add_numbers(rng, kind, -100, 90)
    assert add.kind == kind
    lanes = isa.lanes(i32)
    common = ep.common_constants(lanes, -70, 80, add)
    spec = ConvSpec(3, 1, ep.Epilogue("u64", clamp=True, add=kind, add_clamp=True))
    layer = Layer(rng, isa, spec, 50, 24, 37, common=common)
    other = rng.integers(-128, 128, (50, 37)).astype(np.int8)
    want = added(layer.scaling.finish(layer.acc, -70, 80), other, add)
    np.testing.assert_array_equal(layer.run(other=other), want)


@pytest.mark.parametrize("isa", HOST_ISAS, ids=NAMES)
def test_linear_residual_add_equals_three_rescalings(isa):
    rng = np.random.default_rng(9)
    half, total = (1 << 30, 0), (1 << 30, -18)  # (q0 - 1) + (q1 - 2) + 4
    add = ep.AddNumbers(half, half, total, 1, 2, 4, -20, 90, (8, 8, 8 + 3, 3))
    assert add.kind == "linear"
    common = ep.common_constants(isa.lanes(i32), -70, 80, add)
    spec = ConvSpec(3, 1, ep.Epilogue("u64", clamp=True, add="linear", add_clamp=True))
    layer = Layer(rng, isa, spec, 50, 24, 37, common=common)
    beside = rng.integers(-128, 128, (50, 37)).astype(np.int8)
    want = added(layer.scaling.finish(layer.acc, -70, 80), beside, add)
    np.testing.assert_array_equal(layer.run(other=beside), want)


@pytest.mark.parametrize("isa", HOST_ISAS, ids=NAMES)
@pytest.mark.parametrize("unsigned", [False, True])
def test_table_is_looked_up_after_the_clamp(isa, unsigned):
    rng = np.random.default_rng(7)
    table = rng.permutation(256).astype(np.uint8)
    epilogue = ep.Epilogue("u64", unsigned, clamp=True, table=True)
    low, high = (20, 200) if unsigned else (-90, 100)
    common = ep.common_constants(isa.lanes(i32), low, high)
    for rows in (1, 4, 7):
        spec = ConvSpec(rows, 2, epilogue, unsigned)
        layer = Layer(rng, isa, spec, 30, 16, 40, common=common)
        byte = layer.scaling.finish(layer.acc, low, high).astype(np.int64) & 255
        want = table[byte].view(layer.scaling.dtype)
        np.testing.assert_array_equal(layer.run(table=table), want)


@pytest.mark.parametrize("isa", HOST_ISAS, ids=NAMES)
@pytest.mark.parametrize("add_last", [False, True])
def test_add_and_table_follow_in_either_order(isa, add_last):
    rng = np.random.default_rng(8)
    add, table = add_numbers(rng, "other"), rng.permutation(256).astype(np.uint8)
    common = ep.common_constants(isa.lanes(i32), -70, 80, add)
    epilogue = ep.Epilogue("u64", clamp=True, add="other", table=True, add_last=add_last)
    layer = Layer(rng, isa, ConvSpec(7, 1, epilogue), 20, 24, 37, common=common)
    other = rng.integers(-128, 128, (20, 37)).astype(np.int8)
    want = layer.scaling.finish(layer.acc, -70, 80)
    for step in ("table", "add") if add_last else ("add", "table"):
        want = table[want & 255].view(np.int8) if step == "table" else added(want, other, add)
    np.testing.assert_array_equal(layer.run(other=other, table=table), want)


def test_an_add_that_no_cheap_form_covers_is_not_offered():
    assert ep.AddNumbers((3 << 29, 0), (3 << 29, -1), (1 << 30, -18), 0, 0, 0, 0, 1).kind is None
    assert ep.AddNumbers((1 << 30, 0), (1 << 30, 0), (1 << 30, 2), 0, 0, 0, 0, 1).kind is None


@pytest.mark.parametrize("isa", ISAS, ids=lambda isa: isa.name)
def test_kernels_compile_for_every_instruction_set(isa):
    epilogue = ep.Epilogue("u64", clamp=True, add="own", add_clamp=True, table=True)
    for spec in (ConvSpec(2, 1, epilogue, taps=True), SlidingSpec(16, 3, epilogue)):
        assert llvm.compile_ir(spec.emit("kernel", isa), isa)


@pytest.mark.parametrize("taps", [False, True])
def test_accumulators_stay_in_registers_while_products_are_summed(taps):
    best = ISAS[0]
    for rows, vectors in ((16, 1), (14, 2), (8, 2), (7, 3)):
        spec = ConvSpec(rows, vectors, ep.Epilogue("u64r"), taps=taps)
        lines = llvm.assembly(spec.emit("kernel", best), best).splitlines()
        dots = [j for j, line in enumerate(lines) if "vpdpbusd" in line]
        assert len(dots) == rows * vectors
        inner = lines[dots[0] : dots[-1]]
        assert not any("zmm" in line and "rsp" in line for line in inner)
