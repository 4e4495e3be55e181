"""Makes, reads and removes job folders: see agent.job for what lies in them."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors.numpy

from agent.adapters.sample_store import Sample
from agent.job import Job, read_job, write_job
from transfer.durable import sync_directory, sync_tree


class JobFolders:
    """`jobs/<job id>/` under the state folder."""

    def __init__(self, root: Path) -> None:
        self._root = root
        root.mkdir(parents=True, exist_ok=True)

    def path(self, job_id: str) -> Path:
        return self._root / job_id

    def exists(self, job_id: str) -> bool:
        return (self.path(job_id) / "job.json").exists()

    def make(self, job: Job, samples: Sequence[Sample], model: Path) -> None:
        """Write the folder whole: it appears complete or not at all. `samples` in the order of `job.sample_ids`.

        Raises OSError; nothing of it is then left on a disk that may be full.
        """
        final, temporary = self.path(job.job_id), self._root / f".{job.job_id}.tmp"
        shutil.rmtree(temporary, ignore_errors=True)
        try:
            self._write(job, samples, model, temporary)
            shutil.rmtree(final, ignore_errors=True)
            temporary.rename(final)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        sync_directory(self._root)

    @staticmethod
    def _write(job: Job, samples: Sequence[Sample], model: Path, temporary: Path) -> None:
        (temporary / "activations").mkdir(parents=True)
        shutil.copytree(model, temporary / "model", copy_function=_link_or_copy)
        arrays: dict[str, npt.NDArray[Any]] = {
            "images": np.stack([sample.image for sample in samples]),
            "features": np.stack([sample.feature for sample in samples]).astype(np.float32),
        }
        (temporary / "samples.safetensors").write_bytes(safetensors.numpy.save(arrays))
        write_job(temporary, job)
        sync_tree(temporary)

    def job(self, job_id: str) -> Job:
        return read_job(self.path(job_id))

    def images(self, job_id: str) -> npt.NDArray[np.uint8]:
        arrays = safetensors.numpy.load_file(self.path(job_id) / "samples.safetensors")
        images: npt.NDArray[np.uint8] = arrays["images"]
        return images

    def remove(self, job_id: str) -> None:
        shutil.rmtree(self.path(job_id), ignore_errors=True)

    def remove_all_but(self, *job_ids: str) -> None:
        """What crashes have left behind."""
        for folder in self._root.iterdir():
            if folder.name not in job_ids:
                shutil.rmtree(folder, ignore_errors=True)


def _link_or_copy(source: str, target: str) -> None:
    """Bundles never change, so a link is as good as a copy and costs no wear; some file systems have none."""
    with contextlib.suppress(OSError):
        os.link(source, target)
        return
    shutil.copy2(source, target)
