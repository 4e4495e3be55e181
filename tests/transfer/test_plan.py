from __future__ import annotations

import pytest
from hypothesis import given, settings
from prunable_networks import PRUNABLE, without_hidden
from tiny_networks import SMALL

from transfer.plan import Plan, branch, inner, last_blocks, origins, outer, shortcut, shrunk_spec, whole
from transfer.spec import BlockSpec, NetSpec, resnet_cifar


def names(spec: NetSpec, group: int, position: int) -> list[str]:
    return [operation.name for operation in branch(spec, group, position)]


def test_a_branch_leads_to_the_activation_map_of_its_block() -> None:
    part = ["conv1", "bn1", "conv2", "bn2"]
    assert names(SMALL["resnet"], 1, 0) == [f"layer2.0.{name}" for name in part]
    assert names(SMALL["imagenet"], 1, 0) == [f"layer2.0.{name}" for name in part]
    # Pre-activated: the map is behind the next block's batch norm.
    assert names(SMALL["wide"], 0, 1) == ["layer1.1.conv1", "layer1.1.bn2", "layer1.1.conv2", "layer2.0.bn1"]
    assert names(SMALL["wide"], 2, 1)[-2:] == ["layer3.1.conv2", "bn"]
    assert names(SMALL["vgg"], 1, 0) == ["features.5"]
    assert names(SMALL["vgg, normed"], 0, 1) == ["features.3", "features.4"]


def test_inner_and_outer_convolution() -> None:
    assert (inner(SMALL["wide"], 1, 1), outer(SMALL["wide"], 1, 1)) == ("layer2.1.conv1", "layer2.1.conv2")
    assert inner(SMALL["vgg"], 1, 0) == outer(SMALL["vgg"], 1, 0) == "features.5"


def test_shortcuts_of_a_groups_first_block() -> None:
    assert [operation.name for operation in shortcut(SMALL["imagenet"], 1)] == [
        "layer2.0.downsample.0",
        "layer2.0.downsample.1",
    ]
    assert [operation.name for operation in shortcut(SMALL["wide"], 0)] == ["layer1.0.shortcut"]
    assert shortcut(SMALL["imagenet"], 0) == shortcut(SMALL["vgg"], 1) == ()


def test_the_name_of_a_plan_without_a_stem_stays_what_it_was() -> None:
    assert repr(Plan(((1,),), ((0, 2),), (((1,),),))) == "Plan(blocks=((1,),), out=((0, 2),), mid=(((1,),),))"
    assert repr(Plan(((1,),), ((0, 2),), (((1,),),), (3,))).endswith("mid=(((1,),),), stem=(3,))")


def test_depth_is_at_least_one() -> None:
    assert last_blocks(SMALL["vgg"], 2) == ((0, 1), (0, 1), (1, 2), (1, 2), (1, 2))
    for nothing in (0, (1, 1, 0, 1, 1)):
        with pytest.raises(ValueError, match="0 blocks a group"):
            last_blocks(SMALL["vgg"], nothing)


def test_every_group_may_have_a_depth_of_its_own() -> None:
    assert last_blocks(SMALL["vgg"], (2, 1, 3, 1, 9)) == ((0, 1), (1,), (0, 1, 2), (2,), (0, 1, 2))
    with pytest.raises(ValueError, match="2 numbers of blocks for a network of 5 groups"):
        last_blocks(SMALL["vgg"], (2, 1))


@settings(deadline=None)
@given(PRUNABLE)
def test_all_of_it_is_the_same_network(spec: NetSpec) -> None:
    plan = whole(spec, last_blocks(spec, 64))
    assert shrunk_spec(spec, plan) == without_hidden(spec)
    assert all(
        mine == theirs for mine, theirs in origins(spec, shrunk_spec(spec, plan), plan).items() if spec.family != "vgg"
    )


def test_each_operation_has_an_origin_in_the_block_it_comes_from() -> None:
    spec = SMALL["imagenet"]
    plan = whole(spec, last_blocks(spec, 1))
    found = origins(spec, shrunk_spec(spec, plan), plan)
    assert found["layer3.0.conv1"] == "layer3.1.conv1" and found["layer3.0.bn2"] == "layer3.1.bn2"
    assert found["layer3.0.downsample.0"] == "layer3.0.downsample.0" and found["fc"] == "fc"
    spec = SMALL["vgg, hidden layers"]
    plan = whole(spec, last_blocks(spec, 1))
    assert origins(spec, shrunk_spec(spec, plan), plan)["classifier"] == "classifier.6"


def test_blocks_of_different_width_in_one_group_are_refused() -> None:
    spec = NetSpec(8, 1, ((BlockSpec(8, 8), BlockSpec(8, 12)),), 3)
    with pytest.raises(ValueError, match="group 1 differ in width"):
        whole(spec, last_blocks(spec, 1))


def test_channels_stand_where_the_shortcut_of_the_student_puts_them() -> None:
    spec = resnet_cifar(8, 3)
    assert [list(out) for out in whole(spec, ((0,),) * 3).out] == [list(range(16)), list(range(32)), list(range(64))]
