"""Two categories in one trigger, told apart by the teacher, or by the folders that the images came in."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from real_fleet import TWO_NEW, Fleet, Models

from cloud_teacher.datasets import Dataset
from demo.broker import Broker
from demo.feed import accuracy
from transfer import wire

pytestmark = pytest.mark.e2e


def recognised(fleet: Fleet) -> dict[str, float]:
    """The share of test images of each new category that the device names."""
    for label in TWO_NEW:
        fleet.await_served(fleet.drop(f"tested{label}", label, fleet.images(label, test=True)))
    return {label: accuracy(fleet.feed.of_stage(f"tested{label}")) for label in TWO_NEW}


@pytest.mark.timeout(240)
def test_two_categories_in_one_trigger(
    mosquitto: Broker, make_fleet: Callable[..., Fleet], models_of_two: Models, data: Dataset
) -> None:
    fleet = make_fleet(mosquitto, of=(models_of_two, data, TWO_NEW[0]))
    fleet.start_worker()
    fleet.start_agent()
    for label in TWO_NEW:
        fleet.await_served(fleet.drop(f"new{label}", label, fleet.images(label, test=False)))
    kept = sum(said.kept for label in TWO_NEW for said in fleet.feed.of_stage(f"new{label}"))
    fleet.trigger(int(kept * 0.8), categories=TWO_NEW)
    queued = fleet.hear(lambda m: isinstance(m, wire.JobUpdate))
    assert queued.categories == TWO_NEW
    judged = fleet.hear(lambda m: isinstance(m, wire.Event) and m.kind == "judged")
    assert judged.detail["tier"] == "transfer" and judged.detail["left_out"] == ""
    fleet.hear(lambda m: isinstance(m, wire.Event) and m.kind == "swapped")
    fleet.keep_feeding()
    ending = fleet.await_end()
    assert (ending.state, ending.categories, ending.left_out) == ("SUCCEEDED", TWO_NEW, ()), ending
    assert ending.detail == "'eight', 'nine' are learned"
    assert fleet.status()["labels"][-2:] == list(TWO_NEW)
    shares = recognised(fleet)
    assert all(share >= 0.7 for share in shares.values()), shares
    assert len(fleet.feed.said) == fleet.feed.dropped_in, "an image was dropped"


@pytest.mark.timeout(240)
def test_without_a_teacher_the_folders_say_which_is_which(
    mosquitto: Broker, make_fleet: Callable[..., Fleet], models_of_two: Models, data: Dataset
) -> None:
    """Also a known category is labelled: it is kept, counts for no round, and takes part in this one."""
    fleet = make_fleet(
        mosquitto,
        of=(models_of_two, data, TWO_NEW[0]),
        source={"folder_labels": True},
        privacy={"mode": "local", "consent_to_upload": False, "share_predictions": False},
        training={"tier": "head"},
    )
    fleet.start_agent()
    for label in (*TWO_NEW, "one"):
        fleet.drop_labelled(label, label, fleet.images(label, test=False)[:40])
    until_s = time.monotonic() + 60
    while (status := fleet.status())["samples"] < 120:
        assert time.monotonic() < until_s, status
        time.sleep(0.2)
    assert status["collected"] == 80
    fleet.trigger(80, categories=TWO_NEW)
    prepared = fleet.hear(lambda m: isinstance(m, wire.Event) and m.kind == "job_prepared")
    assert prepared.detail == {"samples": 120, "labelled": 120, "foreign": 0}
    fleet.hear(lambda m: isinstance(m, wire.Event) and m.kind == "swapped")
    fleet.keep_feeding()
    ending = fleet.await_end()
    assert ending.state == "SUCCEEDED", ending
    assert given_in(fleet) >= {*TWO_NEW, "one"}
    shares = recognised(fleet)
    assert all(share >= 0.7 for share in shares.values()), shares


def given_in(fleet: Fleet) -> set[Any]:
    lines = (fleet.state / "predictions.jsonl").read_text().splitlines()
    return {json.loads(line).get("given") for line in lines}
