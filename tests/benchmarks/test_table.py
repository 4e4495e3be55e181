from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from benchmarks.cells import Cell, Done
from benchmarks.machine import processor
from benchmarks.measured import Measured
from benchmarks.setting import Setting
from benchmarks.table import BOLD, COLUMNS, Table, document, mean, rows, save, shown, spread
from cloud_teacher.zoo import Teacher
from tests.benchmarks import toy

TABLE = Table("a title", ("teacher",))


def done(method: str, seed: int, all_: float | None, error: str = "") -> Done:
    cell = Cell(method, seed, lambda report: Measured(), columns={"teacher": "T10"})
    if all_ is None:
        return Done(cell, error=error)
    return Done(
        cell, Measured(params=1234, macs=5_600_000, old=90.0, new=80.0, all=all_, harmonic=84.7, extra={"n": seed})
    )


@pytest.fixture
def setting(knowing: Teacher, tmp_path: Path) -> Setting:
    return toy.setting("table4", knowing, tmp_path, results=tmp_path / "results", quick=False)


def test_a_row_is_the_mean_over_seeds_with_exactly_the_promised_keys_first() -> None:
    (row,) = rows(TABLE, [done("default", 0, 80.0), done("default", 1, 82.0), done("default", 2, None)])
    assert tuple(row)[: len(COLUMNS)] == COLUMNS
    assert (row["all"], row["seeds"], row["seconds"], row["teacher"], row["n"]) == (81.0, 2, None, "T10", 0.5)
    assert row["spread"] == pytest.approx(2**0.5)
    assert (row["params"], type(row["params"])) == (1234, int)


def test_rows_come_in_the_order_of_the_cells_without_what_was_not_run() -> None:
    found = rows(TABLE, [done("b", 0, 1.0), done("nothing", 0, None), done("a", 0, 2.0), done("b", 1, 3.0)])
    assert [row["method"] for row in found] == ["b", "a"]


def test_a_failure_is_a_row() -> None:
    found = rows(TABLE, [done("a", 0, None, "ValueError: no"), done("a", 1, 50.0)])
    assert found[0]["error"] == "ValueError: no" and found[0]["all"] == 50.0
    (alone,) = rows(TABLE, [done("a", 0, None, "ValueError: no")])
    assert alone["all"] is None and alone["seeds"] == 0


def test_a_table_adds_rows_that_follow() -> None:
    table = Table("t", summary=lambda found: [found[0] | {"method": "sum", "all": sum(r["all"] for r in found)}])
    assert [row["all"] for row in rows(table, [done("a", 0, 1.0), done("b", 0, 2.0)])] == [1.0, 2.0, 3.0]


def test_mean_and_spread_of_little() -> None:
    assert mean([]) is None and mean([None, "text", "other"]) == "text" and mean([1, 2]) == 1.5
    assert spread([5.0]) is None and spread([None, None]) is None


def test_the_shown_table_is_aligned_and_coloured_on_demand() -> None:
    found = rows(TABLE, [done("default", 0, 80.0), done("a", 0, 90.25)])
    plain = shown(TABLE, found, colour=False).splitlines()
    assert plain[0] == "a title" and "\x1b" not in "".join(plain)
    assert plain[2].split()[:3] == ["method", "params", "macs"] and "spread" not in plain[2]
    assert plain[4].split()[:5] == ["a", "1.23", "k", "5.6", "M"]
    ends = [line.rindex(value) + len(value) for line, value in zip(plain[2:], ("all", "80.00", "90.25"), strict=True)]
    assert len(set(ends)) == 1
    coloured = shown(TABLE, found, colour=True).splitlines()
    assert [line.startswith(BOLD) for line in coloured[2:]] == [True, False, True]


def test_the_file_says_how_it_was_measured_and_names_no_place(setting: Setting) -> None:
    measured = [done("default", 0, 80.123456), done("default", 1, 82.0), done("slow", 0, None)]
    found = rows(TABLE, measured)
    path = save(setting, found, measured)
    assert path.name == "table4-cpu.json"
    text = path.read_text(encoding="utf-8")
    content = json.loads(text)
    assert {key: content[key] for key in ("table", "scale", "rows")} == document(setting, found)
    assert content["rows"][0]["all"] == 81.0617
    assert [(cell["method"], cell["seed"]) for cell in content["cells"]] == [("default", 0), ("default", 1)]
    conditions = content["conditions"]
    assert conditions["quick"] is False and conditions["teacher"] == setting.teacher.digest
    assert conditions["processor"] == processor() != "" and re.fullmatch(r"\d{4}-\d\d-\d\d", conditions["date"])
    for place in (setting.cache, setting.results, Path.home(), Path.cwd()):
        assert str(place) not in text


def test_what_only_an_earlier_version_measured_stays_and_is_dated(setting: Setting) -> None:
    before = [done("default", 0, 80.0), done("slow", 0, 70.0), done("gone", 0, 60.0)]
    path = save(setting, rows(TABLE, before), before)
    earlier = json.loads(path.read_text(encoding="utf-8"))
    earlier["conditions"]["date"] = "2020-02-02"
    path.write_text(json.dumps(earlier), encoding="utf-8")
    # This version measures `default` anew, knows `slow` still, and has no `gone` any more.
    for _ in range(2):
        now = [done("slow", 0, None), done("default", 0, 81.0)]
        save(setting, rows(TABLE, now), now)
        content = json.loads(path.read_text(encoding="utf-8"))
        assert [(row["method"], row["all"], row.get("outdated")) for row in content["rows"]] == [
            ("slow", 70.0, "2020-02-02"),
            ("default", 81.0, None),
        ]
        assert [cell["method"] for cell in content["cells"]] == ["default"]


def test_where_nothing_of_this_version_is_measured_all_rows_are_dated_and_keep_their_conditions(
    setting: Setting,
) -> None:
    before = [done("default", 0, 80.0)]
    path = save(setting, rows(TABLE, before), before)
    earlier = json.loads(path.read_text(encoding="utf-8"))
    earlier["conditions"] |= {"date": "2020-02-02", "processor": "another"}
    path.write_text(json.dumps(earlier), encoding="utf-8")
    now = [done("default", 0, None)]
    save(setting, rows(TABLE, now), now)
    content = json.loads(path.read_text(encoding="utf-8"))
    assert content["conditions"] == earlier["conditions"] and content["cells"] == []
    assert [(row["all"], row["outdated"]) for row in content["rows"]] == [(80.0, "2020-02-02")]
