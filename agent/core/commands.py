"""What to do: imperative, plain values. The whole output of the core; the shell executes, in order.

Every command may be executed again after a crash: the shell persists the state that led to it first, and each command
names the job or generation it is about, so a repetition finds its work done or does it over.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from agent.core.facts import Scores
from agent.job import Tier


class Command(msgspec.Struct, frozen=True):
    pass


class PrepareJob(Command, frozen=True):
    """Choose samples, reserve them, write the job folder."""

    job_id: str
    categories: tuple[str, ...]
    samples_wanted: int
    tier: Tier
    unseen: bool = False


class AskTeacher(Command, frozen=True):
    """Send (again) what of the job's requests is still unanswered."""

    job_id: str


class StartTrainer(Command, frozen=True):
    job_id: str
    tier: Tier


class PauseTrainer(Command, frozen=True):
    job_id: str


class ResumeTrainer(Command, frozen=True):
    job_id: str


class StopTrainer(Command, frozen=True):
    """Ask it to end, with a checkpoint."""

    job_id: str


class KillTrainer(Command, frozen=True):
    """It hangs: end it at once; its end is reported as `hung`."""

    job_id: str


class JudgeCandidate(Command, frozen=True):
    """Take the trainer's candidate into the model store and classify the held-out images with it."""

    job_id: str


class Promote(Command, frozen=True):
    generation: int


class RollBack(Command, frozen=True):
    """Make generation `to` the active one; nothing to do where it is."""

    to: int


class CloseJob(Command, frozen=True):
    """The round is over: remove the job folder; keep or release its samples; forget the candidate unless promoted."""

    job_id: str
    learned: bool
    candidate: int | None


JobState = Literal["QUEUED", "IN_PROGRESS", "SUCCEEDED", "FAILED", "TIMED_OUT", "REJECTED", "CANCELED"]


class ReportJob(Command, frozen=True):
    """Tell whoever published the trigger how its round stands."""

    trigger_id: str
    categories: tuple[str, ...]
    state: JobState
    detail: str = ""
    left_out: tuple[str, ...] = ()
    scores: Scores | None = None
    generation: int | None = None


class ReportEvent(Command, frozen=True):
    kind: str
    detail: dict[str, str | int | float | bool | None] = {}
