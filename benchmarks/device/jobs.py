"""A learning round's job folder with random content, for whoever measures the trainer's time and memory."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from agent.adapters.job_folder import JobFolders
from agent.job import Tier
from benchmarks.rounds import make_job, samples_of
from transfer import activations, bundle
from transfer.activations import Activations
from transfer.manifest import Manifest

NEW = "new category"


def random_job(folder: Path, student: Path, tier: Tier, samples: int, *, epochs: int | None = None) -> Path:
    """The folder of a job of `tier` with so many samples of a category new to the bundle `student`, each given its
    label, as the daemon writes it with its shipped configuration (or other `epochs`) and one thread. In tier transfer
    the teacher has answered about all of them, at random but that it knows the category."""
    model = bundle.load(student, trusted=None)
    size, rng = model.manifest.input, np.random.default_rng(samples)
    pictures = rng.integers(0, 256, (samples, size.height, size.width, 3), np.uint8)
    ids = tuple(hashlib.sha256(picture.tobytes()).hexdigest() for picture in pictures)
    job = make_job(NEW, ids, tier, 0, 1)
    job = msgspec.structs.replace(job, given=(NEW,) * samples, epochs=epochs or job.epochs)
    folders = JobFolders(folder / tier)
    folders.make(job, samples_of(model, pictures), student)
    path = folders.path(job.job_id)
    if tier == "transfer":
        said = _answer(model.manifest, ids, job.views, rng)
        (path / "activations" / "answer.safetensors").write_bytes(activations.encode(said))
    return path


def _answer(student: Manifest, ids: tuple[str, ...], views: int, rng: np.random.Generator) -> Activations:
    """About the channels of the last block of every group."""
    lead, side = (len(ids), views), activations.POOL
    logits = rng.normal(0, 1, (*lead, len(student.labels) + 1))
    logits[..., -1] += 10
    maps: dict[int, npt.NDArray[np.float32]] = {
        group: rng.uniform(0, 1, (*lead, blocks[-1].out, side, side)).astype(np.float32)
        for group, blocks in enumerate(student.net.groups)
    }
    rest = {group: rng.uniform(0, 1, lead).astype(np.float32) for group in maps}
    return Activations(ids, (*student.labels, NEW), "0" * 64, logits.astype(np.float32), maps, rest)
