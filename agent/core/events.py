"""What happened: past tense, facts only, each stamped `at` (monotonic seconds). The whole input of the core."""

from __future__ import annotations

from typing import Literal

import msgspec

from agent.core.facts import GroupView, LiveView, Reading, Scores


class Event(msgspec.Struct, frozen=True):
    at: float


class Started(Event, frozen=True):
    """The process came up with this state loaded; the model store's pointer says what is really active."""

    active: int
    previous: int | None
    labels: tuple[str, ...]
    given_up: str = ""
    """Why the start took another model than it found; "" where it did not."""


class Ticked(Event, frozen=True):
    """About a second has passed."""


class StopOrdered(Event, frozen=True):
    """SIGTERM: whatever runs is to be resumable."""


class LinkCame(Event, frozen=True):
    pass


class LinkWent(Event, frozen=True):
    reason: str


class TriggerArrived(Event, frozen=True):
    """An operator's trigger whose signature and expiry have been checked."""

    trigger_id: str
    categories: tuple[str, ...]
    samples_wanted: int
    unseen: bool = False


class CancelOrdered(Event, frozen=True):
    command_id: str


class RollbackOrdered(Event, frozen=True):
    command_id: str


class ResumeOrdered(Event, frozen=True):
    """Rounds may be begun again after too many in a row have failed."""

    command_id: str


class NovelSampleStored(Event, frozen=True):
    """A sample is durable; `count` in the buffer may be of new categories: those labelled as a known one are not."""

    count: int


class BudgetMeasured(Event, frozen=True):
    reading: Reading


class JobPrepared(Event, frozen=True):
    """The job folder is complete but for the teacher's answers."""

    job_id: str
    samples: int


class JobUnpreparable(Event, frozen=True):
    job_id: str
    reason: str


class TeacherAnswered(Event, frozen=True):
    """Everything asked of the teacher lies in the job folder."""

    job_id: str


class TeacherRefused(Event, frozen=True):
    job_id: str
    reason: str


class TrainerProgressed(Event, frozen=True):
    """A sign of life. Of the stage "train" a higher `done` is progress that a checkpoint keeps."""

    job_id: str
    done: int
    total: int
    stage: str = "train"


TrainerOutcome = Literal["finished", "failed", "killed", "out_of_memory", "illegal_instruction", "stopped", "hung"]


class TrainerEnded(Event, frozen=True):
    job_id: str
    outcome: TrainerOutcome
    detail: str = ""


class CandidateJudged(Event, frozen=True):
    """The candidate was stored as `generation` and classified the held-out images. It does not know the categories
    `left_out`: too few samples were of them."""

    job_id: str
    generation: int
    scores: Scores
    left_out: tuple[str, ...] = ()


class CandidateUnusable(Event, frozen=True):
    job_id: str
    reason: str


class Promoted(Event, frozen=True):
    """`generation` serves: the pointer is durable and frames go through it."""

    generation: int
    previous: int
    labels: tuple[str, ...]


class PromotionFailed(Event, frozen=True):
    generation: int
    reason: str


class LiveMeasured(Event, frozen=True):
    view: LiveView


class GroupMeasured(Event, frozen=True):
    view: GroupView


class Probed(Event, frozen=True):
    """`generation`, which serves, gives `misses` of `count` held-out images another label than when it was judged."""

    generation: int
    misses: int
    count: int


class RolledBack(Event, frozen=True):
    """`generation` serves again; `previous` is what could be gone back to next."""

    generation: int
    labels: tuple[str, ...]
    previous: int | None = None


class RollbackFailed(Event, frozen=True):
    """`again`: only the disk refused it, which may pass; the right model serves already."""

    reason: str
    again: bool = False


ALL_EVENTS: tuple[type[Event], ...] = (
    Started,
    Ticked,
    StopOrdered,
    LinkCame,
    LinkWent,
    TriggerArrived,
    CancelOrdered,
    RollbackOrdered,
    ResumeOrdered,
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
    GroupMeasured,
    Probed,
    RolledBack,
    RollbackFailed,
)
