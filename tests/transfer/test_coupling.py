from __future__ import annotations

from hypothesis import given, settings
from tiny_networks import SMALL, SPECS

from transfer.blueprint import blueprint, tensor_shapes
from transfer.coupling import Link, coupling
from transfer.operations import Conv, Flatten
from transfer.spec import NetSpec


def together(spec: NetSpec) -> set[frozenset[str]]:
    """Convolutions by the space they write."""
    drawn = blueprint(spec)
    space = coupling(drawn).space
    convolutions = [operation.name for operation in drawn.operations if isinstance(operation, Conv)]
    return {frozenset(one for one in convolutions if space[one] == space[name]) for name in convolutions}


def test_what_adds_to_one_stream_is_pruned_together() -> None:
    assert together(SMALL["resnet"]) == {
        frozenset({"conv1", "layer1.0.conv2"}),
        *(frozenset({f"layer{group}.0.conv1"}) for group in (1, 2, 3)),
        frozenset({"layer2.0.conv2"}),
        frozenset({"layer3.0.conv2"}),
    }


def test_a_learned_shortcut_writes_the_stream_it_is_added_to() -> None:
    groups = together(SMALL["imagenet"])
    assert frozenset({"conv1", "layer1.0.conv2", "layer1.1.conv2"}) in groups
    assert frozenset({"layer2.0.downsample.0", "layer2.0.conv2", "layer2.1.conv2"}) in groups


def test_a_stem_of_another_width_has_a_space_of_its_own() -> None:
    groups = together(SMALL["wide"])
    assert frozenset({"conv1"}) in groups and frozenset({"layer1.0.conv2", "layer1.1.conv2"}) in groups


def test_in_a_vgg_every_convolution_stands_alone() -> None:
    assert all(len(group) == 1 for group in together(SMALL["vgg"]))


def test_shortcuts_without_parameters_link_spaces() -> None:
    coupled = coupling(blueprint(SMALL["resnet"]))  # 4, 7 and 9 channels
    space = coupled.space
    assert coupled.links == (
        Link(space["layer1.0.relu2"], space["layer2.0.relu2"], 1, 4),
        Link(space["layer2.0.relu2"], space["layer3.0.relu2"], 1, 7),
    )
    assert coupling(blueprint(SMALL["imagenet"])).links == ()


@settings(deadline=None)
@given(SPECS)
def test_every_tensor_has_the_channels_of_its_space(spec: NetSpec) -> None:
    drawn = blueprint(spec)
    coupled = coupling(drawn)
    flat = {operation.name for operation in drawn.operations if isinstance(operation, Flatten)}
    for name, shape in tensor_shapes(drawn, 32, 32).items():
        assert name in flat or shape[0] == coupled.widths[coupled.space[name]]
    assert set(coupled.widths) == set(coupled.space.values())
