"""Whole lines, bounded files, and no trouble for the one who predicts."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.adapters.prediction_log import PredictionLog


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_record_is_a_line_that_a_reader_sees_at_once(tmp_path: Path) -> None:
    log = PredictionLog(tmp_path / "state" / "p.jsonl")
    assert log.append({"label": "größe", "score": 0.25})
    assert lines(tmp_path / "state" / "p.jsonl") == [{"label": "größe", "score": 0.25}]
    assert log.append_batch([{"n": 1}, {"n": 2}])
    assert lines(tmp_path / "state" / "p.jsonl")[1:] == [{"n": 1}, {"n": 2}]
    log.close()


def test_it_goes_on_where_it_was(tmp_path: Path) -> None:
    for n in range(3):
        log = PredictionLog(tmp_path / "p.jsonl")
        log.append({"n": n})
        log.close()
    assert lines(tmp_path / "p.jsonl") == [{"n": 0}, {"n": 1}, {"n": 2}]


def test_a_torn_last_line_does_not_spoil_the_next(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_bytes(b'{"n":1}\n{"n":2,"lab')
    log = PredictionLog(tmp_path / "p.jsonl")
    log.append({"n": 3})
    assert (tmp_path / "p.jsonl").read_text().splitlines() == ['{"n":1}', '{"n":2,"lab', '{"n":3}']


def test_without_a_disk_lines_are_lost_and_counted(tmp_path: Path) -> None:
    (tmp_path / "state").write_bytes(b"a file where the folder should be")
    log = PredictionLog(tmp_path / "state" / "p.jsonl")
    assert not log.append_batch([{"n": 1}, {"n": 2}])
    assert log.lost == 2
    (tmp_path / "state").unlink()
    assert log.append({"n": 3})
    assert lines(tmp_path / "state" / "p.jsonl") == [{"n": 3}]


def test_a_full_device_loses_lines_without_raising() -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full here")
    log = PredictionLog(Path("/dev/full"))
    assert not log.append({"n": 1}) and log.lost == 1


@settings(deadline=None, max_examples=40)
@given(
    sizes=st.lists(st.integers(0, 300), max_size=60),
    keep=st.integers(0, 3),
    reopen=st.integers(1, 20),
)
def test_files_are_bounded_and_hold_the_newest_records(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], keep: int, reopen: int
) -> None:
    folder = tmp_path_factory.mktemp("log")
    path = folder / "p.jsonl"
    log = PredictionLog(path, max_bytes=1000, keep=keep)
    for n, size in enumerate(sizes):
        assert log.append({"n": n, "fill": "x" * size})
        if n % reopen == 0:
            log.close()
    log.close()
    files = [path.with_name(f"p.jsonl.{k}") for k in range(keep + 1, 0, -1)] + [path]
    assert not files[0].exists()
    assert all(file.stat().st_size <= 1000 for file in files if file.exists())
    kept = [record["n"] for file in files if file.exists() for record in lines(file)]
    assert kept == list(range(len(sizes) - len(kept), len(sizes)))
    if sum(sizes) + 30 * len(sizes) <= 1000:
        assert len(kept) == len(sizes)
