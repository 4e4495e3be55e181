"""The interpreter runs what our writer wrote, says what it cannot run, and asks before it keeps everybody waiting."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tiny_networks import noise, random_weights

from transfer import tflite
from transfer.graph import network_graph
from transfer.interpreter import Interpreter, InterpreterError
from transfer.spec import resnet_cifar
from transfer.tflite import Quantise

pytest.importorskip("ai_edge_litert.interpreter", reason="no TFLite interpreter for this platform")

SPEC = resnet_cifar(8, 5, widths=(16, 24, 32))
GRAPH = network_graph(SPEC, random_weights(SPEC, 0), 16, 16)


@pytest.mark.parametrize("quantise", ["none", "dynamic_int8"])
def test_an_image_gives_the_same_alone_and_among_others(quantise: Quantise) -> None:
    interpreter, images = Interpreter(tflite.write(GRAPH, quantise=quantise)), noise(5, 16, 16, 3)
    logits, features = interpreter.run(images)
    assert (logits.shape, features.shape) == ((5, 5), (5, 32)) and logits.dtype == features.dtype == np.float32
    for number in range(5):
        alone, feature = interpreter.run(images[number : number + 1])
        assert np.array_equal(alone[0], logits[number]) and np.array_equal(feature[0], features[number])


def test_what_it_returned_stays_when_it_runs_again() -> None:
    interpreter, images = Interpreter(tflite.write(GRAPH)), noise(2, 16, 16, 3)
    first, _ = interpreter.run(images[:1])
    kept = first.copy()
    interpreter.run(images[1:])
    assert np.array_equal(first, kept)


def test_no_image_gives_nothing_of_the_right_width() -> None:
    logits, features = Interpreter(tflite.write(GRAPH)).run(noise(0, 16, 16, 3))
    assert (logits.shape, features.shape) == ((0, 5), (0, 32))


def test_a_file_is_as_good_as_its_bytes(tmp_path: Path) -> None:
    model, images = tflite.write(GRAPH), noise(2, 16, 16, 3)
    (tmp_path / "model.tflite").write_bytes(model)
    from_file, from_bytes = Interpreter(tmp_path / "model.tflite").run(images), Interpreter(model).run(images)
    assert all(np.array_equal(a, b) for a, b in zip(from_file, from_bytes, strict=True))


def test_it_asks_before_each_long_step_and_not_when_it_runs() -> None:
    asked: list[int] = []
    interpreter = Interpreter(tflite.write(GRAPH), pause=lambda: asked.append(1))
    assert len(asked) == 2
    interpreter.run(noise(3, 16, 16, 3))
    assert len(asked) == 2


def test_what_is_no_model_is_named(tmp_path: Path) -> None:
    (tmp_path / "junk.tflite").write_bytes(b"no model at all")
    with pytest.raises(InterpreterError, match=r"junk\.tflite"):
        Interpreter(tmp_path / "junk.tflite")
    with pytest.raises(InterpreterError, match="the model: "):
        Interpreter(b"no model at all")
    with pytest.raises(InterpreterError, match=r"missing\.tflite"):
        Interpreter(tmp_path / "missing.tflite")


def test_images_of_another_size_are_an_error() -> None:
    with pytest.raises(InterpreterError, match="Dimension mismatch"):
        Interpreter(tflite.write(GRAPH)).run(noise(1, 8, 8, 3))


def test_a_model_cut_short_is_an_error() -> None:
    """Whatever a damaged file leads to, it is this error."""
    model = tflite.write(GRAPH)
    for length in (0, 8, len(model) // 3):
        with pytest.raises(InterpreterError):
            Interpreter(model[:length])
