"""The judgements, over all the numbers they may be given."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.config import Config, Gate, Privacy, Probation, Training
from agent.core.facts import LiveView, Scores
from agent.core.policy import (
    MAX_BACKOFF_S,
    ask_timeout_s,
    backoff_s,
    gate_objection,
    live_objection,
    needs_teacher,
    tier_after_crash,
    tier_for,
    tier_without_teacher,
)

GOOD = Scores(0.95, 0.94, 0.0, 0.9, 100, 20)


def amounts(low: float, high: float) -> st.SearchStrategy[float]:
    return st.floats(low, high, allow_nan=False)


# ------------------------------------------------------------------------------------------------ the gate


def test_the_gate_lets_a_good_candidate_pass() -> None:
    assert gate_objection(Gate(), GOOD) == ""


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"old_after": 0.9}, "old accuracy fell from 95.0% to 90.0%, more than 2.0% allows"),
        ({"new_after": 0.5}, "new accuracy 50.0% is below 57.0%"),
        ({"old_before": None, "old_after": None}, "no held-out images of the old"),
        ({"new_after": None}, "no held-out images of the new"),
        (
            {"hardest_hit": "cat", "hardest_before": 0.9, "hardest_after": 0.5, "hardest_count": 20},
            "accuracy of 'cat' fell from 90.0% to 50.0%, more than 25.0% allows",
        ),
        ({"weakest": "tram", "weakest_after": 0.1, "weakest_count": 10}, "of the new 'tram', 10.0%, is below 22.0%"),
    ],
)
def test_the_gate_objects_in_words(change: dict[str, Any], says: str) -> None:
    assert says in gate_objection(Gate(), replace(GOOD, **change))


def test_of_unseen_categories_there_need_be_no_image() -> None:
    unmeasured = replace(GOOD, new_before=None, new_after=None, new_count=0)
    assert gate_objection(Gate(), unmeasured) != ""
    assert gate_objection(Gate(), unmeasured, unseen=True) == ""
    assert gate_objection(Gate(), replace(unmeasured, old_after=0.5), unseen=True) != ""
    assert gate_objection(Gate(), replace(GOOD, new_after=0.1), unseen=True) != ""  # what can be measured must hold


@settings(deadline=None)
@given(gate=st.builds(Gate, max_category_drop=amounts(0, 1)), right=st.integers(1, 50), lost=st.integers(0, 50))
def test_one_old_category_may_lose_the_share_allowed_and_one_image(gate: Gate, right: int, lost: int) -> None:
    left = max(0, right - lost)
    hit = replace(GOOD, hardest_hit="cat", hardest_before=right / 50, hardest_after=left / 50, hardest_count=50)
    passed = gate_objection(gate, hit) == ""
    assert passed == (right / 50 - left / 50 <= gate.max_category_drop + 1 / 50)
    assert gate_objection(gate, replace(hit, hardest_hit="")) == ""


def test_one_image_of_fifty_is_two_percent_and_allowed() -> None:
    assert gate_objection(Gate(), Scores(47 / 50, 46 / 50, 0.0, 0.9, 50, 20)) == ""
    assert gate_objection(Gate(), Scores(47 / 50, 45 / 50, 0.0, 0.9, 50, 20)) != ""


shares = amounts(0, 1)
gates = st.builds(Gate, max_old_drop=shares, min_new=shares)


@settings(deadline=None)
@given(gate=gates, before=shares, after=shares, new=shares, count=st.integers(1, 10_000), more=shares)
def test_a_better_candidate_passes_wherever_a_worse_one_does(
    gate: Gate, before: float, after: float, new: float, count: int, more: float
) -> None:
    scores = Scores(before, after, 0.0, new, count, 10)
    better = replace(scores, old_after=min(1.0, after + more), new_after=min(1.0, new + more))
    if not gate_objection(gate, scores):
        assert gate_objection(gate, better) == ""


@settings(deadline=None)
@given(gate=gates, right=st.integers(0, 500), wrong=st.integers(0, 500), count=st.integers(1, 500), new=shares)
def test_what_passes_has_lost_at_most_the_share_allowed_and_half_an_image(
    gate: Gate, right: int, wrong: int, count: int, new: float
) -> None:
    before, after = min(right, count) / count, min(wrong, count) / count
    passed = not gate_objection(gate, Scores(before, after, None, new, count, 10))
    if before - after <= gate.max_old_drop and new >= gate.min_new * before:
        assert passed
    if passed:
        assert (before - after) * count <= gate.max_old_drop * count + 0.5 + 1e-6
        assert new >= gate.min_new * before


# ------------------------------------------------------------------------------------------------ probation


def test_probation_waits_for_enough_frames_then_judges() -> None:
    probation = Probation(min_frames=20, max_novel_share=0.6, min_confidence=0.3)
    assert live_objection(probation, LiveView(19, 19, 0.0, 2)) == ""
    assert "65% of 20 frames are novel" in live_objection(probation, LiveView(20, 13, 0.9, 2))
    assert live_objection(probation, LiveView(20, 12, 0.9, 2)) == ""
    assert "mean confidence 0.20 is below 0.30" in live_objection(probation, LiveView(20, 0, 0.2, 2))
    assert live_objection(probation, LiveView(20, 0, 0.3, 2)) == ""


@settings(deadline=None)
@given(
    probation=st.builds(Probation, min_frames=st.integers(1, 100), max_novel_share=shares, min_confidence=shares),
    frames=st.integers(0, 1000),
    novel=st.integers(0, 1000),
    confidence=shares,
)
def test_probation_never_fails_and_never_judges_early(
    probation: Probation, frames: int, novel: int, confidence: float
) -> None:
    said = live_objection(probation, LiveView(frames, min(novel, frames), confidence, 2))
    assert said == "" or frames >= probation.min_frames


# ------------------------------------------------------------------------------------------------ waiting


@settings(deadline=None)
@given(first_s=amounts(0, 3600), failures=st.integers(-5, 10_000))
def test_backoff_grows_and_is_bounded(first_s: float, failures: int) -> None:
    wait_s, next_s = backoff_s(first_s, failures), backoff_s(first_s, failures + 1)
    assert 0 <= wait_s <= next_s <= MAX_BACKOFF_S
    assert first_s == 0 or wait_s >= min(first_s, MAX_BACKOFF_S)


def test_backoff_doubles() -> None:
    assert [backoff_s(30, n) for n in range(1, 5)] == [30, 60, 120, 240]
    assert backoff_s(30, 50) == MAX_BACKOFF_S
    assert [ask_timeout_s(Training(teacher_timeout_s=5.0), asks) for asks in (1, 2, 3)] == [5, 10, 20]


# ------------------------------------------------------------------------------------------------ tiers

UPLOAD, LOCAL = Privacy(mode="upload", consent_to_upload=True), Privacy()


@pytest.mark.parametrize(
    ("asked", "privacy", "tier", "teacher"),
    [
        ("auto", UPLOAD, "transfer", True),
        ("auto", Privacy(mode="teacher_download"), "transfer", True),
        ("auto", LOCAL, "sparse", False),
        ("transfer", LOCAL, "sparse", False),
        ("sparse", UPLOAD, "sparse", False),
        ("head", UPLOAD, "head", False),
        ("head", LOCAL, "head", False),
    ],
)
def test_the_tier_follows_wish_and_privacy(asked: str, privacy: Privacy, tier: str, teacher: bool) -> None:
    config = Config(training=Training(tier=asked), privacy=privacy)  # type: ignore[arg-type]
    assert tier_for(config) == tier and needs_teacher(config, tier_for(config)) == teacher


def test_tiers_only_fall() -> None:
    assert [tier_without_teacher(tier) for tier in ("head", "sparse", "transfer")] == ["head", "sparse", "sparse"]
    assert tier_after_crash("transfer", "illegal_instruction") == "head"
    assert tier_after_crash("transfer", "killed") == "transfer"
