"""The file contract between daemon and trainer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.job import MAX_JSON_BYTES, Job, JobError, Result, read_job, read_result, write_job, write_result

JOB = Job(job_id="job-000001", categories=("lime",), tier="sparse", sample_ids=("a", "b"), holdout=(True, False))


def test_a_job_comes_back_as_it_was_written(tmp_path: Path) -> None:
    write_job(tmp_path, JOB)
    assert read_job(tmp_path) == JOB


def test_a_result_comes_back_and_none_is_none(tmp_path: Path) -> None:
    assert read_result(tmp_path) is None
    result = Result(ok=False, reason="too few", refused=("a",), seconds=1.5, stages={"load": 0.5})
    write_result(tmp_path, result)
    assert read_result(tmp_path) == result


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"holdout": [True]}, "1 holdout marks for 2 samples"),
        ({"categories": []}, "categories"),
        ({"categories": [""]}, "categories"),
        ({"categories": ["x" * 65]}, "categories"),
        ({"categories": [f"c{n}" for n in range(17)]}, "categories"),
        ({"categories": ["lime", "pink", "lime"]}, "'lime' is named twice"),
        ({"categories": ["li\u2028me"]}, "must be printable"),
        ({"given": ["lime"]}, "1 given labels for 2 samples"),
        ({"given": ["", "x" * 65]}, "given"),
        ({"unseen": 1}, "unseen"),
        ({"tier": "huge"}, "tier"),
        ({"views": 0}, "views"),
        ({"epochs": 10**6}, "epochs"),
        ({"batch_size": 1}, "batch_size"),
        ({"learning_rate": 0}, "learning_rate"),
        ({"threads": 0}, "threads"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**32}, "seed"),
        ({"quantise": "int4"}, "quantise"),
        ({"schema": 1}, "schema"),
        ({"extra": 1}, "extra"),
    ],
)
def test_a_field_out_of_bounds_is_named(tmp_path: Path, change: dict[str, Any], says: str) -> None:
    document = {**msgspec.to_builtins(JOB), **change}
    (tmp_path / "job.json").write_text(json.dumps(document))
    with pytest.raises(JobError, match=r"job\.json") as raised:
        read_job(tmp_path)
    assert says in str(raised.value)


def test_a_job_that_is_not_there_or_too_large_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(JobError, match=r"job\.json"):
        read_job(tmp_path)
    with (tmp_path / "job.json").open("wb") as file:
        file.truncate(MAX_JSON_BYTES + 1)
    with pytest.raises(JobError, match="larger than"):
        read_job(tmp_path)


@settings(deadline=None, max_examples=100)
@given(data=st.binary(max_size=60) | st.just(b'{"job_id":"\xff"}') | st.just(b'{"x":' + b"[" * 9))
def test_any_bytes_are_a_job_error(data: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.getbasetemp()
    (folder / "job.json").write_bytes(data)
    (folder / "result.json").write_bytes(data)
    with pytest.raises(JobError, match=r"job\.json"):
        read_job(folder)
    with pytest.raises(JobError, match=r"result\.json"):
        read_result(folder)
