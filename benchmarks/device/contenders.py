"""What else could hold a model and serve it: `python -m benchmarks.device.contenders NAME BUNDLE`.

Each prints "served" when it is through with its first image, and ends when its standard input does.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path


def bare(folder: Path) -> None:
    """Python alone."""


def litert(folder: Path) -> None:
    """The floor under the daemon: numpy, LiteRT and the model, with nothing around them."""
    import numpy as np
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(folder / "model.tflite"), num_threads=1)
    interpreter.allocate_tensors()
    source = interpreter.get_input_details()[0]
    interpreter.set_tensor(source["index"], np.zeros(source["shape"], np.float32))
    interpreter.invoke()


def torch(folder: Path) -> None:
    """What a daemon would hold that serves, and trains, in torch."""
    import torch as library

    from transfer import bundle
    from transfer.networks import build

    library.set_num_threads(1)
    served = bundle.load(folder, trusted=None)
    size = served.manifest.input
    net = build(served.manifest.net, served.weights()).eval()
    with library.no_grad():
        net(library.zeros(1, 3, size.height, size.width))


CONTENDERS: dict[str, Callable[[Path], None]] = {"bare": bare, "litert": litert, "torch": torch}

if __name__ == "__main__":
    CONTENDERS[sys.argv[1]](Path(sys.argv[2]))
    print("served", flush=True)
    sys.stdin.read()
