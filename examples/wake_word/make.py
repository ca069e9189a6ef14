"""Build the front end, train a classifier on its features, write both and a recording.

    python examples/wake_word/make.py        (needs scikit-learn)
"""

from __future__ import annotations

import wave
from pathlib import Path
from typing import Any

import numpy as np
from front_end import CHANNELS, FEATURE, FRAME, RATE, STEP, build
from sklearn.neural_network import MLPClassifier
from sounds import OTHERS, WORD, second

from litejit.micro import runtime
from litejit.model.builder import ModelBuilder, per_tensor
from litejit.model.options.conv import FullyConnectedOptions, Pool2DOptions
from litejit.model.options.elementwise import SoftmaxOptions
from litejit.model.options.enums import Activation
from litejit.types import I8, I32

HERE = Path(__file__).parent
FRAMES = 49  # of a second
UNITS = 24
POOLED = 4  # frames that the classifier sees as one
SAID = (None, "oia", WORD, "tone", WORD)  # in the recording


def features(front_end: Any, sound: Any) -> Any:
    """[frames, channels] of int8 of a second; the front end begins anew."""
    front_end.reset()
    rows = []
    for start in range(0, len(sound) - FRAME + 1, STEP):
        front_end.set_input(sound[start : start + FRAME], 0)
        front_end.invoke()
        rows.append(front_end.get_output(0))
    return np.array(rows)


def classifier(network: Any) -> bytes:
    """The network in int8: features of 49 frames, pooled by fours, to two probabilities."""
    model = ModelBuilder("wake word classifier")
    graph = model.main
    x = graph.add_input("features", (1, FRAMES - 1, CHANNELS, 1), I8, quantization=FEATURE)
    pooled = (FRAMES - 1) // POOLED
    shape = (1, pooled, CHANNELS, 1)
    small = graph.add_tensor("pooled", shape, I8, quantization=FEATURE)
    pool = Pool2DOptions(stride_w=1, stride_h=POOLED, filter_width=1, filter_height=POOLED)
    graph.add_operator("AVERAGE_POOL_2D", [x], [small], pool)
    scale, below = float(FEATURE.scales[0]), small
    depth = pooled * CHANNELS
    layers = list(zip(network.coefs_, network.intercepts_, strict=True))
    matrix, bias = (part / 2 for part in layers.pop())  # one logit becomes two classes
    two = np.concatenate([-matrix, matrix], axis=1), np.concatenate([-bias, bias])
    for k, (matrix, bias) in enumerate([*layers, two]):
        last = k == len(layers)
        step = float(np.abs(matrix).max()) / 127
        codes = np.clip(np.rint(matrix.T / step), -127, 127).astype(np.int8)
        w = graph.add_constant(f"weights {k}", codes.reshape(-1, depth), I8,
                               quantization=per_tensor(step))  # fmt: skip
        whole = np.rint(bias / (scale * step)).astype(np.int32)
        b = graph.add_constant(f"bias {k}", whole, I32, quantization=per_tensor(scale * step))
        scale, zero = (0.12, 0) if last else (0.25, -128)
        depth = len(bias)
        y = graph.add_tensor(f"layer {k}", (1, depth), I8, quantization=per_tensor(scale, zero))
        activation = Activation.NONE if last else Activation.RELU
        options = FullyConnectedOptions(activation=activation)
        graph.add_operator("FULLY_CONNECTED", [below, w, b], [y], options)
        below = y
    out = graph.add_output("other, word", (1, 2), I8, quantization=per_tensor(1 / 256, -128))
    graph.add_operator("SOFTMAX", [below], [out], SoftmaxOptions(beta=1.0))
    return model.to_bytes()


def examples(front_end: Any, count: int, seed: int) -> tuple[Any, Any]:
    """Pooled features as real numbers, and whether the word was said."""
    rng = np.random.default_rng(seed)
    rows, said = [], []
    for k in range(count):
        word = k % 2 == 0
        other = (None, "tone", *OTHERS)[int(rng.integers(len(OTHERS) + 2))]
        found = features(front_end, second(WORD if word else other, rng))[: FRAMES - 1]
        real = (found.astype(np.float64) + 128) * float(FEATURE.scales[0])
        rows.append(real.reshape(-1, POOLED, CHANNELS).mean(axis=1).ravel())
        said.append(int(word))
    return np.array(rows), np.array(said)


def main() -> None:
    """Write front_end.tflite, classifier.tflite and recording.wav."""
    (HERE / "front_end.tflite").write_bytes(build())
    front_end = runtime.Interpreter.from_file(HERE / "front_end.tflite", arena_size=1 << 20)
    x, said = examples(front_end, 1600, seed=1)
    network = MLPClassifier((UNITS,), alpha=0.3, max_iter=300, random_state=0)
    network.fit(x / 400, said)
    network.coefs_[0] = network.coefs_[0] / 400
    test_x, test_said = examples(front_end, 200, seed=2)
    print(f"{(network.predict(test_x) == test_said).mean():.1%} of 200 new sounds are told apart")
    (HERE / "classifier.tflite").write_bytes(classifier(network))
    rng = np.random.default_rng(7)
    recording = np.concatenate([second(content, rng) for content in SAID])
    with wave.open(str(HERE / "recording.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(recording.astype("<i2").tobytes())


if __name__ == "__main__":
    main()
