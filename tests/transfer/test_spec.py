from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from tiny_networks import SPECS

from transfer.blueprint import macs
from transfer.spec import BlockSpec, InputSpec, NetSpec, VggSpec, resnet_cifar, resnet_imagenet, vgg16, wide_resnet


def test_a_stem_with_stride_makes_the_network_four_times_cheaper() -> None:
    ratio = macs(resnet_cifar(20, 10), 64, 64) / macs(resnet_cifar(20, 10, stem_stride=2), 64, 64)
    assert ratio == pytest.approx(4, rel=0.01)


def test_blocks_know_where_they_stand() -> None:
    spec = NetSpec(4, 1, ((BlockSpec(3, 4),), (BlockSpec(5, 6), BlockSpec(7, 9))), 2)
    first, second, third = spec.placed()
    assert (first.name, first.channels_in, first.stride, first.reshapes) == ("layer1.0", 4, 1, False)
    assert (second.name, second.channels_in, second.stride, second.reshapes) == ("layer2.0", 4, 2, True)
    assert (third.name, third.channels_in, third.stride, third.reshapes) == ("layer2.1", 6, 1, True)
    assert spec.feature_width == 9


def test_only_depths_that_exist() -> None:
    with pytest.raises(ValueError, match="depth 21"):
        resnet_cifar(21, 10)
    with pytest.raises(ValueError, match="depth 20 is not 6"):
        wide_resnet(20, 10, 10)
    with pytest.raises(ValueError, match="there are 18 and 34"):
        resnet_imagenet(50, 10)


def test_what_is_written_and_named_after_a_residual_network_stays_as_it_was() -> None:
    """Digests of bundles hold its JSON, names of checkpoints its repr: both must be found again."""
    spec = NetSpec(4, 1, ((BlockSpec(3, 8),),), 2)
    old = b'{"stem_width":4,"stem_stride":1,"groups":[[{"mid":3,"out":8}]],"classes":2,"family":"resnet"}'
    assert msgspec.json.encode(spec) == old
    assert msgspec.json.decode(old.replace(b',"family":"resnet"', b""), type=NetSpec) == spec
    shown = "NetSpec(stem_width=4, stem_stride=1, groups=((BlockSpec(mid=3, out=8),),), classes=2, family='resnet')"
    assert repr(spec) == shown


def test_details_of_a_vgg_are_a_vggs_only() -> None:
    assert vgg16(10, norm=True).details == VggSpec(norm=True, hidden=(4096, 4096))
    with pytest.raises(ValueError, match="family resnet has no details"):
        _ = resnet_cifar(8, 10).details


VGG = (
    '{"family":"vgg","stem_width":3,"stem_stride":1,"groups":[[{"mid":1,"out":1}]],"classes":2,'
    '"vgg":{"norm":true,"hidden":[]}}'
)


@pytest.mark.parametrize(
    ("spec", "complaint"),
    [
        ('{"stem_width":0,"stem_stride":1,"groups":[[{"mid":1,"out":1}]],"classes":2}', "stem_width is 0"),
        ('{"stem_width":1,"stem_stride":1,"groups":[[{"mid":1,"out":4097}]],"classes":2}', "out is 4097"),
        ('{"stem_width":1,"stem_stride":1,"groups":[],"classes":2}', "number of groups is 0"),
        ('{"stem_width":1,"stem_stride":1,"groups":[[]],"classes":2}', "blocks in a group is 0"),
        ('{"stem_width":1,"stem_stride":1,"groups":[[{"mid":1,"out":1}]],"classes":10001}', "classes is 10001"),
        ('{"stem_width":1,"stem_stride":1,"groups":[[{"mid":1,"out":1}]],"classes":2,"x":1}', "unknown field `x`"),
        ('{"stem_width":1,"stem_stride":1,"groups":[[{"mid":1,"out":1}]],"classes":2,"family":"x"}', "family"),
        ('{"stem_width":1,"stem_stride":1,"groups":[[{"mid":1,"out":1}]],"classes":2,"family":"vgg"}', "`vgg` must be"),
        ('{"stem_width":1,"stem_stride":1,"groups":[[{"mid":1,"out":1}]],"classes":2,"cells":2}', "no earlier map"),
        ('{"stem_width":1,"stem_stride":1,"groups":[[{"mid":1,"out":1}]],"classes":2,"cells":0}', "cells is 0"),
        (VGG.replace("[]}", '[1]},"cells":2'), "has no cells"),
        (VGG.replace('"vgg"', '"wide"', 1), "`vgg` must be given for family vgg and for no other"),
        (VGG.replace('"stem_width":3', '"stem_width":4'), "has no stem"),
        (VGG.replace('"mid":1', '"mid":2'), "mid must equal its out"),
        (VGG.replace("[]}", "[0]}"), "width of a hidden layer is 0"),
        (VGG.replace("[]}", "[1,1,1,1,1]}"), "number of hidden layers is 5"),
    ],
)
def test_a_spec_from_outside_is_bounded(spec: str, complaint: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=complaint):
        msgspec.json.decode(spec, type=NetSpec)


@pytest.mark.parametrize("std", [(0.0, 1.0, 1.0), (float("nan"), 1.0, 1.0), (-1.0, 1.0, 1.0)])
def test_an_input_that_would_divide_by_nothing_is_refused(std: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match="std"):
        InputSpec(32, 32, (0, 0, 0), std)


@given(SPECS)
@settings(deadline=None)
def test_a_spec_survives_json(spec: NetSpec) -> None:
    assert msgspec.json.decode(msgspec.json.encode(spec), type=NetSpec) == spec
