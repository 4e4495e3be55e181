"""What a job folder holds, read and checked once; torch-free."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import safetensors.numpy

from agent.job import Job, JobError, read_job
from transfer import bundle
from transfer.spec import MAX_CLASSES

UNLABELLED, REFUSED = -1, -2
"""In `Inputs.assigned`: a sample to be trained on that nobody knows the label of; one that is not to be used at all."""


class Unteachable(ValueError):
    """A tier cannot learn from these inputs, and trying again would not help: the text becomes the result's reason."""


@dataclass(frozen=True)
class Inputs:
    """Images uint8 [n, h, w, 3] and features float32 [n, d] in the order of `job.sample_ids`; `model` is what they
    were made with.

    `assigned` int64 [n]: what each sample was found to be, as an index into `labels`, or UNLABELLED, or REFUSED. All
    are REFUSED until `selection.settled` has decided; what learns is given settled inputs, in which every category of
    `job.categories` has samples to be trained with and some that are held out, or, with `job.unseen`, perhaps none.
    """

    folder: Path
    job: Job
    model: bundle.Bundle
    images: npt.NDArray[np.uint8]
    features: npt.NDArray[np.float32]
    assigned: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))

    @property
    def known(self) -> int:
        """How many categories the model knows; the first new one has this index."""
        return len(self.model.manifest.labels)

    @property
    def labels(self) -> tuple[str, ...]:
        """Those that the model knows, then those that are being learned: the labels of the candidate."""
        return (*self.model.manifest.labels, *self.job.categories)

    @property
    def given(self) -> tuple[str, ...]:
        """The label that each sample came with, "" for none."""
        return self.job.given or ("",) * len(self.job.sample_ids)

    @property
    def train(self) -> npt.NDArray[np.bool_]:
        """[n]: not held out for the judge."""
        return ~np.array(self.job.holdout, bool)

    @property
    def used(self) -> npt.NDArray[np.bool_]:
        """[n]: the samples to train on, with a label or without."""
        return np.asarray(self.train & (self.assigned != REFUSED), bool)

    def of(self, index: int) -> npt.NDArray[np.bool_]:
        """[n]: the samples to train on that are of category labels[index]."""
        return np.asarray(self.train & (self.assigned == index), bool)

    @property
    def unsampled(self) -> list[int]:
        """The new categories, as indices into `labels`, of which no sample trains; of settled inputs they come last."""
        return [index for index in range(self.known, len(self.labels)) if not self.of(index).any()]

    @property
    def activation_files(self) -> list[Path]:
        return sorted((self.folder / "activations").glob("*.safetensors"))

    @property
    def teacher_folder(self) -> Path | None:
        folder = self.folder / "teacher"
        return folder if folder.is_dir() else None


def read(folder: Path) -> Inputs:
    """Raises JobError or transfer.bundle.BundleError naming the file at fault."""
    job = read_job(folder)
    # The daemon verified the signature when the model came in; here only the bytes are checked.
    model = bundle.load(folder / "model", trusted=None)
    _check_categories(folder, job, model)
    path = folder / "samples.safetensors"
    try:
        arrays = safetensors.numpy.load_file(path)
        images, features = arrays["images"], arrays["features"]
    except (OSError, KeyError, ValueError, TypeError, safetensors.SafetensorError) as error:
        raise JobError(f"{path}: {error}") from None
    size, count = model.manifest.input, len(job.sample_ids)
    if images.dtype != np.uint8 or images.shape != (count, size.height, size.width, 3):
        raise JobError(f"{path}: images are {images.dtype} {images.shape}, expected {count} of the model's input size")
    if features.dtype != np.float32 or features.shape != (count, model.manifest.net.feature_width):
        raise JobError(f"{path}: features are {features.dtype} {features.shape}")
    return Inputs(folder, job, model, images, features, np.full(count, REFUSED, np.int64))


def _check_categories(folder: Path, job: Job, model: bundle.Bundle) -> None:
    """Said now, not when hours of training end in a bundle that cannot be written."""
    labels, logits = model.manifest.labels, model.manifest.net.classes
    for category in job.categories:
        if category in labels:
            known = ", ".join(labels)
            raise JobError(f"{folder / 'job.json'}: {category!r} is no new category; the model knows {known}")
    if len(labels) + len(job.categories) > MAX_CLASSES:
        raise JobError(f"{folder / 'job.json'}: the model has room for {MAX_CLASSES} categories and no more")
    if logits < len(labels):
        raise JobError(f"{folder / 'model'}: {logits} logits for {len(labels)} labels: nothing to add a row to")
