"""Models x threads: LiteRT's two CPU modes beside litejit, in turn, in one process.

    python benchmarks/speed.py [MODEL ...] [--threads 1 2] [--seconds 1.5] [--pause 0]
                               [--json FILE]

Prints, a row a model: microseconds an invoke (medians), and LiteRT's better mode over litejit
as the median of the ratios of neighbouring rounds. More than 1 means that litejit is faster.
With `--pause 10` every run follows 10 ms in which nothing happens: workers sleep by then.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

import peers

FOUNDATION = [
    "mobilenet_v1_int8",
    "mobilenet_v2_f32",
    "mobilenet_v2_int8",
    "mobilenet_v2_1.0_224_quant",
    "mobilenet_v3s_int8",
    "efficientnet_b0_int8",
    "movenet_single_pose_lightning_ptq",
    "deeplabv3_mnv2_dm05_pascal_quant",
    "unet_f32",
    "unet_int8",
    "espcn_f32",
    "yolo_tiny_f32",
    "yolo_tiny_int8",
    "vww_96_int8",
    "kws_ref_model",
    "pretrainedResnet_quant",
    "ad01_int8",
]


def measure(path: Path, threads: int, seconds: float, pause: float) -> dict[str, float | str]:
    ours = peers.litejit(path, threads)
    theirs = {
        "xnnpack": peers.litert(path, threads, xnnpack=True),
        "builtin": peers.litert(path, threads, xnnpack=False),
    }
    calls = {"litejit": ours.invoke}
    calls.update({name: peer.invoke for name, peer in theirs.items() if peer is not None})
    times = peers.interleaved(calls, seconds, pause)
    row: dict[str, float | str] = {"model": path.stem, "threads": threads}
    row.update({name: float(np.median(t)) for name, t in times.items()})
    rivals = [name for name in ("xnnpack", "builtin") if name in times]
    if rivals:
        best = min(rivals, key=lambda name: np.median(times[name]))
        ratios = np.array(times[best]) / np.array(times["litejit"])
        row["better"], row["ratio"] = best, float(np.median(ratios))
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", default=FOUNDATION)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--seconds", type=float, default=1.5, help="for each model")
    parser.add_argument("--pause", type=float, default=0.0, help="ms before each run")
    parser.add_argument("--json", help="file to write")
    options = parser.parse_args()
    rows = []
    for threads in options.threads:
        print(f"{'model':36s} thr   litejit    xnnpack    builtin   ratio")
        for name in options.models:
            path = Path(name) if name.endswith(".tflite") else peers.MODELS / f"{name}.tflite"
            row = measure(path, threads, options.seconds, options.pause / 1e3)
            rows.append(row)
            cells = "".join(
                f"{row[k]:11.1f}" if k in row else f"{'-':>11s}"
                for k in ("litejit", "xnnpack", "builtin")
            )
            print(f"{row['model']:36s} {threads:3d}{cells} {row.get('ratio', 0):7.2f}", flush=True)
        ratios = [r["ratio"] for r in rows if r["threads"] == threads and "ratio" in r]
        if ratios:
            mean = float(np.exp(np.mean(np.log(ratios))))
            print(f"{threads} threads: least {min(ratios):.2f}, geometric mean {mean:.2f}\n")
    peers.save(options.json, rows)


if __name__ == "__main__":
    main()
