"""What to do: imperative, plain values. The whole output of the core; the shell executes, in order.

Every command may be executed again after a crash: the shell persists the state that led to it first, and each command
names the job or generation it is about, so a repetition finds its work done or does it over.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from agent.core.facts import Scores
from agent.job import Tier


@dataclass(frozen=True, slots=True)
class Command:
    pass


@dataclass(frozen=True, slots=True)
class PrepareJob(Command):
    """Choose samples, reserve them, write the job folder."""

    job_id: str
    categories: tuple[str, ...]
    samples_wanted: int
    tier: Tier
    unseen: bool = False


@dataclass(frozen=True, slots=True)
class AskTeacher(Command):
    """Send (again) what of the job's requests is still unanswered."""

    job_id: str


@dataclass(frozen=True, slots=True)
class StartTrainer(Command):
    job_id: str
    tier: Tier


@dataclass(frozen=True, slots=True)
class PauseTrainer(Command):
    job_id: str


@dataclass(frozen=True, slots=True)
class ResumeTrainer(Command):
    job_id: str


@dataclass(frozen=True, slots=True)
class StopTrainer(Command):
    job_id: str


@dataclass(frozen=True, slots=True)
class JudgeCandidate(Command):
    """Take the trainer's candidate into the model store and classify the held-out images with it."""

    job_id: str


@dataclass(frozen=True, slots=True)
class Promote(Command):
    generation: int


@dataclass(frozen=True, slots=True)
class RollBack(Command):
    """Make generation `to` the active one; nothing to do where it is."""

    to: int


@dataclass(frozen=True, slots=True)
class CloseJob(Command):
    """The round is over: remove the job folder; keep or release its samples; forget the candidate unless promoted."""

    job_id: str
    learned: bool
    candidate: int | None


JobState = Literal["QUEUED", "IN_PROGRESS", "SUCCEEDED", "FAILED", "TIMED_OUT", "REJECTED", "CANCELED"]


@dataclass(frozen=True, slots=True)
class ReportJob(Command):
    """Tell whoever published the trigger how its round stands."""

    trigger_id: str
    categories: tuple[str, ...]
    state: JobState
    detail: str = ""
    left_out: tuple[str, ...] = ()
    scores: Scores | None = None
    generation: int | None = None


@dataclass(frozen=True, slots=True)
class ReportEvent(Command):
    kind: str
    detail: dict[str, str | int | float | bool | None] = field(default_factory=dict)
