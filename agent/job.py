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

SCHEMA = 1
MAX_JSON_BYTES = 16 * 1024 * 1024

Tier = Literal["head", "sparse", "transfer"]


class Job(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the trainer is to do. `holdout` marks samples that judge the candidate and must not train it."""

    schema: Literal[1] = 1
    job_id: str
    category: Annotated[str, Meta(min_length=1, max_length=64)]
    tier: Tier
    sample_ids: tuple[str, ...]
    holdout: tuple[bool, ...]
    views: Annotated[int, Meta(ge=1, le=64)] = 2
    epochs: Annotated[int, Meta(ge=1, le=1000)] = 12
    batch_size: Annotated[int, Meta(ge=2, le=4096)] = 64
    learning_rate: Annotated[float, Meta(gt=0, le=10)] = 3e-3
    threads: Annotated[int, Meta(ge=1, le=256)] = 1
    quantise: Literal["none", "dynamic_int8"] = "none"
    seed: Annotated[int, Meta(ge=0, le=2**32 - 1)] = 0

    def __post_init__(self) -> None:
        if len(self.sample_ids) != len(self.holdout):
            raise ValueError(f"{len(self.holdout)} holdout marks for {len(self.sample_ids)} samples")


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the trainer's standard output."""

    stage: str
    done: int
    total: int
    detail: str = ""


class Result(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How a job ended. `refused` are samples judged not to be of the category: neither trained on nor tested with.

    `tier` is the one that was used: `head` where torch cannot be imported, whatever was asked for.
    """

    schema: Literal[1] = 1
    ok: bool
    reason: str = ""
    tier: Tier = "head"
    refused: tuple[str, ...] = ()
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


_T = TypeVar("_T", Job, Result)


def _read(path: Path, kind: type[_T]) -> _T:
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise JobError(f"{path}: larger than {MAX_JSON_BYTES} bytes")
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise JobError(f"{path}: {error}") from None
