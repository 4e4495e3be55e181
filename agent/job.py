"""The file contract between the daemon and the trainer process.

The daemon writes a job folder, the trainer reads it and leaves a result. Nothing else passes between them, so a job can
be replayed by hand: `python -m agent.trainer JOBDIR`.

    job.json                what to do (`Job`)
    model/                  the active bundle, as it was when the job was made
    samples.safetensors     images uint8 [n,h,w,3], features float32 [n,d], in the order of `Job.sample_ids`
    activations/*.safetensors   the teacher's answers, one file per request (mode upload)
    teacher/                the teacher's bundle (mode teacher_download)
    lock                    held by the living trainer: at most one works on a job
    checkpoint.safetensors  the trainer's own, replaced atomically; a restarted trainer goes on from it
    candidate/              the new bundle, unsigned, complete before result.json exists
    result.json             how it ended (`Result`)

The trainer also prints one `Progress` as JSON per line on its standard output.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, TypeVar

import msgspec
from msgspec import Meta

from transfer.durable import write_atomic
from transfer.wire import Categories, check_categories

SCHEMA = 2
MAX_JSON_BYTES = 16 * 1024 * 1024

Tier = Literal["head", "sparse", "transfer"]


class Job(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the trainer is to do.

    `given`, of each sample: the label that it came with, "" where it came with none; () where none did. `holdout`
    marks samples that judge the candidate and must not train it. `unseen`: the categories may have no sample at all
    and are learned from the teacher's word on the others (the paper, section 4.2). `use_unlabelled`: samples that no
    label is known of train too, by what the teacher says of them (J1 and Jb without J3).
    """

    schema: Literal[2] = 2
    job_id: str
    categories: Categories
    tier: Tier
    sample_ids: tuple[str, ...]
    holdout: tuple[bool, ...]
    given: tuple[Annotated[str, Meta(max_length=64)], ...] = ()
    unseen: bool = False
    use_unlabelled: bool = False
    views: Annotated[int, Meta(ge=1, le=64)] = 2
    epochs: Annotated[int, Meta(ge=1, le=1000)] = 4
    batch_size: Annotated[int, Meta(ge=2, le=4096)] = 64
    learning_rate: Annotated[float, Meta(gt=0, le=10)] = 3e-3
    threads: Annotated[int, Meta(ge=1, le=256)] = 1
    quantise: Literal["none", "dynamic_int8"] = "none"
    seed: Annotated[int, Meta(ge=0, le=2**32 - 1)] = 0

    def __post_init__(self) -> None:
        check_categories(self.categories)
        if len(self.sample_ids) != len(self.holdout):
            raise ValueError(f"{len(self.holdout)} holdout marks for {len(self.sample_ids)} samples")
        if self.given and len(self.given) != len(self.sample_ids):
            raise ValueError(f"{len(self.given)} given labels for {len(self.sample_ids)} samples")


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the trainer's standard output."""

    stage: str
    done: int
    total: int
    detail: str = ""


class Result(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How a job ended.

    `tier` is the one that was used: `head` where torch cannot be imported, whatever was asked for. `labels`, in the
    order of the job's samples: the category that each was learned or held out as, "" for none. `refused` are samples
    judged to be of none: neither trained on nor tested with. `held_out` are those that judge the candidate. `left_out`:
    categories that are not in the candidate, with how many samples they had to be trained with. `foreign`: samples
    with a given label that is neither known nor being learned.
    """

    schema: Literal[2] = 2
    ok: bool
    reason: str = ""
    tier: Tier = "head"
    labels: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    held_out: tuple[str, ...] = ()
    left_out: dict[str, int] = {}
    foreign: int = 0
    seconds: float = 0.0
    stages: dict[str, float] = {}


class JobError(ValueError):
    """A job folder cannot be read; the text says which file and why."""


def write_job(folder: Path, job: Job) -> None:
    write_atomic(folder / "job.json", msgspec.json.format(msgspec.json.encode(job)))


def read_job(folder: Path) -> Job:
    return _read(folder / "job.json", Job)


def write_result(folder: Path, result: Result) -> None:
    write_atomic(folder / "result.json", msgspec.json.format(msgspec.json.encode(result)))


def read_result(folder: Path) -> Result | None:
    """The result, or None while there is none. Raises JobError where there is one that cannot be read."""
    path = folder / "result.json"
    return _read(path, Result) if path.exists() else None


def labels_of(job: Job, result: Result) -> dict[str, str]:
    """What each sample was learned or held out as, by its id; "" for nothing. Raises JobError where they do not fit."""
    if len(result.labels) != len(job.sample_ids):
        raise JobError(f"{job.job_id}: result.json has {len(result.labels)} labels for {len(job.sample_ids)} samples")
    return dict(zip(job.sample_ids, result.labels, strict=True))


_T = TypeVar("_T", Job, Result)


def _read(path: Path, kind: type[_T]) -> _T:
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise JobError(f"{path}: larger than {MAX_JSON_BYTES} bytes")
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise JobError(f"{path}: {error}") from None
