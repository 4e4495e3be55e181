"""The student that the device's benchmarks serve: half a million parameters, random, made without torch in seconds.

Where only time and memory count, what a network has learned makes no difference; its size and its operations do.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import safetensors.numpy

from transfer import bundle, tflite
from transfer.blueprint import weight_shapes
from transfer.graph import network_graph
from transfer.head import fit
from transfer.manifest import Manifest
from transfer.spec import InputSpec, NetSpec, resnet_cifar
from transfer.tflite import Quantise

if TYPE_CHECKING:
    from nacl.signing import SigningKey

SIDE = 32
SERVED: Quantise = "dynamic_int8"
"""The form that `understudy teacher compress` makes, unless told otherwise."""
LABELS = tuple(f"category {number}" for number in range(10))
INPUT = InputSpec(SIDE, SIDE, (0.49, 0.48, 0.45), (0.25, 0.24, 0.26))
SPEC = resnet_cifar(20, len(LABELS), widths=(22, 44, 88))
"""508,672 parameters, 76 M multiply-accumulates: ResNet-20 at 1.4 times its width."""
FITTED_EACH, HELD_OUT_EACH = 40, 25


def bundle_of_half_a_million(
    folder: Path, quantise: Quantise = "none", *, key: SigningKey | None = None, seed: int = 0, spec: NetSpec = SPEC
) -> Path:
    """Make the student bundle `folder`, signed by `key` where one is given; returns `folder`. It has all that a real
    one has: weights, .tflite, class statistics with the scale of novelty taken from that very .tflite, a holdout.

    `spec`: a smaller network of as many classes, for tests. Raises transfer.bundle.BundleError where it exists.
    """
    weights = random_weights(spec, seed)
    model = tflite.write(network_graph(spec, weights, SIDE, SIDE), quantise=quantise)
    seen = tflite.features(model, images(FITTED_EACH, seed), INPUT)
    statistics = fit(seen, np.repeat(np.arange(len(LABELS)), FITTED_EACH), LABELS)
    held_out, targets = images(HELD_OUT_EACH, seed + 1), np.repeat(np.arange(len(LABELS)), HELD_OUT_EACH)
    statistics = statistics.with_quantiles(tflite.features(model, held_out, INPUT))
    files = {
        bundle.WEIGHTS: safetensors.numpy.save(weights),
        bundle.MODEL: model,
        bundle.STATISTICS: safetensors.numpy.save(statistics.to_arrays()),
        bundle.HOLDOUT: safetensors.numpy.save({"images": held_out, "targets": targets}),
    }
    manifest = Manifest(kind="student", name=f"random {seed}", labels=LABELS, input=INPUT, net=spec)
    bundle.save(folder, manifest, files, key)
    return folder


def images(each: int, seed: int) -> npt.NDArray[np.uint8]:
    """uint8 [10 * each, 32, 32, 3], category after category: its own blurred pattern, lighter or darker, and noise."""
    rng = np.random.default_rng(seed)
    patterns = np.random.default_rng(0).uniform(40, 215, (len(LABELS), 4, 4, 3)).repeat(8, axis=1).repeat(8, axis=2)
    light = rng.uniform(0.8, 1.1, (len(LABELS) * each, 1, 1, 1))
    noise = rng.normal(0, 20, (len(LABELS) * each, SIDE, SIDE, 3))
    pictures: npt.NDArray[np.uint8] = np.clip(patterns.repeat(each, axis=0) * light + noise, 0, 255).astype(np.uint8)
    return pictures


def random_weights(spec: NetSpec, seed: int) -> dict[str, npt.NDArray[np.float32]]:
    """A state dict that keeps activations of order 1, with batch norms that are not the identity."""
    rng = np.random.default_rng(seed)
    weights = {}
    for name, shape in weight_shapes(spec).items():
        if len(shape) > 1:
            array = rng.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))
        elif "bn" in name and name.endswith((".weight", ".running_var")):
            array = rng.uniform(0.7, 1.3, shape)
        else:
            array = rng.standard_normal(shape) / 10
        weights[name] = array.astype(np.float32)
    return weights
