from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transfer.spec import BlockSpec, InputSpec, NetSpec, macs, parameters, resnet_cifar, weight_shapes


def test_published_sizes() -> None:
    # Idelbayev, pytorch_resnet_cifar10: 0.27 M and 0.85 M parameters; He et al. 2016: 4.1e7 and 1.27e8 operations.
    assert parameters(resnet_cifar(20, 10)) == 269_722
    assert parameters(resnet_cifar(56, 10)) == 853_018
    assert macs(resnet_cifar(20, 10), 32, 32) == pytest.approx(4.1e7, rel=0.02)
    assert macs(resnet_cifar(56, 10), 32, 32) == pytest.approx(1.27e8, rel=0.02)


def test_a_stem_with_stride_makes_the_network_four_times_cheaper() -> None:
    ratio = macs(resnet_cifar(20, 10), 64, 64) / macs(resnet_cifar(20, 10, stem_stride=2), 64, 64)
    assert ratio == pytest.approx(4, rel=0.01)


def test_blocks_know_where_they_stand() -> None:
    spec = NetSpec(4, 1, ((BlockSpec(3, 8),), (BlockSpec(5, 6), BlockSpec(7, 9))), 2)
    first, second, third = spec.placed()
    assert (first.name, first.channels_in, first.stride, first.padding) == ("layer1.0", 4, 1, (2, 2))
    assert (second.name, second.channels_in, second.stride, second.kept, second.padding) == (
        "layer2.0",
        8,
        2,
        6,
        (0, 0),
    )
    assert (third.name, third.channels_in, third.stride, third.padding) == ("layer2.1", 6, 1, (1, 2))
    assert spec.feature_width == 9
    assert weight_shapes(spec)["layer2.0.conv1.weight"] == (5, 8, 3, 3)


def test_only_depths_that_exist() -> None:
    with pytest.raises(ValueError, match="depth 21"):
        resnet_cifar(21, 10)


@pytest.mark.parametrize(
    ("spec", "complaint"),
    [
        ('{"stem_width":0,"stem_stride":1,"groups":[[{"mid":1,"out":1}]],"classes":2}', "stem_width is 0"),
        ('{"stem_width":1,"stem_stride":1,"groups":[[{"mid":1,"out":4097}]],"classes":2}', "out is 4097"),
        ('{"stem_width":1,"stem_stride":1,"groups":[],"classes":2}', "number of groups is 0"),
        ('{"stem_width":1,"stem_stride":1,"groups":[[]],"classes":2}', "blocks in a group is 0"),
        ('{"stem_width":1,"stem_stride":1,"groups":[[{"mid":1,"out":1}]],"classes":10001}', "classes is 10001"),
        ('{"stem_width":1,"stem_stride":1,"groups":[[{"mid":1,"out":1}]],"classes":2,"x":1}', "unknown field `x`"),
        ('{"stem_width":1,"stem_stride":1,"groups":[[{"mid":4096,"out":4096}]],"classes":2}', "number of parameters"),
    ],
)
def test_a_spec_from_outside_is_bounded(spec: str, complaint: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=complaint):
        msgspec.json.decode(spec, type=NetSpec)


@pytest.mark.parametrize("std", [(0.0, 1.0, 1.0), (float("nan"), 1.0, 1.0), (-1.0, 1.0, 1.0)])
def test_an_input_that_would_divide_by_nothing_is_refused(std: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match="std"):
        InputSpec(32, 32, (0, 0, 0), std)


@given(
    st.builds(
        NetSpec,
        st.integers(1, 64),
        st.integers(1, 2),
        st.lists(
            st.lists(st.builds(BlockSpec, st.integers(1, 64), st.integers(1, 64)), min_size=1, max_size=3).map(tuple),
            min_size=1,
            max_size=4,
        ).map(tuple),
        st.integers(1, 100),
    )
)
@settings(deadline=None)
def test_a_spec_survives_json(spec: NetSpec) -> None:
    assert msgspec.json.decode(msgspec.json.encode(spec), type=NetSpec) == spec
    for block in spec.placed():
        assert block.kept + sum(block.padding) == block.out
