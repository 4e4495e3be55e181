from __future__ import annotations

from transfer.blueprint import blueprint
from transfer.operations import Norm, Relu, Shortcut, sources
from transfer.spec import wide_resnet


def test_the_activation_map_of_a_block_is_what_the_next_one_reads() -> None:
    plan = blueprint(wide_resnet(16, 1, 10))
    made = {operation.name: operation for operation in plan.operations}
    assert plan.blocks == (
        ("layer1.1.relu1", "layer2.0.relu1"),
        ("layer2.1.relu1", "layer3.0.relu1"),
        ("layer3.1.relu1", "relu"),
    )
    names = {"layer1.0": "layer1.1.relu1", "layer1.1": "layer2.0.relu1", "layer3.1": "relu"}
    for before, name in names.items():
        relu = made[name]
        assert isinstance(relu, Relu)
        norm = made[relu.source]
        assert isinstance(norm, Norm) and norm.source == f"{before}.add"


def test_shortcuts_have_no_parameters_and_pass_by_the_batch_norm() -> None:
    plan = blueprint(wide_resnet(10, 2, 10))
    shortcuts = [operation for operation in plan.operations if isinstance(operation, Shortcut)]
    assert [(s.source, s.channels_in, s.channels_out, s.stride, s.by) for s in shortcuts] == [
        ("conv1", 16, 32, 1, "mean"),
        ("layer1.0.add", 32, 64, 2, "mean"),
        ("layer2.0.add", 64, 128, 2, "mean"),
    ]


def test_a_block_that_keeps_its_shape_is_added_to_its_input() -> None:
    made = {operation.name: operation for operation in blueprint(wide_resnet(16, 1, 10)).operations}
    assert sources(made["layer2.1.add"]) == ("layer2.1.conv2", "layer2.0.add")
