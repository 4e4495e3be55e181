"""Writes a small network as .tflite, in float and in int8, runs both by one library, and compares with numpy."""

from __future__ import annotations

import importlib
import json
import sys
import time

import numpy as np
import numpy.typing as npt

from agent.doctor.probe import request
from transfer import tflite
from transfer.graph import Conv, Dense, Graph, Mean
from transfer.interpreter import Interpreter
from transfer.operations import INPUT

LIBRARIES = ("ai_edge_litert", "tflite_runtime")
SIDE = 32
RUNS = 15

Floats = npt.NDArray[np.float32]


def network(seed: int = 1) -> Graph:
    """Two convolutions, a mean and a linear layer: the operations of every student. 24 k parameters."""
    rng = np.random.default_rng(seed)

    def normal(*shape: int) -> Floats:
        drawn: Floats = (rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)
        return drawn

    return Graph(
        (SIDE, SIDE),
        (
            Conv("first", INPUT, normal(32, 3, 3, 3), normal(32, 1)[:, 0], stride=1, relu=True),
            Conv("second", "first", normal(64, 3, 3, 32), normal(64, 1)[:, 0], stride=2, relu=True),
            Mean("feature", "second"),
            Dense("logits", "feature", normal(10, 64), normal(10, 1)[:, 0]),
        ),
        logits="logits",
        feature="feature",
    )


def computed(graph: Graph, image: Floats) -> tuple[Floats, Floats]:
    """Logits [10] and feature [64] of one image [SIDE, SIDE, 3], by plain numpy."""
    first, second, _, dense = graph.operations
    assert isinstance(first, Conv) and isinstance(second, Conv) and isinstance(dense, Dense)
    feature = _convolved(second, _convolved(first, image)).mean(axis=(0, 1))
    return dense.weight @ feature + dense.bias, feature


def _convolved(conv: Conv, image: Floats) -> Floats:
    padded = np.pad(image, ((1, 1), (1, 1), (0, 0)))
    rows, columns = (range(0, side, conv.stride) for side in image.shape[:2])
    windows = np.stack([[padded[r : r + 3, c : c + 3].ravel() for c in columns] for r in rows])
    made = windows @ conv.weight.reshape(len(conv.weight), -1).T + conv.bias
    rectified: Floats = np.maximum(made, 0).astype(np.float32)
    return rectified


def measure(model: bytes, image: Floats, wanted: tuple[Floats, Floats]) -> tuple[float, float]:
    """The largest error relative to the largest output, and the median milliseconds of one run."""
    interpreter = Interpreter(model)
    times, errors = [], []
    for _ in range(RUNS):
        began_s = time.perf_counter()
        got = interpreter.run(image[None])
        times.append(time.perf_counter() - began_s)
        errors += [float(np.abs(g[0] - w).max() / np.abs(w).max()) for g, w in zip(got, wanted, strict=True)]
    return max(errors), float(np.median(times)) * 1000


def main() -> None:
    library = request()["library"]
    for other in LIBRARIES:
        if other != library:
            sys.modules[other] = None  # type: ignore[assignment]  # the interpreter then takes the one asked for
    try:
        module = importlib.import_module(library)
    except ImportError as error:
        print(json.dumps({"absent": str(error)[:200]}))
        return
    graph = network()
    image = np.random.default_rng(2).standard_normal((SIDE, SIDE, 3)).astype(np.float32)
    wanted = computed(graph, image)
    float_error, float_ms = measure(tflite.write(graph), image, wanted)
    int8_error, int8_ms = measure(tflite.write(graph, quantise="dynamic_int8"), image, wanted)
    said = {"float_error": float_error, "float_ms": float_ms, "int8_error": int8_error, "int8_ms": int8_ms}
    print(json.dumps({"version": str(getattr(module, "__version__", "")), **said}))


if __name__ == "__main__":
    main()
