"""Runs a .tflite model: by LiteRT, or its predecessor where LiteRT has no wheel (Termux, armv7). See docs/adr/0004."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]


class InterpreterError(RuntimeError):
    """There is no interpreter here, or it cannot load or run the model; the text says why."""


class Interpreter:
    """A model as `transfer.tflite` writes it, ready to run. One thread at a time."""

    def __init__(self, model: Path | bytes, threads: int = 1, pause: Callable[[], object] = lambda: None) -> None:
        """`model`: its file, which is mapped and must not change, or its bytes. Raises InterpreterError.

        `pause` is called before each of the two steps that keep all Python threads waiting: it may wait for a good
        moment. Running keeps nobody waiting.
        """
        pause()
        self._interpreter = _open(model, threads)
        pause()
        try:
            self._interpreter.allocate_tensors()
            (self._source,) = (detail["index"] for detail in self._interpreter.get_input_details())
            outputs = self._interpreter.get_output_details()
            self._logits, self._features = (detail["index"] for detail in outputs)
            self._widths = [int(detail["shape"][-1]) for detail in outputs]
        except (RuntimeError, ValueError) as error:
            raise InterpreterError(f"the model is not one of ours: {error}") from None

    def run(self, images: Floats) -> tuple[Floats, Floats]:
        """Logits [n, C] and features [n, D] of normalised images [n, h, w, 3]. Raises InterpreterError.

        One image after the other, however many there are: memory does not grow with them, and an image's maps stay in
        the processor's cache. Thirty-two at once took 4 % longer (int8, 0.5 M parameters, 1 MiB of cache).
        """
        try:
            if len(images) == 1:  # a device's usual case, and nothing to put together
                return self._one(images)
            logits, features = (np.empty((len(images), width), np.float32) for width in self._widths)
            for number in range(len(images)):
                logits[number], features[number] = (part[0] for part in self._one(images[number : number + 1]))
        except (RuntimeError, ValueError) as error:
            raise InterpreterError(str(error)) from None
        return logits, features

    def _one(self, image: Floats) -> tuple[Floats, Floats]:
        self._interpreter.set_tensor(self._source, image)
        self._interpreter.invoke()
        return self._interpreter.get_tensor(self._logits), self._interpreter.get_tensor(self._features)


def _open(model: Path | bytes, threads: int) -> Any:
    try:
        from ai_edge_litert.interpreter import Interpreter as Library
    except ImportError:
        try:
            from tflite_runtime.interpreter import Interpreter as Library
        except ImportError:
            raise InterpreterError("neither ai-edge-litert nor tflite-runtime is installed: run agent doctor") from None
    try:
        if isinstance(model, bytes):
            return Library(model_content=model, num_threads=threads)
        return Library(model_path=str(model), num_threads=threads)
    except (RuntimeError, ValueError) as error:
        raise InterpreterError(f"{model if isinstance(model, Path) else 'the model'}: {error}") from None
