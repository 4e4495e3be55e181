"""Every verdict is counted and logged, one that may be new is durable before it is announced."""

from __future__ import annotations

import json
import os
import queue
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_world import frame, images

from agent.adapters.inference import Verdict
from agent.adapters.intake import Frame
from agent.adapters.prediction_log import PredictionLog
from agent.adapters.recorder import BATCH, WAITING_VERDICTS, Recorder
from agent.adapters.sample_store import SampleStore
from agent.adapters.thrift import Thrift
from agent.core.facts import LiveView

KNOWN = Verdict(1, "teal", 0.75, 3.25, False, False, np.ones(8, np.float32))
NOVEL = replace(KNOWN, label="plum", confidence=0.25, novelty=99.5, novel=True, kept=True)
DOUBTFUL = replace(NOVEL, novel=False)


class Recording:
    """A recorder on real files, and what it said."""

    def __init__(self, folder: Path) -> None:
        self.sparing = ""
        self.thrift = Thrift(lambda: self.sparing)
        self.log = folder / "predictions.jsonl"
        self.store = SampleStore(folder / "samples.db")
        self.said: queue.Queue[tuple[str, Any]] = queue.Queue()
        self.before_publish: Callable[[], object] = lambda: None
        self.recorder = Recorder(
            PredictionLog(self.log),
            self.store,
            publish=self._publish,
            stored=lambda: self.said.put(("stored", self.store.count())),
            live=lambda view: self.said.put(("live", view)),
            failed=lambda error: self.said.put(("failed", str(error))),
            now_utc=lambda: 1234.5678,
            thrift=self.thrift,
        )

    def _publish(self, frame: Frame, verdict: Verdict, at_utc: float) -> None:
        self.before_publish()
        self.said.put(("published", (frame.origin, verdict.label, at_utc)))

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def all_said(self, kind: str) -> list[Any]:
        return [what for said, what in list(self.said.queue) if said == kind]


@pytest.fixture
def recording(tmp_path: Path) -> Recording:
    return Recording(tmp_path)


def test_a_verdict_becomes_a_line_and_a_message(recording: Recording) -> None:
    recording.recorder.start()
    picture = frame(images("teal", 1)[0], "in/a.png")
    recording.recorder.take(picture, KNOWN)
    recording.recorder.close()
    assert recording.lines() == [
        {
            "at_utc": 1234.568,
            "origin": "in/a.png",
            "sample_id": picture.sample_id,
            "label": "teal",
            "confidence": 0.75,
            "novelty": 3.25,
            "novel": False,
            "kept": False,
            "generation": 1,
        }
    ]
    assert recording.all_said("published") == [("in/a.png", "teal", 1234.5678)]
    assert recording.all_said("stored") == [] and recording.store.count() == 0
    assert recording.all_said("live") == [LiveView(1, 0, 0.75, 1)]


@pytest.mark.spec("5.3", "5.4", "6.2")
def test_while_the_card_is_spared_all_is_served_and_told_and_nothing_written(recording: Recording) -> None:
    recording.sparing = "free disk 5 MiB is below 200 MiB"
    recording.recorder.start()
    pictures = images("lime", 3)
    recording.recorder.take(frame(pictures[0]), NOVEL)
    recording.recorder.take(frame(pictures[1]), KNOWN)
    recording.recorder.take(replace(frame(pictures[2]), given="teal"), KNOWN)
    recording.recorder.close()
    assert len(recording.all_said("published")) == 3 and recording.all_said("live")[-1].frames == 3
    assert not recording.log.exists() and recording.store.count() == 0 and recording.all_said("stored") == []
    assert recording.thrift.left_out == {"samples": 2, "predictions": 3}


@pytest.mark.parametrize("verdict", [NOVEL, DOUBTFUL])
def test_only_what_may_be_new_is_kept_with_all_that_a_job_needs(recording: Recording, verdict: Verdict) -> None:
    recording.recorder.start()
    picture = frame(images("lime", 1)[0], "b.png")
    recording.recorder.take(frame(images("teal", 1)[0]), KNOWN)
    recording.recorder.take(picture, verdict)
    recording.recorder.close()
    (sample,) = recording.store.select(10)
    assert (sample.sample_id, sample.label, sample.score, sample.at_utc) == (picture.sample_id, "plum", 99.5, 1234.5678)
    np.testing.assert_array_equal(sample.image, picture.image)
    np.testing.assert_array_equal(sample.feature, NOVEL.feature)
    assert recording.all_said("stored")[-1] == 1
    assert [line["novel"] for line in recording.lines()] == [False, verdict.novel]


def test_a_labelled_image_is_kept_though_it_is_known(recording: Recording) -> None:
    recording.recorder.start()
    picture = replace(frame(images("teal", 1)[0]), given="teal")
    recording.recorder.take(picture, KNOWN)
    recording.recorder.close()
    (sample,) = recording.store.select(10)
    assert (sample.sample_id, sample.category) == (picture.sample_id, "teal")
    (line,) = recording.lines()
    assert (line["given"], line["kept"]) == ("teal", False)
    assert recording.all_said("stored") == [1]


def test_a_label_that_comes_later_is_told_as_well(recording: Recording) -> None:
    recording.recorder.start()
    picture = frame(images("lime", 1)[0])
    for given in ("", "lime", "lime"):
        recording.recorder.take(replace(picture, given=given), NOVEL)
    recording.recorder.close()
    assert recording.store.categories() == {"lime": 1}


def test_the_same_image_again_is_logged_but_not_stored_again(recording: Recording) -> None:
    recording.recorder.start()
    picture = frame(images("lime", 1)[0])
    for _ in range(3):
        recording.recorder.take(picture, NOVEL)
    recording.recorder.close()
    assert len(recording.lines()) == 3 and recording.store.count() == 1


def test_the_live_view_is_of_the_present_generation(recording: Recording) -> None:
    recording.recorder.start()
    pictures = images("lime", 4)
    for n, verdict in enumerate([KNOWN, NOVEL, replace(NOVEL, generation=2), replace(KNOWN, generation=2)]):
        recording.recorder.take(frame(pictures[n]), verdict)
    recording.recorder.close()
    assert recording.all_said("live")[-1] == LiveView(2, 1, 0.5, 2)


def test_closing_records_what_waits(recording: Recording) -> None:
    pictures = images("teal", WAITING_VERDICTS - 1)
    for picture in pictures:
        recording.recorder.take(frame(picture), KNOWN)
    recording.recorder.start()
    recording.recorder.close()
    assert len(recording.lines()) == len(pictures)
    assert recording.all_said("live")[-1].frames == len(pictures)


@pytest.mark.spec("6.3")
def test_lines_that_wait_are_written_in_batches(recording: Recording, monkeypatch: pytest.MonkeyPatch) -> None:
    writes: list[int] = []
    write = os.write

    def counted(descriptor: int, data: bytes) -> int:
        writes.append(len(data))
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", counted)
    for picture in images("teal", 2 * BATCH - 1):  # with the end that follows them, two batches
        recording.recorder.take(frame(picture), KNOWN)
    recording.recorder.start()
    recording.recorder.close()
    assert len(recording.lines()) == 2 * BATCH - 1 and len(writes) == 2


def test_who_serves_waits_while_the_card_is_slow(recording: Recording) -> None:
    go_on = threading.Event()
    recording.before_publish = lambda: go_on.wait(10)
    recording.recorder.start()
    pictures = images("teal", 3 * WAITING_VERDICTS)

    def feed() -> None:
        for picture in pictures:
            recording.recorder.take(frame(picture), KNOWN)

    feeder = threading.Thread(target=feed)
    feeder.start()
    feeder.join(0.2)
    assert feeder.is_alive()
    go_on.set()
    feeder.join(10)
    recording.recorder.close()
    assert len(recording.lines()) == len(pictures)


def test_a_line_that_says_kept_has_its_sample_on_disk(recording: Recording, tmp_path: Path) -> None:
    """Whoever reads the log and sees `kept` may look for the sample: it is committed before the line is written."""
    recording.recorder.start()
    seen: list[tuple[int, int]] = []

    def look() -> None:
        lines = recording.log.read_text().splitlines() if recording.log.exists() else []
        seen.append((len(lines), SampleStore(tmp_path / "samples.db").count()))

    recording.before_publish = look
    for picture in images("lime", 5):
        recording.recorder.take(frame(picture), NOVEL)
    recording.recorder.close()
    assert len(seen) == 5 and all(stored > lines for lines, stored in seen)


def test_a_record_that_fails_is_reported_and_the_next_one_made(recording: Recording) -> None:
    broken = iter([ValueError("no link today")])

    def fail_once() -> None:
        for error in broken:
            raise error

    recording.before_publish = fail_once
    recording.recorder.start()
    first, second = (frame(image, f"in/{number}.png") for number, image in enumerate(images("teal", 2)))
    recording.recorder.take(first, KNOWN)
    assert recording.said.get(timeout=5) == ("failed", "no link today")
    recording.recorder.take(second, KNOWN)
    recording.recorder.close()
    assert [line["origin"] for line in recording.lines()] == ["in/1.png"]
