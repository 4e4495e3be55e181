"""What happened: past tense, facts only, each stamped `at` (monotonic seconds). The whole input of the core."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from agent.core.facts import LiveView, Reading, Scores


@dataclass(frozen=True, slots=True)
class Event:
    at: float


@dataclass(frozen=True, slots=True)
class Started(Event):
    """The process came up with this state loaded; the model store's pointer says what is really active."""

    active: int
    previous: int | None
    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Ticked(Event):
    """About a second has passed."""


@dataclass(frozen=True, slots=True)
class StopOrdered(Event):
    """SIGTERM: whatever runs is to be resumable."""


@dataclass(frozen=True, slots=True)
class LinkCame(Event):
    pass


@dataclass(frozen=True, slots=True)
class LinkWent(Event):
    reason: str


@dataclass(frozen=True, slots=True)
class TriggerArrived(Event):
    """An operator's trigger whose signature and expiry have been checked."""

    trigger_id: str
    categories: tuple[str, ...]
    samples_wanted: int
    unseen: bool = False


@dataclass(frozen=True, slots=True)
class CancelOrdered(Event):
    command_id: str


@dataclass(frozen=True, slots=True)
class RollbackOrdered(Event):
    command_id: str


@dataclass(frozen=True, slots=True)
class NovelSampleStored(Event):
    """A sample is durable; `count` in the buffer may be of new categories: those labelled as a known one are not."""

    count: int


@dataclass(frozen=True, slots=True)
class BudgetMeasured(Event):
    reading: Reading


@dataclass(frozen=True, slots=True)
class JobPrepared(Event):
    """The job folder is complete but for the teacher's answers."""

    job_id: str
    samples: int


@dataclass(frozen=True, slots=True)
class JobUnpreparable(Event):
    job_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class TeacherAnswered(Event):
    """Everything asked of the teacher lies in the job folder."""

    job_id: str


@dataclass(frozen=True, slots=True)
class TeacherRefused(Event):
    job_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class TrainerProgressed(Event):
    job_id: str
    done: int
    total: int


TrainerOutcome = Literal["finished", "failed", "killed", "out_of_memory", "illegal_instruction", "stopped", "hung"]


@dataclass(frozen=True, slots=True)
class TrainerEnded(Event):
    job_id: str
    outcome: TrainerOutcome
    detail: str = ""


@dataclass(frozen=True, slots=True)
class CandidateJudged(Event):
    """The candidate was stored as `generation` and classified the held-out images. It does not know the categories
    `left_out`: too few samples were of them."""

    job_id: str
    generation: int
    scores: Scores
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CandidateUnusable(Event):
    job_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Promoted(Event):
    """`generation` serves: the pointer is durable and frames go through it."""

    generation: int
    previous: int
    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PromotionFailed(Event):
    generation: int
    reason: str


@dataclass(frozen=True, slots=True)
class LiveMeasured(Event):
    view: LiveView


@dataclass(frozen=True, slots=True)
class RolledBack(Event):
    generation: int
    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RollbackFailed(Event):
    reason: str


ALL_EVENTS: tuple[type[Event], ...] = (
    Started,
    Ticked,
    StopOrdered,
    LinkCame,
    LinkWent,
    TriggerArrived,
    CancelOrdered,
    RollbackOrdered,
    NovelSampleStored,
    BudgetMeasured,
    JobPrepared,
    JobUnpreparable,
    TeacherAnswered,
    TeacherRefused,
    TrainerProgressed,
    TrainerEnded,
    CandidateJudged,
    CandidateUnusable,
    Promoted,
    PromotionFailed,
    LiveMeasured,
    RolledBack,
    RollbackFailed,
)
