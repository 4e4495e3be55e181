from __future__ import annotations

from collections.abc import Callable

from benchmarks import cells, table, table4
from benchmarks.methods import METHODS
from benchmarks.setting import Setting

MakeSetting = Callable[..., Setting]


def test_every_method_stands_in_it_with_both_teachers(make_setting: MakeSetting) -> None:
    methods = [cell.method for cell in table4.cells(make_setting()) if cell.wanted]
    assert methods[:2] == ["default", "head"] and len(set(methods)) == len(methods)
    assert {f"{name}-t9" for name in METHODS} <= set(methods)
    assert set(METHODS) - set(methods) == {"rilod-teacher"}  # the uncompressed network must not know the category


def test_other_choices_of_the_new_category_are_made_on_demand(make_setting: MakeSetting) -> None:
    def wanted(**changes: object) -> set[str]:
        return {cell.method for cell in table4.cells(make_setting(**changes)) if cell.wanted}

    assert not any(" " in method for method in wanted())
    assert wanted(new="red") == {"default red", "default-t9 red", "joint red", "joint-t9 red"}
    assert {"default red", "default across", "lwf"} <= wanted(new="each") and "lwf red" not in wanted(new="each")
    assert "lwf-t9 red" in wanted(new="red", only=("lwf-t9",))


def test_the_mean_of_the_others_follows_from_them() -> None:
    def row(method: str, all_: float) -> table.Row:
        return {"method": method, "params": 5, "all": all_, "old": 1.0, "spread": 9.0, "seeds": 3}

    found = [row("default", 90.0), row("lwf", 50.0), row("default red", 80.0), row("default down", 82.0)]
    (mean,) = table4.others(found)
    assert (mean["method"], mean["all"], mean["seeds"], mean["params"]) == ("default others", 81.0, 3, 5)
    assert mean["spread"] == 2**0.5 and mean["new_category"] == "mean of 2 others"


def test_each_baseline_gives_a_whole_row(make_setting: MakeSetting) -> None:
    setting = make_setting()
    chosen = [cell for cell in table4.cells(setting) if cell.method in ("paper", "rilod-teacher-t9", "slda", "joint")]
    done, _ = cells.measure(setting, chosen, lambda line: None)
    rows = {row["method"]: row for row in table.rows(table4.TABLE, done)}
    assert [one.error for one in done] == [""] * 4 and len(rows) == 4
    for row in rows.values():
        assert tuple(row)[: len(table.COLUMNS)] == table.COLUMNS
        of_four = (3 * row["old"] + row["new"]) / 4  # three old categories, one new, as many images of each
        assert abs(row["all"] - of_four) < 1e-9
    assert rows["rilod-teacher-t9"]["params"] > rows["paper"]["params"]
    assert (rows["paper"]["teacher"], rows["rilod-teacher-t9"]["teacher"]) == ("T10", "T9")
