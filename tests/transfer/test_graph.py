from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from transfer.graph import Add, Conv, Dense, Mean, resnet_graph
from transfer.spec import BlockSpec, NetSpec

Weights = Callable[[NetSpec, int], dict[str, np.ndarray]]
SPEC = NetSpec(4, 2, ((BlockSpec(3, 4),), (BlockSpec(5, 9),)), 3)


def test_every_operation_takes_what_was_made_before_it(random_weights: Weights) -> None:
    graph = resnet_graph(SPEC, random_weights(SPEC, 0), 8, 8)
    made = {"image"}
    for operation in graph.operations:
        sources = {operation.a, operation.b} if isinstance(operation, Add) else {operation.source}
        assert sources <= made
        assert operation.name not in made
        made.add(operation.name)
    assert {graph.logits, graph.feature} <= made
    assert isinstance(graph.operations[-2], Mean)
    assert isinstance(graph.operations[-1], Dense)


def test_batch_norm_is_folded(random_weights: Weights) -> None:
    weights = random_weights(SPEC, 1)
    stem = resnet_graph(SPEC, weights, 8, 8).operations[0]
    assert isinstance(stem, Conv)
    patch = np.random.default_rng(0).standard_normal((3, 3, 3))  # one receptive field, HWI
    plain = np.einsum("oihw,hwi->o", weights["conv1.weight"], patch)
    scale = weights["bn1.weight"] / np.sqrt(weights["bn1.running_var"] + 1e-5)
    expected = (plain - weights["bn1.running_mean"]) * scale + weights["bn1.bias"]
    assert np.allclose(np.einsum("ohwi,hwi->o", stem.weight, patch) + stem.bias, expected, atol=1e-6)


def test_a_shortcut_selects_channels(random_weights: Weights) -> None:
    graph = resnet_graph(SPEC, random_weights(SPEC, 2), 8, 8)
    (shortcut,) = [o for o in graph.operations if isinstance(o, Conv) and o.name == "layer2.0.shortcut"]
    assert shortcut.stride == 2 and not shortcut.relu
    expected = np.zeros((9, 4))
    expected[2:6] = np.eye(4)
    assert np.array_equal(shortcut.weight[:, 0, 0], expected)
    assert not shortcut.bias.any()
    assert "layer1.0.shortcut" not in {o.name for o in graph.operations}  # nothing to change: added as it is


def test_a_missing_weight_is_named(random_weights: Weights) -> None:
    weights = random_weights(SPEC, 3)
    del weights["layer2.0.bn2.running_var"]
    with pytest.raises(KeyError, match=r"layer2\.0\.bn2\.running_var"):
        resnet_graph(SPEC, weights, 8, 8)
