"""The teacher's view of a job's samples: from the answers the daemon fetched, or from a teacher that came here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from agent.job import JobError
from agent.trainer.inputs import Inputs
from transfer.activations import Activations, ActivationsError, decode


@dataclass(frozen=True)
class Taught:
    """Teacher's logits [n, v, C] over `labels` and, per student group, its pooled kept channels [n, v, K, p, p] with
    the energy of the rest [n, v], in the order of the job's samples."""

    labels: tuple[str, ...]
    logits: npt.NDArray[np.float32]
    maps: dict[int, npt.NDArray[np.float32]]
    residuals: dict[int, npt.NDArray[np.float32]]


def from_answers(inputs: Inputs) -> Taught | None:
    """Join the answers in JOB/activations; None where there are none. Raises JobError where samples are missing."""
    parts = []
    for path in inputs.activation_files:
        try:
            parts.append(decode(path.read_bytes()))
        except (OSError, ActivationsError) as error:
            raise JobError(f"{path}: {error}") from None
    return _joined(inputs, parts) if parts else None


def at_home(inputs: Inputs, report: Callable[[int, int], None]) -> Taught | None:
    """Ask the teacher in JOB/teacher; None where there is none. The only part of this file that needs torch."""
    folder = inputs.teacher_folder
    if folder is None:
        return None
    from agent.trainer.home_teacher import ask

    return _joined(inputs, ask(inputs, folder, report))


def _joined(inputs: Inputs, parts: Sequence[Activations]) -> Taught:
    first = parts[0]
    if any(part.labels != first.labels or part.teacher != first.teacher for part in parts):
        raise JobError(f"{inputs.folder}: the answers come from different teachers")
    if any(_shapes(part) != _shapes(first) for part in parts):
        raise JobError(f"{inputs.folder}: the answers are to different questions")
    widths = [group[-1].out for group in inputs.model.manifest.net.groups]
    for group, maps in first.maps.items():
        if group >= len(widths) or maps.shape[2] != widths[group]:
            raise JobError(f"{inputs.folder}: the answers' maps of group {group} are not of the model's channels")
    row_of = {name: row for row, name in enumerate(name for part in parts for name in part.sample_ids)}
    missing = [name for name in inputs.job.sample_ids if name not in row_of]
    if missing:
        raise JobError(f"{inputs.folder}: the teacher's answers lack {len(missing)} samples, the first {missing[0]}")
    rows = [row_of[name] for name in inputs.job.sample_ids]
    return Taught(
        labels=first.labels,
        logits=np.concatenate([part.logits for part in parts])[rows],
        maps={g: np.concatenate([part.maps[g] for part in parts])[rows] for g in first.maps},
        residuals={g: np.concatenate([part.residuals[g] for part in parts])[rows] for g in first.residuals},
    )


def _shapes(part: Activations) -> dict[int, tuple[int, ...]]:
    """Of everything in it, without the number of samples; the logits as group -1."""
    return {-1: part.logits.shape[1:]} | {group: maps.shape[1:] for group, maps in part.maps.items()}
