from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_networks import SMALL, SPECS, random_weights
from torch.nn import functional

from transfer.blueprint import blueprint
from transfer.graph import Add, Conv, Dense, Mean, MeanPool, Scale, _over_pixels, network_graph
from transfer.operations import Norm, Relu
from transfer.spec import BlockSpec, NetSpec, resnet_cifar, vgg16, wide_resnet

SPEC = NetSpec(4, 2, ((BlockSpec(3, 4),), (BlockSpec(5, 9),)), 3)


@given(SPECS)
@settings(deadline=None)
def test_every_operation_takes_what_was_made_before_it(spec: NetSpec) -> None:
    graph = network_graph(spec, random_weights(spec, 0), 17, 32)
    made = {"image"}
    for operation in graph.operations:
        sources = {operation.a, operation.b} if isinstance(operation, Add) else {operation.source}
        assert sources <= made
        assert operation.name not in made
        made.add(operation.name)
    assert (graph.logits, graph.feature) == ("logits", "feature") and {"logits", "feature"} <= made
    assert isinstance(graph.operations[-1], Dense) and not graph.operations[-1].relu
    assert any(isinstance(operation, Mean) for operation in graph.operations)


@given(SPECS)
@settings(deadline=None)
def test_every_norm_and_relu_is_part_of_something(spec: NetSpec) -> None:
    """Of the blueprint's operations none is lost: what is left of norms are the scales that follow no convolution."""
    graph, plan = network_graph(spec, random_weights(spec, 0), 17, 32), blueprint(spec)
    relus = sum(isinstance(operation, Relu) for operation in plan.operations)
    assert relus == sum(getattr(operation, "relu", False) for operation in graph.operations)
    scales = {operation.name for operation in graph.operations if isinstance(operation, Scale)}
    after_sums = {op.name for op in plan.operations if isinstance(op, Norm) and not op.name.endswith("bn2")}
    assert scales == (after_sums if spec.family == "wide" else set())


def test_batch_norm_is_folded() -> None:
    weights = random_weights(SPEC, 1)
    stem = network_graph(SPEC, weights, 8, 8).operations[0]
    assert isinstance(stem, Conv) and stem.relu
    patch = np.random.default_rng(0).standard_normal((3, 3, 3))  # one receptive field, HWI
    plain = np.einsum("oihw,hwi->o", weights["conv1.weight"], patch)
    scale = weights["bn1.weight"] / np.sqrt(weights["bn1.running_var"] + 1e-5)
    expected = (plain - weights["bn1.running_mean"]) * scale + weights["bn1.bias"]
    assert np.allclose(np.einsum("ohwi,hwi->o", stem.weight, patch) + stem.bias, expected, atol=1e-6)


def test_the_bias_of_a_convolution_goes_through_its_batch_norm() -> None:
    spec = SMALL["vgg, normed"]
    weights = random_weights(spec, 1)
    first = network_graph(spec, weights, 32, 32).operations[0]
    assert isinstance(first, Conv)
    scale = weights["features.1.weight"] / np.sqrt(weights["features.1.running_var"] + 1e-5)
    shifted = (weights["features.0.bias"] - weights["features.1.running_mean"]) * scale
    assert np.allclose(first.bias, shifted + weights["features.1.bias"], atol=1e-6)


def test_a_stem_that_others_take_keeps_its_batch_norm_apart() -> None:
    spec = wide_resnet(16, 1, 5, widths=(16, 9, 12))  # the first sum takes the stem as it is
    weights = random_weights(spec, 1)
    stem, scale = network_graph(spec, weights, 8, 8).operations[:2]
    assert isinstance(stem, Conv) and not stem.relu and not stem.bias.any()
    assert isinstance(scale, Scale) and scale.relu and scale.source == "conv1"
    assert np.array_equal(stem.weight, weights["conv1.weight"].transpose(0, 2, 3, 1))


def test_a_shortcut_selects_channels() -> None:
    graph = network_graph(SPEC, random_weights(SPEC, 2), 8, 8)
    (shortcut,) = [o for o in graph.operations if isinstance(o, Conv) and o.name == "layer2.0.shortcut"]
    assert shortcut.stride == 2 and not shortcut.relu
    expected = np.zeros((9, 4))
    expected[2:6] = np.eye(4)
    assert np.array_equal(shortcut.weight[:, 0, 0], expected)
    assert not shortcut.bias.any()
    assert "layer1.0.shortcut" not in {o.name for o in graph.operations}  # nothing to change: added as it is


@pytest.mark.parametrize(("width", "selects"), [(6, False), (9, True)])
def test_a_shortcut_by_mean_pools_and_selects_only_where_widths_change(width: int, selects: bool) -> None:
    spec = wide_resnet(10, 1, 5, widths=(6, width, 12))
    made = {o.name: o for o in network_graph(spec, random_weights(spec, 2), 8, 8).operations}
    assert isinstance(made["layer2.0.shortcut.mean"], MeanPool)
    assert ("layer2.0.shortcut" in made) == selects
    add = made["layer2.0.add"]
    assert isinstance(add, Add) and add.b == ("layer2.0.shortcut" if selects else "layer2.0.shortcut.mean")


@given(st.integers(1, 20), st.integers(1, 20), st.integers(1, 9))
@settings(deadline=None)
def test_an_adaptive_average_is_part_of_the_weights_behind_it(height: int, width: int, side: int) -> None:
    random = np.random.default_rng(0)
    weight, maps = random.standard_normal((4, 3 * side**2)), random.standard_normal((2, 3, height, width))
    flat = functional.adaptive_avg_pool2d(torch.from_numpy(maps), side).flatten(1).numpy()
    spread = _over_pixels(weight, (3, height, width), side)
    assert np.allclose(maps.transpose(0, 2, 3, 1).reshape(2, -1) @ spread.T, flat @ weight.T, atol=1e-5)


@pytest.mark.parametrize(("spec", "name"), [(SPEC, "layer2.0.bn2.running_var"), (SMALL["vgg"], "features.2.bias")])
def test_a_missing_weight_is_named(spec: NetSpec, name: str) -> None:
    weights = random_weights(spec, 3)
    del weights[name]
    with pytest.raises(KeyError, match=name.replace(".", r"\.")):
        network_graph(spec, weights, 32, 32)


def test_images_that_are_too_small_are_refused() -> None:
    spec = vgg16(5, norm=False, hidden=(), widths=(4, 4, 4, 4, 4))
    with pytest.raises(ValueError, match="16 x 16 are too small"):
        network_graph(spec, random_weights(spec, 0), 16, 16)
    assert network_graph(resnet_cifar(8, 5), random_weights(resnet_cifar(8, 5), 0), 1, 1).input_hw == (1, 1)
