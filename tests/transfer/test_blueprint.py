from __future__ import annotations

import pytest
from hypothesis import given, settings
from tiny_networks import SMALL, SPECS

from transfer.blueprint import blueprint, last_convolution, macs, parameters, tensor_shapes, weight_shapes
from transfer.operations import INPUT, Conv, Dense, Norm, sources
from transfer.spec import BlockSpec, NetSpec, VggSpec, resnet_cifar, resnet_imagenet, vgg16, wide_resnet


@pytest.mark.parametrize(
    ("spec", "published"),
    [
        # Idelbayev, pytorch_resnet_cifar10: 0.27 M and 0.85 M; exactly what its files hold.
        (resnet_cifar(20, 10), 269_722),
        (resnet_cifar(56, 10), 853_018),
        # arXiv 2201.10947: a WRN-28-10 of 36.22 M; students of 2.00, 1.42, 0.60 and 0.23 M.
        (wide_resnet(28, 10, 10), 36_220_634),
        (wide_resnet(10, 10, 10), 7_176_794),
        (wide_resnet(10, 1, 10, widths=(84, 169, 337)), 2_001_315),
        (wide_resnet(10, 1, 10, widths=(71, 142, 284)), 1_421_965),
        (wide_resnet(10, 1, 10, widths=(46, 92, 184)), 600_590),
        (wide_resnet(10, 1, 10, widths=(28, 57, 113)), 229_979),
        # torchvision's documentation of these weights.
        (resnet_imagenet(18, 1000), 11_689_512),
        (resnet_imagenet(34, 1000), 21_797_672),
        (vgg16(1000, norm=False), 138_357_544),
        (vgg16(1000, norm=True), 138_365_992),
        (vgg16(101, norm=False), 134_674_341),
    ],
)
def test_published_sizes(spec: NetSpec, published: int) -> None:
    assert parameters(spec) == published


@pytest.mark.parametrize(
    ("spec", "side", "published"),
    [
        # He et al. 2016: 4.1e7 and 1.27e8 operations.
        (resnet_cifar(20, 10), 32, 4.1e7),
        (resnet_cifar(56, 10), 32, 1.27e8),
        # 5.2e9 is what is generally given for WRN-28-10.
        (wide_resnet(28, 10, 10), 32, 5.2e9),
        # torchvision's documentation: 1.81, 3.66 and 15.47 GFLOPS.
        (resnet_imagenet(18, 1000), 224, 1.81e9),
        (resnet_imagenet(34, 1000), 224, 3.66e9),
        (vgg16(1000, norm=True), 224, 15.47e9),
    ],
)
def test_published_costs(spec: NetSpec, side: int, published: float) -> None:
    assert macs(spec, side, side) == pytest.approx(published, rel=0.02)


@given(SPECS)
@settings(deadline=None)
def test_every_operation_takes_what_was_made_before_it(spec: NetSpec) -> None:
    plan = blueprint(spec)
    made = {INPUT}
    for operation in plan.operations:
        assert made.issuperset(sources(operation))
        assert operation.name not in made
        made.add(operation.name)
    assert made.issuperset([plan.logits, plan.feature, *(name for group in plan.blocks for name in group)])
    assert [len(group) for group in plan.blocks] == [len(group) for group in spec.groups]


@given(SPECS)
@settings(deadline=None)
def test_what_is_taken_is_as_wide_as_what_was_made(spec: NetSpec) -> None:
    plan = blueprint(spec)
    shapes = tensor_shapes(plan, 33, 18)
    for operation in plan.operations:
        taken = [shapes[name] for name in sources(operation)]
        if isinstance(operation, Conv):
            assert taken[0][0] == operation.channels_in
        elif isinstance(operation, Dense):
            assert taken[0] == (operation.width_in,)
        assert len(set(taken)) == 1  # both sides of a sum
    assert shapes[plan.logits] == (spec.classes,) and shapes[plan.feature] == (spec.feature_width,)
    for names, blocks in zip(plan.blocks, spec.groups, strict=True):
        assert [shapes[name][0] for name in names] == [block.out for block in blocks]


@given(SPECS)
@settings(deadline=None)
def test_arrays_are_counted_once(spec: NetSpec) -> None:
    named = {name.rsplit(".", 1)[0] for name in weight_shapes(spec)}
    assert named == {op.name for op in blueprint(spec).operations if isinstance(op, Conv | Dense | Norm)}
    one_pixel = sum(
        op.channels_in * op.channels_out * op.kernel**2 for op in blueprint(spec).operations if isinstance(op, Conv)
    )
    assert one_pixel < parameters(spec) and one_pixel < macs(spec, 16, 16)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("resnet", ["layer1.0.conv2", "layer2.0.conv2", "layer3.0.conv2"]),
        ("wide", ["layer1.1.conv2", "layer2.1.conv2", "layer3.1.conv2"]),
        ("imagenet", [f"layer{group}.1.conv2" for group in (1, 2, 3, 4)]),
        ("vgg", ["features.2", "features.7", "features.14", "features.21", "features.28"]),
        ("vgg, normed", ["features.3", "features.10", "features.20", "features.30", "features.40"]),
    ],
)
def test_the_last_convolution_of_each_group(name: str, expected: list[str]) -> None:
    plan = blueprint(SMALL[name])
    assert [last_convolution(plan, group, -1) for group in range(len(plan.blocks))] == expected


def test_a_network_can_be_too_deep_for_its_images() -> None:
    plan = blueprint(vgg16(10, norm=False))
    assert tensor_shapes(plan, 32, 32)["features.30"] == (512, 1, 1)
    with pytest.raises(ValueError, match=r"31 x 64 are too small: nothing is left of them at features\.30"):
        tensor_shapes(plan, 31, 64)


def test_the_same_spec_gives_the_same_blueprint() -> None:
    assert blueprint(resnet_cifar(20, 10)) is blueprint(resnet_cifar(20, 10))


@pytest.mark.parametrize(
    "spec",
    [
        NetSpec(1, 1, ((BlockSpec(4096, 4096), BlockSpec(4096, 4096)),), 2),
        NetSpec(3, 1, ((BlockSpec(4096, 4096),),), 2, "vgg", VggSpec(norm=True, hidden=(4096,) * 4)),
    ],
)
def test_a_network_too_large_for_memory_is_not_drawn(spec: NetSpec) -> None:
    with pytest.raises(ValueError, match="more than 268435456 parameters"):
        blueprint(spec)
