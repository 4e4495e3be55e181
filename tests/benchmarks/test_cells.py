from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.cells import Cell, Done, Stopped, failed, identity, measure, stopping, take_over
from benchmarks.measured import Measured
from benchmarks.setting import Setting, SettingError
from benchmarks.table import save
from cloud_teacher.progress import Report
from cloud_teacher.zoo import Teacher
from tests.benchmarks import toy


@pytest.fixture
def setting(knowing: Teacher, tmp_path: Path) -> Setting:
    """With a cache of its own."""
    return toy.setting("table4", knowing, tmp_path)


def changed(setting: Setting, **fields: Any) -> Setting:
    """The same but for these fields; what it has found stays."""
    other = replace(setting, **fields)
    other.__dict__.update({name: setting.__dict__[name] for name in ("plan", "dataset", "teacher")})
    return other


def counting(calls: list[str], method: str, all_: float = 50.0, **fields: Any) -> Cell:
    def run(report: Report) -> Measured:
        calls.append(method)
        return Measured(all=all_, extra={"colour": "red", "note": None, "share": 0.5})

    return Cell(method, fields.pop("seed", 0), run, **fields)


def quiet(line: str) -> None:
    pass


def test_what_was_measured_is_read_and_not_measured_again(setting: Setting) -> None:
    calls: list[str] = []
    first, stopped = measure(setting, [counting(calls, "a"), counting(calls, "a", seed=1)], quiet)
    again, _ = measure(setting, [counting(calls, "a"), counting(calls, "a", seed=1)], quiet)
    assert calls == ["a", "a"] and not stopped
    assert [one.measured for one in again] == [one.measured for one in first] != [None, None]


def test_everything_that_matters_names_a_result(setting: Setting) -> None:
    plain = counting([], "a")
    others = [counting([], "b"), counting([], "a", seed=1), counting([], "a", matters=(1,))]
    names = {identity(setting, cell) for cell in (plain, *others)}
    for fields in ({"table": "table5"}, {"scale": "paper"}, {"quick": False}):
        names.add(identity(changed(setting, **fields), plain))
    assert len(names) == 7
    assert identity(setting, counting([], "a", 12.0)) == identity(setting, plain)


def test_a_failure_is_one_row_s_and_is_tried_again(setting: Setting) -> None:
    def fail(report: Report) -> Measured:
        raise ValueError("no such thing\nand more")

    calls: list[str] = []
    notes: list[str] = []
    done, stopped = measure(setting, [Cell("bad", 0, fail), counting(calls, "good")], notes.append)
    assert failed(setting, done)
    assert [one.error for one in done] == ["ValueError: no such thing", ""] and not stopped
    assert done[1].measured is not None
    assert any("Traceback" in note for note in notes)
    other = changed(setting, only=("good",))
    shown, _ = measure(other, [counting(calls, "bad"), counting(calls, "good")], quiet)
    assert calls == ["good"] and shown[0].error == "ValueError: no such thing" and not failed(other, shown)
    again, _ = measure(setting, [counting(calls, "bad"), counting(calls, "good")], quiet)
    assert calls == ["good", "bad"] and again[0].measured is not None and not again[0].error


def test_a_failure_does_not_cost_an_earlier_result(setting: Setting) -> None:
    def fail(report: Report) -> Measured:
        raise ValueError("no")

    measure(setting, [counting([], "a")], quiet)
    done, _ = measure(changed(setting, fresh=True), [Cell("a", 0, fail)], quiet)
    assert done[0].error
    again, _ = measure(setting, [counting([], "a")], quiet)
    assert again[0].measured is not None and not again[0].error


def test_stopped_in_a_cell_keeps_what_is_done_and_goes_on(setting: Setting) -> None:
    def stop(report: Report) -> Measured:
        os.kill(os.getpid(), signal.SIGTERM)
        raise AssertionError("the signal should have ended this")

    calls: list[str] = []
    before = signal.getsignal(signal.SIGTERM)
    with stopping():
        done, stopped = measure(setting, [counting(calls, "a"), Cell("b", 0, stop), counting(calls, "c")], quiet)
    assert signal.getsignal(signal.SIGTERM) is before
    assert stopped and [one.measured is not None for one in done] == [True, False, False]
    done, stopped = measure(setting, [counting(calls, x) for x in "abc"], quiet)
    assert calls == ["a", "b", "c"] and not stopped and all(one.measured for one in done)


def test_no_cell_is_begun_when_the_minutes_are_over(setting: Setting) -> None:
    done, stopped = measure(changed(setting, minutes=-1.0), [counting([], "a")], quiet)
    assert stopped and done[0].measured is None


def test_only_what_is_asked_for_is_run_but_all_that_is_known_is_shown(setting: Setting) -> None:
    calls: list[str] = []
    known = [counting(calls, "a"), counting(calls, "b cat"), counting(calls, "c", wanted=False)]
    measure(setting, [known[0]], quiet)
    done, _ = measure(changed(setting, only=("b",)), known, quiet)
    assert calls == ["a", "b cat"]
    assert [one.measured is not None for one in done] == [True, True, False]


def test_fresh_measures_again(setting: Setting) -> None:
    calls: list[str] = []
    measure(setting, [counting(calls, "a")], quiet)
    measure(changed(setting, fresh=True), [counting(calls, "a")], quiet)
    assert calls == ["a", "a"]


@pytest.mark.parametrize("damage", [b"", b"{", b"{}", b"\xff", b'{"measured": {"all": "much"}}'])
def test_a_damaged_result_is_measured_again(setting: Setting, damage: bytes) -> None:
    calls: list[str] = []
    measure(setting, [counting(calls, "a")], quiet)
    (path,) = (setting.cache / "cells").iterdir()
    path.write_bytes(damage)
    done, _ = measure(setting, [counting(calls, "a")], quiet)
    assert calls == ["a", "a"] and done[0].measured is not None


def publish(setting: Setting, done: list[Done]) -> Path:
    return save(setting, [], done)


def test_another_machine_goes_on_with_what_was_published(setting: Setting, tmp_path: Path) -> None:
    calls: list[str] = []
    both = [counting(calls, "a", 61.5), counting(calls, "b", 62.5)]
    here = changed(setting, results=tmp_path / "results")
    first, _ = measure(here, both[:1], quiet)
    path = publish(here, first)
    elsewhere = changed(here, cache=tmp_path / "elsewhere")
    take_over(elsewhere, path)
    done, _ = measure(elsewhere, both, quiet)
    assert calls == ["a", "b"] and done[0].measured == first[0].measured
    # What changes the result is another cell: nothing published stands in for it.
    other, _ = measure(changed(elsewhere, only=("b",)), [counting(calls, "a", matters=(1,))], quiet)
    assert other[0].measured is None


def test_what_is_in_the_cache_is_newer_than_what_was_published(setting: Setting, tmp_path: Path) -> None:
    here = changed(setting, results=tmp_path / "results")
    path = publish(here, measure(here, [counting([], "a", 61.5)], quiet)[0])
    measure(changed(here, fresh=True), [counting([], "a", 70.0)], quiet)
    take_over(here, path)
    done, _ = measure(here, [counting([], "a")], quiet)
    assert done[0].measured is not None and done[0].measured.all == 70.0


@pytest.mark.parametrize(
    "damage",
    [b"", b"{", b"[]", b"\xff", b'{"cells": [{"name": "../../x", "method": "a", "seed": 0, "measured": {}}]}'],
)
def test_a_damaged_file_of_results_is_not_overwritten_by_less(setting: Setting, tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "table4-cpu.json"
    path.write_bytes(damage)
    with pytest.raises(SettingError, match=r"table4-cpu\.json cannot be read.*remove it to begin it anew"):
        take_over(setting, path)


def test_files_of_results_without_cells_or_none_at_all_give_nothing(setting: Setting, tmp_path: Path) -> None:
    take_over(setting, tmp_path / "none.json")
    (tmp_path / "old.json").write_text('{"table": "table4", "rows": []}', encoding="utf-8")
    take_over(setting, tmp_path / "old.json")
    assert not (setting.cache / "cells").exists()


def test_stopped_is_taken_for_a_failure_by_nobody() -> None:
    assert not issubclass(Stopped, Exception)
