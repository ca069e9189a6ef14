"""Train a network on scikit-learn's digits, quantize it to int8, and write it with test images.

    python examples/digits/make.py        (needs scikit-learn and pillow)

The network: 8x8 grey image -> 48 units, RELU -> 10 units -> softmax. Weights are int8 with one
scale a layer, activations int8 with ranges taken from the training images.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

from litejit.model.builder import ModelBuilder
from litejit.model.options.conv import FullyConnectedOptions
from litejit.model.options.elementwise import SoftmaxOptions
from litejit.model.options.enums import Activation
from litejit.model.options.shape import ReshapeOptions
from litejit.types import I8, I32, Quantization

HERE = Path(__file__).parent
UNITS = 48
IMAGES = 5


def quantization(scale: float, zero_point: int = 0) -> Quantization:
    return Quantization(np.array([scale], np.float32), np.array([zero_point], np.int64))


def activation_quantization(values: np.ndarray) -> Quantization:
    """int8 from the least to the largest value, with 0 exactly representable."""
    low, high = min(float(values.min()), 0.0), max(float(values.max()), 0.0)
    scale = (high - low) / 255
    return quantization(scale, int(np.clip(round(-128 - low / scale), -128, 127)))


def train() -> tuple[MLPClassifier, np.ndarray, np.ndarray, np.ndarray]:
    digits = load_digits()
    images = (digits.data / 16).astype(np.float32)
    fit_x, test_x, fit_y, test_y = train_test_split(
        images, digits.target, test_size=0.25, random_state=1
    )
    network = MLPClassifier((UNITS,), max_iter=600, random_state=1).fit(fit_x, fit_y)
    return network, fit_x, test_x, test_y


def build(network: MLPClassifier, images: np.ndarray) -> bytes:
    """The quantized network as a .tflite file; `images` give the ranges of activations."""
    builder = ModelBuilder("handwritten digits, 8x8 grey pixels, int8")
    graph = builder.main
    hidden = np.maximum(images @ network.coefs_[0] + network.intercepts_[0], 0)
    logits = hidden @ network.coefs_[1] + network.intercepts_[1]
    ranges = [quantization(1 / 255, -128), activation_quantization(hidden),
              activation_quantization(logits)]  # fmt: skip
    image = graph.add_input("image", (1, 8, 8, 1), I8, quantization=ranges[0])
    flat = graph.add_tensor("flat", (1, 64), I8, quantization=ranges[0])
    shape = graph.add_constant("flat shape", np.array([1, 64], np.int32))
    graph.add_operator("RESHAPE", [image, shape], [flat], ReshapeOptions(new_shape=(1, 64)))
    value = flat
    activations = (Activation.RELU, Activation.NONE)
    for layer, (weights, bias) in enumerate(
        zip(network.coefs_, network.intercepts_, strict=True)
    ):
        scale = float(np.abs(weights).max()) / 127
        rounded = np.rint(weights.T / scale).astype(np.int8)
        w = graph.add_constant(f"weights {layer}", rounded, quantization=quantization(scale))
        bias_scale = float(np.float32(scale) * ranges[layer].scales[0])
        b = graph.add_constant(
            f"bias {layer}",
            np.rint(bias / bias_scale).astype(np.int32),
            I32,
            quantization=quantization(bias_scale),
        )
        units = len(bias)
        result = graph.add_tensor(
            f"layer {layer}", (1, units), I8, quantization=ranges[layer + 1]
        )
        options = FullyConnectedOptions(activation=activations[layer])
        graph.add_operator("FULLY_CONNECTED", [value, w, b], [result], options, version=4)
        value = result
    digit = graph.add_output("digit", (1, 10), I8, quantization=quantization(1 / 256, -128))
    graph.add_operator("SOFTMAX", [value], [digit], SoftmaxOptions(beta=1.0), version=2)
    builder.add_signature("serving_default", {"image": image}, {"digit": digit})
    return builder.to_bytes()


def accuracy(path: Path, images: np.ndarray, digits: np.ndarray) -> float:
    from litejit import Interpreter

    interpreter = Interpreter(str(path))
    interpreter.allocate_tensors()
    image = interpreter.get_input_details()[0]["index"]
    digit = interpreter.get_output_details()[0]["index"]
    right = 0
    for pixels, wanted in zip(images, digits, strict=True):
        codes = np.rint(pixels * 255 - 128).astype(np.int8).reshape(1, 8, 8, 1)
        interpreter.set_tensor(image, codes)
        interpreter.invoke()
        right += int(interpreter.get_tensor(digit).argmax() == wanted)
    return right / len(digits)


def main() -> None:
    network, fit_x, test_x, test_y = train()
    path = HERE / "digits_int8.tflite"
    path.write_bytes(build(network, fit_x))
    (HERE / "labels.txt").write_text("".join(f"{k}\n" for k in range(10)))
    for number in range(IMAGES):
        pixels = np.rint(test_x[number].reshape(8, 8) * 255).astype(np.uint8)
        Image.fromarray(pixels).save(HERE / f"test_{number}_is_{test_y[number]}.png")
    print(f"float: {network.score(test_x, test_y):.3f} of {len(test_y)} test images right")
    print(f"int8:  {accuracy(path, test_x, test_y):.3f}")


if __name__ == "__main__":
    main()
