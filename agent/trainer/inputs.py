"""What a job folder holds, read and checked once; torch-free."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import safetensors.numpy

from agent.job import Job, JobError, read_job
from transfer import bundle


@dataclass(frozen=True)
class Inputs:
    """Images uint8 [n, h, w, 3] and features float32 [n, d] in the order of `job.sample_ids`; `model` is what they
    were made with. `train` [n]: not held out for the judge."""

    folder: Path
    job: Job
    model: bundle.Bundle
    images: npt.NDArray[np.uint8]
    features: npt.NDArray[np.float32]

    @property
    def train(self) -> npt.NDArray[np.bool_]:
        return ~np.array(self.job.holdout, bool)

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
    _check_category(folder, job.category, model)
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
    return Inputs(folder, job, model, images, features)


def _check_category(folder: Path, category: str, model: bundle.Bundle) -> None:
    """Said now, not when hours of training end in a bundle that cannot be written."""
    labels, logits = model.manifest.labels, model.manifest.net.classes
    if category in labels or not category.isprintable():
        raise JobError(f"{folder / 'job.json'}: {category!r} is no new category; the model knows {', '.join(labels)}")
    if logits < len(labels):
        raise JobError(f"{folder / 'model'}: {logits} logits for {len(labels)} labels: nothing to add a row to")
