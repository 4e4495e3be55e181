from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_networks import SMALL, SPECS

from transfer.blueprint import weight_shapes
from transfer.published import spec_of
from transfer.spec import NetSpec, resnet_cifar, resnet_imagenet, vgg16


@pytest.mark.parametrize(
    "spec",
    [
        *(resnet_cifar(depth, 10) for depth in (20, 32, 44, 56, 110)),
        resnet_imagenet(18, 1000),
        resnet_imagenet(34, 1000),
        vgg16(1000, norm=False),
        vgg16(1000, norm=True),
        SMALL["vgg, hidden layers"],
    ],
    ids=lambda spec: f"{spec.family}-{sum(map(len, spec.groups))}",
)
def test_a_network_is_known_by_its_arrays(spec: NetSpec) -> None:
    assert spec_of(weight_shapes(spec)) == spec


@given(SPECS.filter(lambda spec: spec.family in ("resnet", "imagenet")))
@settings(deadline=None)
def test_residual_networks_of_any_shape_are_known(spec: NetSpec) -> None:
    published_stride = 2 if spec.family == "imagenet" else 1  # no array tells of it
    assert spec_of(weight_shapes(spec)) == msgspec.structs.replace(spec, stem_stride=published_stride)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"layer1.0.conv3.weight": (4, 4, 1, 1)}, "bottleneck"),
        ({"layer1.0.conv1.weight": None}, "known are CIFAR ResNets"),
        ({"layer1.0.conv2.weight": None}, r"layer1\.0\.conv2\.weight is missing"),
        ({"layer2.0.bn1.bias": None}, r"1 arrays, the first is layer2\.0\.bn1\.bias: missing instead of \(7,\)"),
        (
            {"layer2.0.shortcut.0.weight": (7, 4, 1, 1)},
            r"layer2\.0\.shortcut\.0\.weight: \(7, 4, 1, 1\) instead of none",
        ),
        ({"layer1.0.conv1.weight": ()}, "mid is 0"),
        ({"linear.weight": None}, r"linear\.weight is missing"),
        ({"linear.weight": (5,)}, "must have 2 dimensions"),
        ({"conv1.weight": None}, r"conv1\.weight is missing"),
    ],
)
def test_what_does_not_fit_is_named(changes: dict[str, tuple[int, ...] | None], complaint: str) -> None:
    shapes = weight_shapes(SMALL["resnet"]) | changes
    with pytest.raises(ValueError, match=complaint):
        spec_of({name: shape for name, shape in shapes.items() if shape is not None})


def test_a_vgg_without_classifier_is_none_of_ours() -> None:
    shapes = {name: shape for name, shape in weight_shapes(vgg16(10, norm=False)).items() if "classifier" not in name}
    with pytest.raises(ValueError, match="without `classifier`"):
        spec_of(shapes)


NAMES = st.sampled_from(
    [
        *("layer1.0.conv1.weight", "layer1.0.conv2.weight", "layer99.7.conv1.weight", "conv1.weight"),
        *("features.0.weight", "features.1.running_mean", "features.9.weight"),
        *("fc.weight", "linear.weight", "classifier.0.weight"),
    ]
)


@given(st.dictionaries(NAMES, st.lists(st.integers(0, 5000), max_size=5).map(tuple)))
@settings(deadline=None)
def test_nonsense_is_always_a_value_error(shapes: dict[str, tuple[int, ...]]) -> None:
    with pytest.raises(ValueError):
        spec_of(shapes)
