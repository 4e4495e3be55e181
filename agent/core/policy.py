"""The judgements: is the candidate good, does the promoted model hold, how long to wait. All pure."""

from __future__ import annotations

from agent.config import Config, Gate, Probation, Training
from agent.core.facts import LiveView, Scores
from agent.job import Tier

MAX_BACKOFF_S = 3600.0
ENDS: dict[str, str] = {
    "failed": "failed",
    "killed": "was killed",
    "out_of_memory": "ran out of memory",
    "illegal_instruction": "met an instruction that this processor does not have",
    "hung": "hung and was killed",
}
"""How a trainer may end badly, for a person."""


def gate_objection(gate: Gate, scores: Scores, *, unseen: bool = False) -> str:
    """Why a candidate may not be promoted; '' if it may. Without an old or a new measurement it may not; of `unseen`
    categories there need be no image to measure with."""
    if scores.old_after is None or scores.old_before is None:
        return "there are no held-out images of the old categories to judge by"
    if scores.new_after is None and not unseen:
        return "there are no held-out images of the new categories to judge by"
    # Half an image of slack: accuracies are fractions of a count, and 0.02 of 50 images is exactly one.
    slack = 0.5 / scores.old_count if scores.old_count else 0.0
    if scores.old_after < scores.old_before - gate.max_old_drop - slack:
        return (
            f"old accuracy fell from {scores.old_before:.1%} to {scores.old_after:.1%}, "
            f"more than {gate.max_old_drop:.1%} allows"
        )
    # One category can be forgotten whole, or not learned, without the others showing it. Of a few images one more or
    # less says nothing.
    fall = scores.hardest_before - scores.hardest_after
    if scores.hardest_hit and fall > gate.max_category_drop + 1 / max(1, scores.hardest_count):
        return (
            f"accuracy of {scores.hardest_hit!r} fell from {scores.hardest_before:.1%} to {scores.hardest_after:.1%}, "
            f"more than {gate.max_category_drop:.1%} allows"
        )
    # A share of the old accuracy: how well a category can be told depends on the data as much as on the round.
    least = gate.min_new * scores.old_before
    if scores.new_after is not None and scores.new_after < least:
        return f"new accuracy {scores.new_after:.1%} is below {least:.1%}"
    floor = least - gate.max_category_drop - 1 / max(1, scores.weakest_count)
    if scores.weakest and scores.weakest_after < floor:
        return f"accuracy of the new {scores.weakest!r}, {scores.weakest_after:.1%}, is below {floor:.1%}"
    return ""


def live_objection(probation: Probation, view: LiveView) -> str:
    """Why a promoted model is to be rolled back by what it has served; '' if nothing speaks against it (yet)."""
    if view.frames < probation.min_frames:
        return ""
    share = view.novel_frames / view.frames
    if share > probation.max_novel_share:
        return f"{share:.0%} of {view.frames} frames are novel to the new model, above {probation.max_novel_share:.0%}"
    if view.mean_confidence < probation.min_confidence:
        return f"mean confidence {view.mean_confidence:.2f} is below {probation.min_confidence:.2f}"
    return ""


def probe_objection(probation: Probation, misses: int, count: int) -> str:
    """Why what serves is not the model that was judged: it names `misses` of `count` held-out images otherwise."""
    if not count or misses / count <= probation.max_probe_misses:
        return ""
    return (
        f"{misses} of {count} held-out images get another label than when the model was judged, "
        f"above {probation.max_probe_misses:.0%}"
    )


def backoff_s(first_s: float, failures: int) -> float:
    """The wait after the n-th failure in a row: first_s, doubled each time, at most an hour."""
    return min(first_s * 2.0 ** max(0, min(failures, 30) - 1), MAX_BACKOFF_S)


def tier_for(config: Config) -> Tier:
    """The tier a round begins with: the paper's transfer where the teacher may be asked, else self-distillation."""
    tier: Tier = config.training.tier if config.training.tier != "auto" else "transfer"
    if tier == "transfer" and config.privacy.mode == "local":
        return "sparse"
    return tier


def needs_teacher(config: Config, tier: Tier) -> bool:
    return tier == "transfer" and config.privacy.mode != "local"


def tier_without_teacher(tier: Tier) -> Tier:
    return "sparse" if tier == "transfer" else tier


def tier_after_crash(tier: Tier, outcome: str) -> Tier:
    """A machine whose torch dies with an illegal instruction can still learn by the numpy head."""
    return "head" if outcome == "illegal_instruction" else tier


def ask_timeout_s(training: Training, asks: int) -> float:
    return backoff_s(training.teacher_timeout_s, asks)
