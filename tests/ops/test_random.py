"""Random numbers: sequences that are LiteRT's, and state that runs share."""

from __future__ import annotations

import numpy as np
import pytest
from tests.ops.whole import Given, agrees, fixed, model_of, run

from litejit.interpreter import Interpreter
from litejit.model.options.control import RandomOptions
from litejit.model.options.stablehlo import RngAlgorithm, StablehloRngBitGeneratorOptions
from litejit.ops.counters import counting, philox, threefry, unit_floats, words
from litejit.types import F32, F64, I8, I32, I64, U32, U64

SEEDS = [(1, 2), (5, 0), (0, 9), (-3, 4), (1 << 31, 7), ((1 << 32) + 1, 0)]
SHAPE = np.array([3, 5], np.int32)


@pytest.mark.parametrize("seeds", SEEDS)
@pytest.mark.parametrize("name", ["RANDOM_UNIFORM", "RANDOM_STANDARD_NORMAL"])
def test_the_third_run_draws_what_litert_draws(name, seeds):
    options = RandomOptions(seed=seeds[0], seed2=seeds[1])
    agrees(name, options, [fixed(SHAPE)], [F32], runs=3, rtol=1e-5)
    agrees(name, options, [Given(SHAPE)], [F32], runs=2, rtol=1e-5)


@pytest.mark.parametrize("kind", [I32, I64])
@pytest.mark.parametrize("seeds", SEEDS)
def test_classes_are_drawn_as_litert_draws_them(kind, seeds):
    logits = np.array([[1, 2, np.inf, 0.5], [0, np.nan, 3, -np.inf]], np.float32)
    operands = [Given(logits), fixed(np.array(7, np.int32))]
    options = RandomOptions(seed=seeds[0], seed2=seeds[1])
    (y,) = agrees("MULTINOMIAL", options, operands, [kind], runs=3)
    assert not np.isin(y[0], 2).any()
    assert np.isin(y[1], [0, 2]).all()


def test_without_seeds_every_interpreter_draws_other_numbers():
    first, second = (
        run("RANDOM_UNIFORM", RandomOptions(), [fixed(SHAPE)], [F32])[0] for _ in range(2)
    )
    assert (first != second).any()
    assert ((first >= 0) & (first < 1)).all()


def test_numbers_have_the_moments_of_their_distribution():
    options, size = RandomOptions(seed=3), fixed(np.array([1 << 16], np.int32))
    (y,) = run("RANDOM_STANDARD_NORMAL", options, [size], [F32])
    assert abs(y.mean()) < 0.02
    assert abs(y.std() - 1) < 0.02
    (y,) = run("RANDOM_UNIFORM", options, [size], [F32])
    assert abs(y.mean() - 0.5) < 0.01
    (y,) = run(
        "MULTINOMIAL", options,
        [Given(np.log(np.float32([[1, 3]]))), fixed(np.array(1 << 14, np.int32))], [I32],
    )  # fmt: skip
    assert abs(y.mean() - 0.75) < 0.02


@pytest.mark.parametrize("kind", [I32, U32, I64, U64])
@pytest.mark.parametrize(
    ("algorithm", "state"),
    [
        (RngAlgorithm.THREEFRY, [1, 2]),
        (RngAlgorithm.THREEFRY, [1, (1 << 64) - 3]),
        (RngAlgorithm.PHILOX, [1, 2]),
        (RngAlgorithm.PHILOX, [3, (1 << 32) - 2, (1 << 64) - 1]),
        (RngAlgorithm.DEFAULT, [(1 << 63) + 5, (1 << 64) - 2, 7]),
    ],
)
def test_bits_and_the_next_state_are_litert_s(algorithm, state, kind):
    options = StablehloRngBitGeneratorOptions(algorithm=algorithm)
    operand = Given(np.array(state, np.uint64))
    outs = [(U64, (len(state),)), (kind, (3, 7))]
    agrees("STABLEHLO_RNG_BIT_GENERATOR", options, [operand], outs)


def test_blocks_are_those_of_the_paper():
    zeros = np.zeros((1, 4), np.uint32)
    assert philox((0, 0), zeros)[0].tolist() == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
    assert threefry((0, 0), zeros[:, :2])[0].tolist() == [0x6B200159, 0x99BA4EFE]
    ones = (1 << 32) - 1
    full = np.full((1, 4), ones, np.uint32)
    found = philox((ones, ones), full)[0].tolist()
    assert found == [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]


def test_counters_carry_over_all_words():
    start = (1 << 128) - 2
    rows = counting(words(start, 4), 4, carry=4)
    assert [sum(int(w) << 32 * k for k, w in enumerate(row)) for row in rows] == [
        start, start + 1, 0, 1,
    ]  # fmt: skip
    assert counting((1, 0, 7, 8), 2, carry=2).tolist() == [[1, 0, 7, 8], [2, 0, 7, 8]]


@pytest.mark.parametrize("shape", [[-1], [1 << 20, 1 << 20]])
def test_absurd_shapes_are_refused(shape):
    for operand in (fixed(np.array(shape, np.int32)), Given(np.array(shape, np.int32))):
        with pytest.raises(RuntimeError, match="negative|at most"):
            run("RANDOM_UNIFORM", RandomOptions(seed=1), [operand], [F32])


def test_multinomial_needs_classes_and_a_count():
    for logits, count in (((2, 0), 1), ((2, 3), -1), ((6,), 1)):
        operands = [Given(np.zeros(logits, np.float32)), Given(np.array(count, np.int32))]
        with pytest.raises(RuntimeError, match="MULTINOMIAL"):
            run("MULTINOMIAL", RandomOptions(seed=1), operands, [I32])


@pytest.mark.parametrize("kind", [F32, F64])
def test_the_custom_forms_repeat_their_sequence(kind):
    for name in ("RandomUniform", "RandomStandardNormal"):
        first, second = (run(name, {}, [fixed(SHAPE)], [kind])[0] for _ in range(2))
        np.testing.assert_array_equal(first, second)
        other = run(name, {"seed": 4}, [fixed(SHAPE)], [kind])[0]
        assert (first != other).all()


@pytest.mark.parametrize("kind", [I8, I32, I64])
def test_whole_numbers_lie_between_their_bounds(kind):
    bounds = [fixed(np.array(n, kind.numpy)) for n in (-3, 4)]
    (y,) = run("RandomUniformInt", {}, [fixed(np.array([500], np.int32)), *bounds], [kind])
    assert set(y.tolist()) == set(range(-3, 5))


def test_a_custom_multinomial_takes_doubles():
    operands = [Given(np.array([[0.0, 50.0]])), fixed(np.array(9, np.int32))]
    (y,) = run("Multinomial", {}, operands, [I64])
    assert y.tolist() == [[1] * 9]


@pytest.mark.parametrize("compiled", ["0", "1"])
def test_a_sequence_goes_on_whatever_shapes_are_asked_for(compiled, monkeypatch):
    """After many shapes no Program is kept for each of them: nothing must begin anew."""
    monkeypatch.setenv("LITEJIT_COMPILE", compiled)
    shapes = [np.array([n, 2], np.int32) for n in (*range(1, 14), 3, 3)]
    options = RandomOptions(seed=5, seed2=6)
    content = model_of("RANDOM_UNIFORM", options, [Given(shapes[0])], [F32])
    interpreter = Interpreter(model_content=content)
    interpreter.allocate_tensors()
    drawn = []
    for shape in shapes:
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], shape)
        interpreter.invoke()
        drawn.append(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]))
    start = 0
    for shape, found in zip(shapes, drawn, strict=True):
        assert found.shape == tuple(shape)
        count = found.size
        blocks = -(-count // 4)
        bits = philox((5, 0), counting((start, 0, 6, 0), blocks, carry=4)).reshape(-1)[:count]
        np.testing.assert_array_equal(found.reshape(-1), unit_floats(bits))
        start += blocks
