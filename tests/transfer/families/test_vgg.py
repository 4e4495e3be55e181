from __future__ import annotations

import pytest

from transfer.blueprint import blueprint, tensor_shapes, weight_shapes
from transfer.operations import Conv, Flatten, MaxPool, sources
from transfer.spec import vgg16

# The layers of torchvision's vgg16 and vgg16_bn that have weights.
PLAIN = [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28]
NORMED = [0, 3, 7, 10, 14, 17, 20, 24, 27, 30, 34, 37, 40]


@pytest.mark.parametrize(("norm", "numbers"), [(False, PLAIN), (True, NORMED)])
def test_layers_are_numbered_as_in_torchvision(norm: bool, numbers: list[int]) -> None:
    spec = vgg16(1000, norm=norm)
    convolutions = [operation for operation in blueprint(spec).operations if isinstance(operation, Conv)]
    assert [operation.name for operation in convolutions] == [f"features.{number}" for number in numbers]
    assert all(operation.bias for operation in convolutions)
    norms = {f"features.{number + 1}.running_mean" for number in numbers}
    assert norms.issubset(weight_shapes(spec)) if norm else norms.isdisjoint(weight_shapes(spec))
    assert weight_shapes(spec)["classifier.0.weight"] == (4096, 25088)
    assert weight_shapes(spec)["classifier.6.weight"] == (1000, 4096)


@pytest.mark.parametrize("norm", [False, True])
def test_a_group_ends_in_a_pool_and_a_block_before_it(norm: bool) -> None:
    plan = blueprint(vgg16(10, norm=norm))
    pools = [operation for operation in plan.operations if isinstance(operation, MaxPool)]
    assert [pool.source for pool in pools] == [group[-1] for group in plan.blocks]
    assert [len(group) for group in plan.blocks] == [2, 2, 3, 3, 3]
    assert tensor_shapes(plan, 224, 224)[pools[-1].name] == (512, 7, 7)


def test_without_hidden_layers_the_logits_are_a_linear_function_of_the_feature() -> None:
    spec = vgg16(10, norm=True, hidden=())
    plan = blueprint(spec)
    assert sources(plan.operations[-1]) == (plan.feature,)
    assert weight_shapes(spec)["classifier.weight"] == (10, 512)
    assert not any(isinstance(operation, Flatten) for operation in plan.operations)


def test_the_feature_is_the_mean_of_the_last_map_with_hidden_layers_too() -> None:
    spec = vgg16(10, norm=False, hidden=(32,))
    plan = blueprint(spec)
    assert tensor_shapes(plan, 64, 64)[plan.feature] == (512,) == (spec.feature_width,)
    assert plan.logits == "classifier.3"
