"""The state of the agent: three small orthogonal machines and one round.

Theory of operation. The **Link** is up or down. The **Standing** of the models says whether a candidate is offered or a
promoted one is still on probation; an active model exists in every standing. The **Phase** is where the one learning
round stands:

    IDLE -> COLLECTING -> AWAITING_TEACHER -> ADMITTED <-> TRAINING -> VERIFYING -> PROBATION -> IDLE

ADMITTED owns the job and waits for the budget (or a backoff); TRAINING has a living trainer, which may be paused. From
every phase a failure, a cancellation or a time-out leads back to IDLE. What is written here is persisted, so a restart
at any point goes on with the round; times (`*_at`) are monotonic and re-armed after a restart.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace

from agent.core.commands import CloseJob, ReportJob
from agent.core.facts import GroupView, Scores
from agent.job import Tier


class Phase(enum.Enum):
    IDLE = "idle"
    COLLECTING = "collecting"
    AWAITING_TEACHER = "awaiting_teacher"
    ADMITTED = "admitted"
    TRAINING = "training"
    VERIFYING = "verifying"
    PROBATION = "probation"


class Link(enum.Enum):
    DOWN = "down"
    UP = "up"


class Standing(enum.Enum):
    SETTLED = "settled"
    OFFERED = "offered"
    PROVING = "proving"


PHASE_TRANSITIONS: dict[Phase, frozenset[Phase]] = {
    Phase.IDLE: frozenset({Phase.COLLECTING, Phase.AWAITING_TEACHER}),
    Phase.COLLECTING: frozenset({Phase.AWAITING_TEACHER, Phase.IDLE}),
    Phase.AWAITING_TEACHER: frozenset({Phase.ADMITTED, Phase.IDLE}),
    Phase.ADMITTED: frozenset({Phase.TRAINING, Phase.IDLE}),
    Phase.TRAINING: frozenset({Phase.ADMITTED, Phase.VERIFYING, Phase.IDLE}),
    Phase.VERIFYING: frozenset({Phase.PROBATION, Phase.IDLE}),
    Phase.PROBATION: frozenset({Phase.IDLE}),
}
"""Where a phase may go, besides staying. IDLE goes straight to AWAITING_TEACHER when enough samples are buffered."""

LINK_TRANSITIONS: dict[Link, frozenset[Link]] = {
    Link.DOWN: frozenset({Link.UP}),
    Link.UP: frozenset({Link.DOWN}),
}

STANDING_TRANSITIONS: dict[Standing, frozenset[Standing]] = {
    Standing.SETTLED: frozenset({Standing.OFFERED}),
    Standing.OFFERED: frozenset({Standing.PROVING, Standing.SETTLED}),
    Standing.PROVING: frozenset({Standing.SETTLED}),
}


@dataclass(frozen=True, slots=True)
class Models:
    """Generations by number; `labels` are the active one's."""

    active: int
    previous: int | None = None
    candidate: int | None = None
    standing: Standing = Standing.SETTLED
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Wish:
    """A trigger that waits for its round."""

    trigger_id: str
    categories: tuple[str, ...]
    samples_wanted: int
    unseen: bool = False
    """The device may have no image of them: the teacher's word on others is to do."""

    def __str__(self) -> str:
        """The categories for a person: 'boat', 'tram'."""
        return ", ".join(repr(category) for category in self.categories)


@dataclass(frozen=True, slots=True)
class Round:
    """The one learning round under way."""

    job_id: str
    wish: Wish
    tier: Tier
    needs_teacher: bool
    prepared: bool = False
    asks: int = 0
    """How often the teacher was asked without an answer."""
    attempts: int = 0
    """How often in a row the trainer ended badly without getting further than before."""
    progress: int = 0
    heard_at: float = 0.0
    """When the trainer last showed progress of any kind, was started, or went on."""
    paused: bool = False
    paused_at: float = 0.0
    told_to_end: str = ""
    """Why the trainer was told to end while its round goes on; "" where it was not."""
    blamed: bool = False
    """It was told so for what it does itself: an attempt that failed."""
    cancelled: bool = False
    """It is to end as cancelled when the model from before it serves again."""
    scores: Scores | None = None
    left_out: tuple[str, ...] = ()
    """Categories that the candidate does not know: too few samples were of them."""
    deadline_at: float = 0.0
    """When the present phase is given up."""
    give_up_at: float = 0.0
    """When a round is given up that the budget neither admits nor lets get any further."""
    not_before_at: float = 0.0
    """Backoff: nothing is tried again before."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How the last round ended. Executed again after a restart, in case the process died before it was."""

    report: ReportJob
    close: CloseJob


@dataclass(frozen=True, slots=True)
class State:
    models: Models
    phase: Phase = Phase.IDLE
    link: Link = Link.DOWN
    round: Round | None = None
    waiting: tuple[Wish, ...] = ()
    rounds_begun: int = 0
    novel_count: int = 0
    handled_ids: tuple[str, ...] = ()
    """Ids of triggers and commands that have had their effect; the same id never has another."""
    reason: str = ""
    """Why it is (not) doing what one may expect; shown by `status`."""
    sparing: str = ""
    """Why nothing but state and reports is to be written to the card; "" where all may be."""
    noticed: GroupView | None = None
    """The last group of images that showed something new to the model that serves; None once they no longer do."""
    failures: int = 0
    """Rounds in a row that failed; a success clears it, and so does `resume`. From `training.failures` on none is
    begun, and triggers wait."""
    last_answer: ReportJob | None = None
    """To the last trigger. Given again after a restart, in case the process died before it was."""
    last_ending: Ending | None = None
    owed_rollback_to: int | None = None
    """A roll back that was ordered and has not been confirmed; ordered again after a restart."""
    owed_again_at: float = 0.0
    """When to order it again because the disk had refused it; 0 where it is under way."""


MAX_WAITING = 16
MAX_HANDLED_IDS = 512


def durable(state: State) -> State:
    """`state` without what is measured anew after a restart: not worth a write to the card."""
    current = replace(state.round, heard_at=0.0) if state.round else None
    return replace(state, novel_count=0, reason="", sparing="", noticed=None, link=Link.DOWN, round=current)
