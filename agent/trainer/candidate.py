"""The candidate: a whole new bundle, checked against its own network before anybody is offered it; torch-free."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import safetensors.numpy

from agent.trainer import rows
from agent.trainer.inputs import Inputs
from transfer import bundle, preprocess, tflite
from transfer.graph import network_graph
from transfer.head import ClassStatistics
from transfer.regression import PSEUDO_FEATURES
from transfer.spec import NetSpec
from transfer.unseen_rows import EXPECTED_COUNT, with_expected

Weights = Mapping[str, npt.NDArray[np.float32]]

TOLERANCE = 1e-5
"""Largest difference between the .tflite and the network on the probes, relative to the largest output (at least 1)."""
PROBES = 16
FEWEST_TO_SCALE = 100
"""Held-out images from which the rare scores of known images can be told."""
HOLDOUT_PER_CATEGORY = 50
"""Held-out images of a new category that the candidate takes along, at most."""


def grown(inputs: Inputs) -> NetSpec:
    """The model's network with a logit for every new category; one that was dormant had it already."""
    return msgspec.structs.replace(
        inputs.model.manifest.net, classes=len(inputs.labels) + len(rows.dormant_left(inputs))
    )


def statistics(
    inputs: Inputs, features: npt.NDArray[np.float32], mirrored: npt.NDArray[np.float32] | None = None
) -> ClassStatistics:
    """The model's class statistics with the new categories that have samples, and with what samples that came with a
    label say of the old ones. `features` [n, d]: of the job's samples, as the candidate's network sees them;
    `mirrored`: of the same, left to right, which a new category is known from as well."""
    grown = inputs.model.statistics()
    for index, label in enumerate(inputs.labels):
        which = inputs.of(index)
        mine, twins = features[which], None if mirrored is None else mirrored[which]
        if len(mine):
            grown = grown.merge(label, mine) if index < inputs.known else grown.with_class(label, mine, twins)
    return grown


def write(
    inputs: Inputs,
    weights: Weights,
    statistics: ClassStatistics,
    expected: tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]] | None,
) -> None:
    """Write JOB/candidate, unsigned: the daemon signs what it accepts.

    `statistics`: of the categories that have samples (see there). Those of the others follow from their rows; with any
    such category the logits decide: of 1,000 held-out training images of CIFAR-10's truck, never seen, they name 79 %,
    fused with the Gaussians 71 % (old 92.5 and 92.6).
    Held-out images of the new categories join those of the old: in the next round they are what must not be forgotten.
    `expected`: logits and features of the probes by the network itself (torch), to which the .tflite is held; None
    where there is no torch, and then the features must be those the samples came with. Raises tflite.MismatchError.
    """
    old, job = inputs.model.manifest, inputs.job
    description = f"{old.name} + {', '.join(job.categories)}"
    net = grown(inputs)
    graph = network_graph(net, weights, old.input.height, old.input.width)
    model = tflite.write(graph, description=description)
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
        model = tflite.write(graph, quantise=job.quantise, description=description)
    weight, bias = rows.names(inputs)
    for index in inputs.unsampled:
        statistics = with_expected(
            statistics, weights[weight][: len(statistics.labels)], inputs.labels[index], weights[weight][index]
        )
    statistics = _scaled(inputs, model, statistics.with_readout(weights[weight], weights[bias]))
    files = {
        bundle.WEIGHTS: _saved(weights),
        bundle.MODEL: model,
        bundle.STATISTICS: _saved(statistics.to_arrays()),
    }
    files |= _holdout(inputs)
    manifest = msgspec.structs.replace(
        old,
        labels=inputs.labels,
        dormant=rows.dormant_left(inputs),
        net=net,
        decision="logits" if statistics.counts.min() <= EXPECTED_COUNT else "fused",
        parent=inputs.model.digest,
        made_by=f"trainer, tier {job.tier}, {job.job_id}",
        files={},
    )
    folder = inputs.folder / "candidate"
    shutil.rmtree(folder, ignore_errors=True)
    bundle.save(folder, manifest, files, key=None)


def _scaled(inputs: Inputs, model: bytes, statistics: ClassStatistics) -> ClassStatistics:
    """With the novelty score scaled anew, for features and rows have moved: on the model's held-out images, as the
    candidate sees them, or where these are too few on pseudo-features, whose tails are a little too light."""
    held = inputs.model.holdout()
    if held is not None and len(held[0]) >= FEWEST_TO_SCALE:
        return statistics.with_quantiles(tflite.features(model, held[0], inputs.model.manifest.input))
    drawn = [statistics.sample(known, PSEUDO_FEATURES, seed=known) for known in range(len(statistics.labels))]
    return statistics.with_quantiles(np.concatenate(drawn))


def _holdout(inputs: Inputs) -> dict[str, bytes]:
    """The model's held-out images and those of the new categories, as the file that holds them; none where there are
    none."""
    parts = [held] if (held := inputs.model.holdout()) is not None else []
    for index in range(inputs.known, len(inputs.labels)):
        mine = np.flatnonzero(~inputs.train & (inputs.assigned == index))[:HOLDOUT_PER_CATEGORY]
        parts.append((inputs.images[mine], np.full(len(mine), index, np.int64)))
    images, targets = (np.concatenate(each) for each in zip(*parts, strict=True))
    return {bundle.HOLDOUT: _saved({"images": images, "targets": targets})} if len(images) else {}


def _saved(arrays: Mapping[str, npt.NDArray[Any]]) -> bytes:
    """safetensors writes the memory as it lies: an array of another layout would silently be read back scrambled."""
    data: bytes = safetensors.numpy.save({name: np.ascontiguousarray(array) for name, array in arrays.items()})
    return data


def probes(inputs: Inputs) -> npt.NDArray[np.uint8]:
    return inputs.images[:PROBES]
