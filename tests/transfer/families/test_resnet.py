from __future__ import annotations

from transfer.blueprint import blueprint, weight_shapes
from transfer.operations import Add, Shortcut, sources
from transfer.spec import BlockSpec, NetSpec

SPEC = NetSpec(4, 1, ((BlockSpec(3, 4),), (BlockSpec(5, 6), BlockSpec(7, 9))), 2)


def test_only_blocks_that_change_shape_have_an_operation_for_their_shortcut() -> None:
    plan = blueprint(SPEC)
    made = {operation.name: operation for operation in plan.operations}
    shortcuts = [operation for operation in plan.operations if isinstance(operation, Shortcut)]
    assert [(s.name, s.channels_in, s.channels_out, s.stride, s.by) for s in shortcuts] == [
        ("layer2.0.shortcut", 4, 6, 2, "pixel"),
        ("layer2.1.shortcut", 6, 9, 1, "pixel"),
    ]
    assert sources(made["layer1.0.add"]) == ("layer1.0.bn2", "relu1")
    assert isinstance(made["layer2.1.add"], Add) and sources(made["layer2.1.add"])[1] == "layer2.1.shortcut"
    assert plan.blocks == (("layer1.0.relu2",), ("layer2.0.relu2", "layer2.1.relu2"))


def test_names_are_those_of_the_published_weights() -> None:
    names = list(weight_shapes(SPEC))
    assert names[:5] == ["conv1.weight", "bn1.weight", "bn1.bias", "bn1.running_mean", "bn1.running_var"]
    assert names[-2:] == ["linear.weight", "linear.bias"]
    assert weight_shapes(SPEC)["layer2.0.conv1.weight"] == (5, 4, 3, 3)
