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
OPERATORS = [
    "mobilenet_v2_dyn",
    "mobilenet_v2_16x8",
    "bert_small_dyn",
    "vit_tiny_dyn",
    "vit_tiny_int8",
    "lstm_f32",
    "lstm_dyn",
    "gru_f32",
    "gru_dyn",
    "bilstm_f32",
    "bilstm_dyn",
    "tcn_f32",
    "tcn_int8",
    "tcn_16x8",
    "trained_lstm_int8",
    "dtln_noise_suppression",
    "str_ww_ref_model",
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


def table(
    models: list[str], threads: int, seconds: float, pause: float
) -> list[dict[str, float | str]]:
    """Measure and print a row a model, and the least and the mean ratio below them."""
    print(f"{'model':36s} thr   litejit    xnnpack    builtin   ratio")
    rows = []
    for name in models:
        path = Path(name) if name.endswith(".tflite") else peers.MODELS / f"{name}.tflite"
        row = measure(path, threads, seconds, pause)
        rows.append(row)
        cells = "".join(
            f"{row[k]:11.1f}" if k in row else f"{'-':>11s}"
            for k in ("litejit", "xnnpack", "builtin")
        )
        print(f"{row['model']:36s} {threads:3d}{cells} {row.get('ratio', 0):7.2f}", flush=True)
    ratios = [row["ratio"] for row in rows if "ratio" in row]
    if ratios:
        mean = float(np.exp(np.mean(np.log(ratios))))
        print(f"{threads} threads: least {min(ratios):.2f}, geometric mean {mean:.2f}\n")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--seconds", type=float, default=1.5, help="for each model")
    parser.add_argument("--pause", type=float, default=0.0, help="ms before each run")
    parser.add_argument("--json", help="file to write")
    options = parser.parse_args()
    groups = [options.models] if options.models else [FOUNDATION, OPERATORS]
    rows = [
        row
        for threads in options.threads
        for models in groups
        for row in table(models, threads, options.seconds, options.pause / 1e3)
    ]
    peers.save(options.json, rows)


if __name__ == "__main__":
    main()
