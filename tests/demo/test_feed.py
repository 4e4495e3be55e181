"""Images go in complete, what the device said comes out once, whatever the reader's timing."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from demo.feed import Background, Feed, Said, accuracy
from transfer.preprocess import decode_image

PICTURES = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), np.uint8)


@pytest.fixture
def feed(tmp_path: Path) -> Feed:
    (tmp_path / "in").mkdir()
    return Feed(tmp_path / "in", tmp_path / "predictions.jsonl")


def line(origin: str, label: str = "cat", *, novel: bool = False, generation: int = 1) -> bytes:
    told = {
        "at_utc": 1.0,
        "origin": origin,
        "label": label,
        "novel": novel,
        "kept": novel,
        "generation": generation,
        "novelty": 2.0,
    }
    return json.dumps(told).encode() + b"\n"


def until(condition: Callable[[], bool]) -> bool:
    end = time.monotonic() + 10
    while not condition() and time.monotonic() < end:
        time.sleep(0.005)
    return condition()


def test_an_image_arrives_whole_under_a_name_that_says_what_it_is(feed: Feed) -> None:
    names = [feed.put("known", picture, "grey-cat") for picture in PICTURES]
    assert names == [f"known-{n:06d}-grey-cat.png" for n in range(3)]
    for name, picture in zip(names, PICTURES, strict=True):
        np.testing.assert_array_equal(decode_image((feed.folder / name).read_bytes()), picture)
    assert feed.dropped_in == 3 and list((feed.folder.parent / "incoming").iterdir()) == []


def test_what_was_said_is_read_once_and_kept_by_stage(feed: Feed) -> None:
    assert feed.read() == []
    log = feed.folder.parent / "predictions.jsonl"
    log.write_bytes(line("known-000000-cat.png") + line("new-000001-dog.png", novel=True, generation=2))
    first, second = feed.read()
    assert (
        first == Said("known-000000-cat.png", "cat", False, False, 1)
        and second.novel
        and second.kept
        and second.generation == 2
    )
    assert feed.read() == []
    with log.open("ab") as file:
        file.write(line("known-000002-dog.png"))
    assert [said.origin for said in feed.read()] == ["known-000002-dog.png"]
    assert [said.origin for said in feed.of_stage("known")] == ["known-000000-cat.png", "known-000002-dog.png"]
    assert feed.of_stage("kno") == []


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.integers(0, 400), max_size=6))
def test_a_line_half_written_is_read_when_it_is_whole(tmp_path: Path, cuts: list[int]) -> None:
    (tmp_path / "in").mkdir(exist_ok=True)
    log = tmp_path / "predictions.jsonl"
    log.write_bytes(b"")
    feed = Feed(tmp_path / "in", log)
    whole = b"".join(line(f"known-{n:06d}-cät.png") for n in range(4))
    got: list[Said] = []
    last = 0
    for cut in [*sorted(cuts), len(whole)]:
        with log.open("ab") as file:
            file.write(whole[last:cut])
        last = max(last, min(cut, len(whole)))
        got += feed.read()
    assert [said.origin for said in got] == [f"known-{n:06d}-cät.png" for n in range(4)]


def test_in_the_background_images_keep_coming_in_turn_until_stopped(feed: Feed) -> None:
    background = Background(feed, "meanwhile", PICTURES, ["a", "b"], per_s=200)
    assert until(lambda: feed.dropped_in >= 5)
    background.stop()
    stopped_at = feed.dropped_in
    names = sorted(path.name for path in feed.folder.iterdir())
    assert len(names) == stopped_at
    assert [name.split("-")[2] for name in names[:4]] == ["a.png", "b.png", "a.png", "b.png"]
    time.sleep(0.05)
    assert feed.dropped_in == stopped_at


def test_accuracy_is_by_the_label_in_the_name() -> None:
    said = [
        Said("known-000000-grey-cat.png", "grey-cat", False, False, 1),
        Said("known-000001-dog.png", "grey-cat", False, False, 1),
        Said("known-000002-dog.png", "dog", True, True, 1),
        Said("known-000003-dog.png", "bird", False, False, 1),
    ]
    assert accuracy(said) == 0.5 and accuracy([]) == 0.0
