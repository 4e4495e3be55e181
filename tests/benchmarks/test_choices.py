from __future__ import annotations

from collections.abc import Callable

import numpy as np

from benchmarks import cells, choices, table
from benchmarks.baselines.choice import RATES, ROWS, Choice, chosen
from benchmarks.setting import Setting
from cloud_teacher.compress import divide

MakeSetting = Callable[..., Setting]


def test_what_is_judged_on_was_neither_trained_on_nor_is_a_test_image(make_setting: MakeSetting) -> None:
    setting = make_setting("choices")
    data = setting.dataset
    judged = choices.validation(setting, "plain")
    known = data.only(setting.known_without("plain"))
    parts = divide(known.train_targets, setting.plan.holdout_per_class)
    trained = {known.train_images[row].tobytes() for row in np.concatenate([parts.train, parts.holdout])}
    learned = choices.new_rows(setting, "plain")[: setting.plan.new_images]
    trained |= {data.train_images[row].tobytes() for row in learned}
    test = {image.tobytes() for image in data.test_images}
    assert judged.labels == data.labels and set(judged.test_targets) == {0, 1, 2, 3}
    images = {data.train_images[row].tobytes() for row in range(len(data.train_images))}
    for image in judged.test_images:
        assert image.tobytes() in images and image.tobytes() not in trained | test


def test_every_combination_is_a_row_that_the_tables_then_read(make_setting: MakeSetting) -> None:
    setting = make_setting("choices", quick=False)
    known = [cell for cell in choices.cells(setting) if cell.columns["baseline"] == "independent"]
    assert len({cell.method for cell in known}) == len(known) == 2 * len(RATES) * len(ROWS)
    tried = [cell for cell in known if cell.columns["teacher"] == "T10"]
    done, _ = cells.measure(setting, tried, lambda line: None)
    rows = table.rows(choices.TABLE, done)
    assert [one.error for one in done] == [""] * len(RATES) * len(ROWS)
    table.save(setting, rows, done)
    best = max(rows, key=lambda row: round(row["harmonic"], 4))  # as it is written
    assert chosen(setting, "independent", "T10", ()) == Choice(best["rate"], 1.0, best["row"])
