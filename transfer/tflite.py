"""Write a graph as a .tflite file with nothing but flatbuffers and numpy: milliseconds, on any device; and run one."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from transfer.graph import Graph
from transfer.interpreter import Interpreter
from transfer.operations import INPUT
from transfer.preprocess import normalise
from transfer.spec import InputSpec
from transfer.tflite_writer import Quantise, Writer

__all__ = ["MismatchError", "Quantise", "check", "features", "run", "write"]


BATCH = 32
"""Images that `features` normalises at once: of 224 x 224 pixels they are 19 MB."""


class MismatchError(ValueError):
    """The .tflite model does not compute what the network does."""


def write(graph: Graph, *, quantise: Quantise = "none", description: str = "") -> bytes:
    """The model file: input "image" float32 [1, h, w, 3], outputs "logits" [1, C] and "feature" [1, D].

    The batch can be changed with resize_tensor_input. `dynamic_int8` stores large weights as int8 and lets the
    interpreter quantise their inputs as it runs: inputs and outputs stay float. The same graph gives the same bytes.
    """
    writer = Writer(quantise)
    writer.activation(INPUT, (*graph.input_hw, 3))
    for operation in graph.operations:
        writer.add(operation)
    return writer.finish(INPUT, (graph.logits, graph.feature), description)


def run(model: bytes, images: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """logits [n, C] and feature [n, D] of normalised images float32 [n, h, w, 3], as a device computes them."""
    return Interpreter(model).run(np.ascontiguousarray(images, np.float32))


def features(model: bytes, images: npt.NDArray[np.uint8], input: InputSpec) -> npt.NDArray[np.float32]:
    """[n, D] of images uint8 [n, h, w, 3] as they are, in batches: memory does not grow with their number."""
    interpreter = Interpreter(model)
    spans = (images[at : at + BATCH] for at in range(0, len(images), BATCH))
    return np.concatenate([interpreter.run(normalise(span, input))[1] for span in spans])


def check(
    model: bytes,
    images: npt.NDArray[np.float32],
    logits: npt.NDArray[np.float32],
    feature: npt.NDArray[np.float32],
    tolerance: float,
) -> float:
    """The largest absolute difference between the model's outputs for `images` and what they should be.

    Raises MismatchError if it is above `tolerance`, or not a number.
    """
    worst = 0.0
    for name, got, wanted in zip(("logits", "feature"), run(model, images), (logits, feature), strict=True):
        if got.shape != wanted.shape:
            raise MismatchError(f"{name} of the .tflite model is {got.shape}, of the network {wanted.shape}")
        difference = float(np.abs(got - wanted).max(initial=0))
        if not difference <= tolerance:
            raise MismatchError(f"{name} of the .tflite model is off by {difference:.3g}, allowed is {tolerance:.3g}")
        worst = max(worst, difference)
    return worst
