from __future__ import annotations

import json

import pytest

from benchmarks.device import wire
from benchmarks.device.coded_rounds import Judged
from benchmarks.device.conditions import Conditions
from benchmarks.device.findings import Findings
from benchmarks.device.wire import Asked
from cloud_teacher.zoo import Teacher
from transfer.spec import resnet_cifar, wide_resnet


def tiny(given: Teacher | None) -> tuple[Asked, Asked]:
    wide = Asked("WRN-28-10", wire.random_teacher(wide_resnet(10, 1, 10)), (8, 16, 32))
    return wide, Asked("ResNet-56", wire.random_teacher(resnet_cifar(8, 10)), (16, 32, 64))


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Findings:
    return wire.measure(Conditions(quick=True, cache=tmp_path_factory.mktemp("cache")), tiny)


def test_the_issues_figures_are_there(found: Findings) -> None:
    document = found.document()
    assert {"bytes_per_image", "vs_fp32_all_blocks", "accuracy_loss_pt"} <= set(document)
    assert set(found.targets) == {"bytes_per_image", "vs_fp32_all_blocks", "accuracy_loss_pt"}
    assert document["accuracy_loss_pt"] is None and any("accuracy_loss_pt" in note for note in found.notes)
    assert set(document["bytes_by_teacher"]) == {"WRN-28-10", "ResNet-56"}
    json.dumps(document)


def test_what_went_over_the_broker_is_more_than_the_answer_alone(found: Findings) -> None:
    rows = {(row["teacher"], row["coding"]): row for row in found.rows}
    ours, broker = rows["WRN-28-10", wire.SHIPPED], rows["WRN-28-10", f"{wire.SHIPPED}, over the broker"]
    assert ours["bytes"] < broker["bytes"] == found.figures["bytes_per_image"] < ours["bytes"] + 100
    # Two views of 8 + 16 + 32 channels, 2 x 2 values of half a byte each.
    assert ours["maps"] == 2 * 56 * 2 and ours["logits"] == 2 * 10 * 2
    assert ours["bytes"] == pytest.approx(sum(ours[part] for part in ("maps", "logits", "scales", "names")))


def test_ratios_are_to_all_blocks_in_both_views(found: Findings) -> None:
    literal = next(row for row in found.rows if row["coding"] == wire.LITERAL)
    # WRN-10-1: a block a group, of 16, 32 and 64 channels.
    assert literal["bytes"] == 2 * 4 * (16 * 32 * 32 + 32 * 16 * 16 + 64 * 8 * 8 + 10) and literal["vs_fp32"] == 1
    ratio = found.figures["bytes_per_image"] / literal["bytes"]  # type: ignore[operator]
    assert found.figures["vs_fp32_all_blocks"] == pytest.approx(ratio)
    assert found.figures["vs_fp32_one_view"] == pytest.approx(2 * ratio)


def test_accuracies_stand_beside_the_codings_of_resnet_56() -> None:
    sent = [wire.sent(asked, wire.model.images(1, 0)[:2], lambda line: None) for asked in tiny(None)]
    judged = Judged({wire.WHOLE: (92.0, 92.2), wire.SHIPPED: (91.9, 92.1)})
    found = wire.findings(sent, wire.model.images(1, 0)[:2], judged)
    assert found.figures["accuracy_loss_pt"] == pytest.approx(0.1)
    with_accuracy = {(row["teacher"], row["coding"]) for row in found.rows if row.get("accuracy_pct") is not None}
    assert with_accuracy == {("ResNet-56", wire.WHOLE), ("ResNet-56", wire.SHIPPED)}


def test_every_coding_of_the_rounds_has_a_row(found: Findings) -> None:
    assert set(wire.CODINGS) <= {row["coding"] for row in found.rows}


def test_figures_of_another_network_do_not_go_by_the_name_of_resnet_56() -> None:
    with pytest.raises(ValueError, match="ResNet-56"):
        wire.resnet_56(wire.random_teacher(resnet_cifar(8, 10)))
