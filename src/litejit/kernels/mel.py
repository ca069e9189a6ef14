"""Mel-frequency cepstral coefficients of squared magnitudes."""

from __future__ import annotations

from litejit.codegen import math as functions
from litejit.codegen.isa import Isa
from litejit.codegen.lang import Function, Ptr, f32, f64, i32, i64
from litejit.kernels.base import KernelSpec


class MelSpec(KernelSpec):
    """Roots in bands, their logarithms, a cosine transform; in double.

    Arguments: x, y, firsts and counts (i32: the bins of every band), weights (f64, band after
    band), cosines (f64 [coefficients, bands]), scratch, its stride (bytes), bins of a row, bands,
    coefficients. Items: rows. A band holds at least `floor` before its logarithm is taken.
    """

    floor: float

    def emit(self, name: str, isa: Isa) -> str:
        """Band by band, then coefficient by coefficient."""
        fn = Function(
            name, isa, x=Ptr(f32), y=Ptr(f32), firsts=Ptr(i32), counts=Ptr(i32), weights=Ptr(f64),
            cosines=Ptr(f64), scratch=Ptr(f64), stride=i64, bins=i64, bands=i64, coefficients=i64,
        )  # fmt: skip
        x, y, firsts, counts, weights, cosines, scratch, stride, bins, bands, kept = fn.args
        lanes = isa.lanes(f64)
        logarithms = scratch + fn.worker * (stride / 8)
        zeros = fn.const(0.0, f64 * lanes)
        with fn.loop(fn.end, start=fn.begin) as row:
            place = [fn.const(0, i64)]
            with fn.loop(bands, carry=place) as band:
                source, count, sums = x + row * bins + firsts[band].to(i64), counts[band], [zeros]
                with fn.loop(count.to(i64), step=lanes, carry=sums) as k:
                    root = fn.sqrt(source.load(k, lanes=lanes).to(f64))
                    product = root * weights.load(place[0] + k, lanes=lanes)
                    mask = fn.first(count.to(i64) - k, lanes)
                    sums[0] = sums[0] + mask.choose(product, 0.0)
                place[0] = place[0] + count.to(i64)
                total = functions.clamp(fn.reduce("add", sums[0]), self.floor, None)
                logarithms[band] = functions.log64(total)
            with fn.loop(kept) as j:
                sums = [zeros]
                with fn.loop(bands, step=lanes, carry=sums) as k:
                    factors = cosines.load(j * bands + k, lanes=lanes)
                    product = logarithms.load(k, lanes=lanes) * factors
                    sums[0] = sums[0] + fn.first(bands - k, lanes).choose(product, 0.0)
                y[row * kept + j] = fn.reduce("add", sums[0]).to(f32)
        return fn.ir()
