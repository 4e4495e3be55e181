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
from agent.trainer.inputs import REFUSED, Inputs, Unteachable, read
from agent.trainer.parent import die_with_parent
from transfer.bundle import BundleError
from transfer.head import HeadError
from transfer.tflite import MismatchError

STOPPED, HELD = 75, 76

_stop = False


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m agent.trainer", description="Do the job in a folder, leave result.json."
    )
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
    finish("load")
    taught = None
    if inputs.job.tier == "transfer":
        taught = teacher.from_answers(inputs) or teacher.at_home(inputs, lambda i, n: report("ask", i, n))
        finish("ask")
    whole, (inputs, left_out) = inputs, selection.settled(inputs, selection.assign(inputs, taught))
    reason = _unteachable(inputs, taught) or _too_few(whole, inputs, left_out, taught)
    if not reason:
        try:
            _learn(inputs, taught)
        except (MismatchError, Unteachable) as error:
            reason = str(error)
    finish("learn")
    return Result(
        ok=not reason,
        reason=reason,
        tier=inputs.job.tier,
        labels=tuple(inputs.labels[k] if k >= 0 else "" for k in inputs.assigned),
        refused=_named(inputs, inputs.assigned == REFUSED),
        held_out=_named(inputs, ~inputs.train),
        left_out=left_out,
        foreign=selection.foreign(whole),
        seconds=round(time.monotonic() - began_s, 3),
        stages=stages,
    )


def _named(inputs: Inputs, which: npt.NDArray[np.bool_]) -> tuple[str, ...]:
    return tuple(name for name, is_it in zip(inputs.job.sample_ids, which, strict=True) if is_it)


def _unteachable(inputs: Inputs, taught: teacher.Taught | None) -> str:
    """Why categories that no sample is of cannot be learned from these settled inputs; "" where they can."""
    taught_about = (*inputs.model.manifest.dormant, *(taught.labels if taught is not None else ()))
    strange = ", ".join(inputs.labels[k] for k in inputs.unsampled if inputs.labels[k] not in taught_about)
    reason = "unseen categories need a teacher that knows them, or a model that was taught about them"
    return f"{reason}: neither is there for {strange} (tier {inputs.job.tier})" if strange else ""


def _too_few(whole: Inputs, inputs: Inputs, left_out: dict[str, int], taught: teacher.Taught | None) -> str:
    """Why nothing can be learned; "" where at least one category can."""
    if inputs.job.categories:
        return ""
    spoken = any(whole.job.given) or (taught is not None and set(whole.job.categories) & set(taught.labels))
    if len(left_out) > 1 and not spoken:
        names = ", ".join(left_out)
        return f"nobody said which samples are of {names}: several categories at once need a teacher or given labels"
    of = f"of {len(inputs.job.sample_ids)} samples are of"
    each = "; ".join(f"only {count} {of} {category!r}" for category, count in left_out.items())
    return f"{each}; {selection.MIN_CHOSEN} are needed"


def _learn(inputs: Inputs, taught: teacher.Taught | None) -> None:
    if inputs.job.tier == "head":
        report("head", 0, 1)
        head_tier.learn(inputs)
        report("head", 1, 1)
        return
    from agent.trainer import tiers

    try:
        tiers.learn(inputs, taught, report, lambda: _stop)
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


if __name__ == "__main__":
    sys.exit(main())
