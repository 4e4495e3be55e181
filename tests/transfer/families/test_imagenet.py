from __future__ import annotations

from transfer.blueprint import blueprint, tensor_shapes, weight_shapes
from transfer.operations import Conv, sources
from transfer.spec import resnet_imagenet


def test_maps_are_as_large_as_in_the_paper() -> None:
    plan = blueprint(resnet_imagenet(34, 1000))
    shapes = tensor_shapes(plan, 224, 224)
    assert (shapes["conv1"], shapes["maxpool"]) == ((64, 112, 112), (64, 56, 56))
    assert [shapes[group[-1]] for group in plan.blocks] == [(64, 56, 56), (128, 28, 28), (256, 14, 14), (512, 7, 7)]
    assert [len(group) for group in plan.blocks] == [3, 4, 6, 3]


def test_small_images_pass() -> None:
    plan = blueprint(resnet_imagenet(18, 10))
    assert tensor_shapes(plan, 32, 32)[plan.blocks[-1][-1]] == (512, 1, 1)


def test_a_shortcut_that_changes_shape_is_learned() -> None:
    spec = resnet_imagenet(18, 1000)
    made = {operation.name: operation for operation in blueprint(spec).operations}
    assert made["layer2.0.downsample.0"] == Conv("layer2.0.downsample.0", "layer1.1.relu2", 64, 128, 1, stride=2)
    assert sources(made["layer2.0.add"]) == ("layer2.0.bn2", "layer2.0.downsample.1")
    assert "layer1.0.downsample.0" not in made and "layer2.1.downsample.0" not in made
    assert {"layer4.0.downsample.1.running_var", "fc.bias"} < set(weight_shapes(spec))
