"""From teacher to student: shallower, thinner, retrained under the teacher (arXiv 2201.10947, section 3), and packed
with all a device needs of it.

Only images of the categories that the device is to know are ever looked at.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
import safetensors.numpy
import torch

from cloud_teacher.datasets import Dataset, DatasetError
from cloud_teacher.distil import PRUNING_BATCH, CompressionError, Recipe, choose, distil, narrowed
from cloud_teacher.given_shape import GivenShape, given_shape
from cloud_teacher.progress import Report, silent
from cloud_teacher.train import Rows, accuracy
from cloud_teacher.zoo import Teacher
from transfer import bundle, tflite
from transfer.cells import usual_cells, with_cells
from transfer.graph import network_graph
from transfer.head import ClassStatistics, fit_best
from transfer.manifest import Manifest, Pair
from transfer.networks import Network, build, count_parameters, weights_of
from transfer.plan import Plan
from transfer.preprocess import normalise
from transfer.pruning import shrunk_spec
from transfer.questions import to_tensor
from transfer.spec import InputSpec, NetSpec

if TYPE_CHECKING:
    from nacl.signing import SigningKey

Images = npt.NDArray[np.uint8]
Arrays = dict[str, npt.NDArray[np.generic]]

CALIBRATION_SHARE, MOST_CALIBRATION = 0.1, 250
"""Of a category's images, and at most so many: what they settle is known well enough by then, and the student learns by
the rest."""
STATISTICS_PER_CLASS = 1000
TOLERANCE = 1e-5
"""Largest difference of the .tflite model from torch, as a share of the largest output."""
INT8_AGREEMENT = 0.9
"""Least share of calibration images that an int8 model must decide as torch does."""
PROBES = 32


@dataclass(frozen=True)
class Compressed:
    """The student in `directory`; accuracy on the test images of the categories it knows, or where there are no labels
    (`cloud_teacher.without_labels`), how often it says what its teacher says."""

    directory: Path
    manifest: Manifest
    digest: str
    accuracy: float
    parameters: int


@dataclass(frozen=True, eq=False)
class Parts:
    """Disjoint rows of the training images."""

    train: Rows
    calibration: Rows
    holdout: Rows


def divide(targets: npt.NDArray[np.int64], holdout_per_class: int) -> Parts:
    """Of every category `holdout_per_class` images (at most a fifth) for the holdout, a tenth (at most
    MOST_CALIBRATION) for calibration and the rest to train with; by hash, so the same on every run."""
    train: list[int] = []
    calibration: list[int] = []
    holdout: list[int] = []
    for target in np.unique(targets):
        members = np.flatnonzero(targets == target).tolist()
        members.sort(key=lambda row: hashlib.sha256(f"part:{row}".encode()).digest())
        held = min(holdout_per_class, len(members) // 5)
        calibrating = max(1, min(round((len(members) - held) * CALIBRATION_SHARE), MOST_CALIBRATION))
        holdout += members[:held]
        calibration += members[held : held + calibrating]
        train += members[held + calibrating :]
    return Parts(*(np.array(sorted(rows), np.int64) for rows in (train, calibration, holdout)))


def compress(
    teacher: Teacher,
    dataset: Dataset,
    recipe: Recipe,
    *,
    shape: NetSpec | None = None,
    input: InputSpec | None = None,
    out_dir: Path,
    key: SigningKey | None = None,
    cache_dir: Path | None = None,
    report: Report = silent,
) -> Compressed:
    """Make the student's bundle `out_dir`. Started again after a crash it goes on after the last finished epoch.

    shape: of the student, instead of what is left of the teacher when it is pruned; any teacher can teach it. input:
    what the student takes, where it is not what its teacher takes.

    Raises CompressionError, ShapeError, TeacherError (pruning a network that is not our own), DatasetError (unknown
    category) and BundleError.
    """
    check_new(out_dir)
    data = dataset.only(recipe.known)
    _check_fit(teacher, data)
    parts = divide(data.train_targets, recipe.holdout_per_class)
    shown = data.train_images[parts.train]
    chosen = _under(teacher, shape, shown) if shape else choose(teacher, shown, recipe)
    takes = input or teacher.input
    check_cells(teacher, chosen, recipe.cells, takes)
    student = distil(teacher, data, parts.train, chosen, recipe, cache_dir, report, input=input)
    # What it was taught about categories that it does not know stays in it, as dormant rows.
    dormant = [label for label in teacher.labels if label not in data.labels] if recipe.taught == "all" else []
    made = Made(student, chosen, takes, tuple(dormant), "understudy teacher compress")
    return pack(made, teacher, data, parts, recipe, out_dir=out_dir, key=key, report=report)


@dataclass(frozen=True, eq=False)
class Made:
    """A student that is ready to be packed: its network with all of the teacher's logits, what it keeps of the teacher,
    what it takes, which categories stay in it as dormant rows, and what made it."""

    net: Network
    chosen: Plan | GivenShape
    input: InputSpec
    dormant: tuple[str, ...]
    made_by: str


def pack(
    made: Made,
    teacher: Teacher,
    data: Dataset,
    parts: Parts,
    recipe: Recipe,
    *,
    out_dir: Path,
    key: SigningKey | None,
    report: Report,
) -> Compressed:
    """Write the bundle `out_dir` of a student that knows the categories of `data`: its class statistics are those of
    data's training images (divided into `parts`), its accuracy is that on data's test images."""
    report("pack student", 0, 3, "write the .tflite model")
    told = narrowed(made.net, [teacher.labels.index(label) for label in (*data.labels, *made.dormant)])
    height, width, cells = made.input.height, made.input.width, recipe.cells
    cells = usual_cells(told.spec, len(data.labels), height, width) if cells is None else cells
    net = build(with_cells(told.spec, cells, height, width), weights_of(told))
    model = write_model(net, made.input, data.train_images[parts.calibration], recipe.quantise)
    report("pack student", 1, 3, "class statistics")
    statistics = measure(model, net, made.input, data, parts)
    report("pack student", 2, 3, "write the bundle")
    files = {
        bundle.WEIGHTS: safetensors.numpy.save(_contiguous(weights_of(net))),
        bundle.MODEL: model,
        bundle.STATISTICS: safetensors.numpy.save(_contiguous(statistics.to_arrays())),
    }
    if len(parts.holdout):
        held: Arrays = {"images": data.train_images[parts.holdout], "targets": data.train_targets[parts.holdout]}
        files[bundle.HOLDOUT] = safetensors.numpy.save(_contiguous(held))
    manifest = bundle.save(out_dir, _manifest(made, net, teacher, data), files, key)
    right = accuracy(narrowed(net, range(len(data.labels))), data.test_images, data.test_targets, made.input)
    report("pack student", 3, 3, f"{right:.1%} on {len(data.labels)} categories")
    digest = bundle.load(out_dir, trusted=None).digest
    return Compressed(out_dir, manifest, digest, right, count_parameters(net))


def _manifest(made: Made, net: Network, teacher: Teacher, data: Dataset) -> Manifest:
    return Manifest(
        kind="student",
        name=f"{data.name}-student",
        labels=data.labels,
        dormant=made.dormant,
        input=made.input,
        net=net.spec,
        flip=data.flip,
        pairs=tuple(
            Pair(group, len(blocks) - 1, channels)
            for group, (blocks, channels) in enumerate(zip(teacher.widths, made.chosen.out, strict=True))
            if channels
        ),
        teacher=teacher.digest,
        made_by=made.made_by,
    )


def check_new(directory: Path) -> None:
    """Raises CompressionError."""
    if directory.exists():
        raise CompressionError(f"{directory} exists already; bundles are never changed: choose another directory")


def check_cells(teacher: Teacher, chosen: Plan | GivenShape, cells: int | None, input: InputSpec) -> None:
    """Raises CompressionError where the student has no earlier map of such cells; said before hours of training."""
    if not cells:
        return
    spec = chosen.spec if isinstance(chosen, GivenShape) else shrunk_spec(teacher.spec, chosen)
    try:
        with_cells(spec, cells, input.height, input.width)
    except ValueError as error:
        raise CompressionError(f"--cells {cells}: {error}") from error


def _under(teacher: Teacher, shape: NetSpec, images: Images) -> GivenShape:
    batch = images[:: max(1, len(images) // PRUNING_BATCH)][:PRUNING_BATCH]
    return given_shape(teacher, shape, to_tensor(batch, teacher.input))


def _check_fit(teacher: Teacher, data: Dataset) -> None:
    missing = [label for label in data.labels if label not in teacher.labels]
    if missing:
        raise CompressionError(f"the teacher does not know {', '.join(missing)}; it knows {', '.join(teacher.labels)}")
    size = (teacher.input.height, teacher.input.width)
    if data.train_images.shape[1:3] != size:
        raise CompressionError(f"the images are {data.train_images.shape[1:3]}, but the teacher takes {size}")
    if len(data.labels) < 2:
        raise DatasetError("a student must know at least two categories")


def write_model(net: Network, input: InputSpec, probes: Images, quantise: Literal["none", "dynamic_int8"]) -> bytes:
    """The .tflite model, checked against torch on `probes`. Raises CompressionError or MismatchError."""
    model = tflite.write(network_graph(net.spec, weights_of(net), input.height, input.width), quantise=quantise)
    probes = probes[:: max(1, len(probes) // PROBES)]
    with torch.no_grad():
        expected = net(to_tensor(probes, input))
    logits, feature = expected.logits.numpy(), expected.feature.numpy()
    images = normalise(probes, input)
    if quantise == "none":
        tflite.check(model, images, logits, feature, TOLERANCE * max(1.0, float(np.abs(logits).max())))
    else:
        agreement = float((tflite.run(model, images)[0].argmax(axis=1) == logits.argmax(axis=1)).mean())
        if agreement < INT8_AGREEMENT:
            raise CompressionError(f"the int8 model agrees on only {agreement:.0%} of the images; use --quantise none")
    return model


def measure(model: bytes, net: Network, input: InputSpec, data: Dataset, parts: Parts) -> ClassStatistics:
    """The class statistics of the features that the .tflite model itself gives, as a device will see them; their form
    and the scale of the novelty score from images that were not trained on."""

    def features(rows: Rows) -> npt.NDArray[np.float32]:
        return tflite.features(model, data.train_images[rows], input)

    few = np.concatenate(
        [parts.train[data.train_targets[parts.train] == at][:STATISTICS_PER_CLASS] for at in range(len(data.labels))]
    )
    held, targets = features(parts.calibration), data.train_targets
    fitted = fit_best(features(few), targets[few], data.labels, held, targets[parts.calibration])
    weight, bias = net.last_linear.weight.detach().numpy(), net.last_linear.bias.detach().numpy()
    return fitted.with_readout(weight, bias).with_quantiles(held)


def _contiguous(arrays: Mapping[str, npt.NDArray[np.generic]]) -> dict[str, npt.NDArray[np.generic]]:
    return {name: np.ascontiguousarray(array) for name, array in arrays.items()}
