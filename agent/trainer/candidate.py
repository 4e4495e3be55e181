"""The candidate: a whole new bundle, checked against its own network before anybody is offered it; torch-free."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import safetensors.numpy

from agent.trainer.inputs import Inputs
from transfer import bundle, preprocess, tflite
from transfer.graph import resnet_graph
from transfer.head import ClassStatistics
from transfer.spec import NetSpec

Weights = Mapping[str, npt.NDArray[np.float32]]

TOLERANCE = 1e-5
"""Largest difference between the .tflite and the network on the probes, relative to the largest output (at least 1)."""
PROBES = 16


def grown(inputs: Inputs) -> NetSpec:
    """The model's network with one class more."""
    net = inputs.model.manifest.net
    return msgspec.structs.replace(net, classes=len(inputs.model.manifest.labels) + 1)


def write(
    inputs: Inputs,
    weights: Weights,
    statistics: ClassStatistics,
    expected: tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]] | None,
) -> None:
    """Write JOB/candidate, unsigned: the daemon signs what it accepts.

    `expected`: logits and features of the probes by the network itself (torch), to which the .tflite is held; None
    where there is no torch, and then the features must be those the samples came with. Raises tflite.MismatchError.
    """
    old, job = inputs.model.manifest, inputs.job
    net = grown(inputs)
    graph = resnet_graph(net, weights, old.input.height, old.input.width)
    model = tflite.write(graph, description=f"{old.name} + {job.category}")
    images = preprocess.normalise(probes(inputs), old.input)
    if expected is not None:
        scale = max(1.0, *(float(np.abs(part).max(initial=0)) for part in expected))
        tflite.check(model, images, *expected, tolerance=TOLERANCE * scale)
    else:
        _, features = tflite.run(model, images)
        reference = inputs.features[: len(images)]
        # The served model may be quantised, so its features are only close to those of the float weights.
        if not np.allclose(features, reference, rtol=0.1, atol=0.1 * float(np.abs(reference).max())):
            raise tflite.MismatchError("the rewritten model's features are not those of the model that it extends")
    if job.quantise != "none":
        model = tflite.write(graph, quantise=job.quantise, description=f"{old.name} + {job.category}")
    files = {
        bundle.WEIGHTS: _saved(weights),
        bundle.MODEL: model,
        bundle.STATISTICS: _saved(statistics.to_arrays()),
    }
    if bundle.HOLDOUT in old.files:
        files[bundle.HOLDOUT] = inputs.model.read(bundle.HOLDOUT)
    manifest = msgspec.structs.replace(
        old,
        labels=(*old.labels, job.category),
        net=net,
        decision="fused",
        parent=inputs.model.digest,
        made_by=f"trainer, tier {job.tier}, {job.job_id}",
        files={},
    )
    folder = inputs.folder / "candidate"
    shutil.rmtree(folder, ignore_errors=True)
    bundle.save(folder, manifest, files, key=None)


def _saved(arrays: Mapping[str, npt.NDArray[Any]]) -> bytes:
    """safetensors writes the memory as it lies: an array of another layout would silently be read back scrambled."""
    data: bytes = safetensors.numpy.save({name: np.ascontiguousarray(array) for name, array in arrays.items()})
    return data


def probes(inputs: Inputs) -> npt.NDArray[np.uint8]:
    return inputs.images[:PROBES]
