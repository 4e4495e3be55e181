"""`python -m agent.trainer JOBDIR`: do the job in JOBDIR, leave result.json. See agent.job for the folder.

Exit status: 0 the result is written (it may say that the job failed), 75 stopped by SIGTERM with a checkpoint,
76 another trainer holds the job, 1 a fault; the reason is the last line of the standard error.
"""

from __future__ import annotations

import argparse
import dataclasses
import fcntl
import os
import signal
import sys
import time
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from agent.job import JobError, Progress, Result, read_result, write_result
from agent.trainer import head_tier, selection, teacher
from agent.trainer.inputs import Inputs, read
from agent.trainer.parent import die_with_parent
from transfer.bundle import BundleError
from transfer.head import HeadError
from transfer.tflite import MismatchError

STOPPED, HELD = 75, 76
MIN_CHOSEN = 4
"""Fewer training samples than this make no category."""

_stop = False


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m agent.trainer", description=__doc__.splitlines()[0])
    parser.add_argument("job", type=Path, help="the job folder")
    folder = parser.parse_args(argv).job.resolve()
    die_with_parent()
    signal.signal(signal.SIGTERM, _on_term)
    try:
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print(f"{folder}: another trainer is at work on this job", file=sys.stderr)
        return HELD
    except OSError as error:
        print(f"{folder}: {error.strerror}", file=sys.stderr)
        return 1
    try:
        if read_result(folder) is None:
            write_result(folder, run(folder))
    except _Stopped:
        return STOPPED
    except (JobError, BundleError, HeadError, OSError) as error:
        print(f"{error}", file=sys.stderr)
        return 1
    return 0


class _Stopped(Exception):
    pass


def _on_term(signum: int, frame: object) -> None:
    global _stop
    _stop = True


def report(stage: str, done: int, total: int) -> None:
    sys.stdout.write(msgspec.json.encode(Progress(stage=stage, done=done, total=total)).decode() + "\n")
    sys.stdout.flush()


def run(folder: Path) -> Result:
    """The whole job. A job that cannot succeed (too few samples, a candidate that differs from its network) is a
    Result with ok false; a broken folder raises."""
    began_s = time.monotonic()
    stages: dict[str, float] = {}

    def finish(stage: str) -> None:
        stages[stage] = round(time.monotonic() - began_s - sum(stages.values()), 3)

    inputs = read(folder)
    if inputs.job.tier != "head" and not _torch(inputs.job.threads):
        print("torch cannot be imported here: learning by the head tier", file=sys.stderr)
        inputs = dataclasses.replace(inputs, job=msgspec.structs.replace(inputs.job, tier="head"))
    job = inputs.job
    finish("load")
    taught = None
    if job.tier == "transfer":
        taught = teacher.from_answers(inputs) or teacher.at_home(inputs, lambda i, n: report("ask", i, n))
        finish("ask")
    chosen = _choose(inputs, taught)
    refused = tuple(s for s, keep in zip(job.sample_ids, chosen, strict=True) if not keep)
    count = int((chosen & inputs.train).sum())
    reason = ""
    if count < MIN_CHOSEN:
        reason = f"only {count} of {len(job.sample_ids)} samples are of {job.category!r}; {MIN_CHOSEN} are needed"
    else:
        try:
            _learn(inputs, chosen, taught)
        except MismatchError as error:
            reason = str(error)
    finish("learn")
    seconds = round(time.monotonic() - began_s, 3)
    return Result(ok=not reason, reason=reason, tier=job.tier, refused=refused, seconds=seconds, stages=stages)


def _learn(inputs: Inputs, chosen: npt.NDArray[np.bool_], taught: teacher.Taught | None) -> None:
    if inputs.job.tier == "head":
        report("head", 0, 1)
        head_tier.learn(inputs, chosen & inputs.train)
        report("head", 1, 1)
        return
    from agent.trainer import tiers

    try:
        tiers.learn(inputs, chosen, taught, report, lambda: _stop)
    except tiers.Stopped:
        raise _Stopped from None


def _torch(threads: int) -> bool:
    """Whether there is a torch; a broken one that kills the process is the daemon's to notice."""
    try:
        import torch
    except ImportError:
        return False
    torch.set_num_threads(threads)
    return True


def _choose(inputs: Inputs, taught: teacher.Taught | None) -> npt.NDArray[np.bool_]:
    """[n]: the samples that are of the category, by the teacher's word where it has one, else by their likeness."""
    if taught is not None:
        by_teacher = selection.by_teacher(taught.logits[:, 0], taught.labels, inputs.job.category)
        if by_teacher is not None:
            return by_teacher
    return selection.by_cluster(inputs.features, inputs.model.statistics())


if __name__ == "__main__":
    sys.exit(main())
