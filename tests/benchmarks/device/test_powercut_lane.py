"""Which kill has to come before another."""

from __future__ import annotations

import pytest

from benchmarks.device.powercut_lane import leaves

PASSED = {
    "sync .state.json.N.tmp",
    "link .state.json.bak.tmp",
    "sync folder jobs/.job-N.tmp",
    "sync jobs/.job-N.tmp/job.json",
    "sync models/generations/N/*",
    "remove models/generations/.N.discarded.tmp/*",
}


@pytest.mark.parametrize(
    ("label", "before"),
    [
        ("remove .state.json.N.tmp", "sync .state.json.N.tmp"),
        ("remove .state.json.bak.tmp", "link .state.json.bak.tmp"),
        ("rmdir jobs/.job-N.tmp", "sync folder jobs/.job-N.tmp"),
        ("remove jobs/.job-N.tmp/job.json", "sync jobs/.job-N.tmp/job.json"),
        ("remove jobs/.job-N.tmp/model/*", ""),  # nothing that was passed leaves it
        ("remove jobs/job-N/job.json", ""),  # in every life that ends a round
        ("remove models/generations/.N.discarded.tmp/*", ""),
        ("sync .state.json.N.tmp", ""),
    ],
)
def test_a_leftover_is_left_before_it_can_be_removed(label: str, before: str) -> None:
    assert leaves(label, PASSED) == before
