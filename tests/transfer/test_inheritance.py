from __future__ import annotations

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from prunable_networks import PRUNABLE, without_hidden
from tiny_networks import SMALL, noise, random_weights

from transfer.blueprint import blueprint, macs, parameters
from transfer.coupling import coupling
from transfer.inheritance import shrink
from transfer.networks import Outputs, build, count_parameters
from transfer.operations import INPUT
from transfer.plan import last_blocks, planned, shrunk_spec, whole
from transfer.spec import BlockSpec, NetSpec, VggSpec

torch.set_num_threads(1)
IMAGES, SMALL_IMAGES = noise(3, 3, 32, 32), noise(2, 3, 8, 8)


def outputs(spec: NetSpec, weights: dict[str, np.ndarray], images: np.ndarray = IMAGES) -> Outputs:
    with torch.no_grad():
        return build(spec, weights)(torch.from_numpy(images))


@settings(deadline=None, max_examples=20)
@given(PRUNABLE, st.integers(0, 99))
def test_keeping_everything_changes_nothing(spec: NetSpec, seed: int) -> None:
    spec = without_hidden(spec)
    weights = random_weights(spec, seed)
    small, taken = shrink(spec, weights, whole(spec, last_blocks(spec, 64)))
    assert small == spec
    assert all(np.array_equal(taken[name], weights[name]) for name in weights)
    assert torch.equal(outputs(small, taken, SMALL_IMAGES).logits, outputs(spec, weights, SMALL_IMAGES).logits)


@settings(deadline=None, max_examples=30)
@given(PRUNABLE, st.integers(1, 2), st.data())
def test_any_plan_makes_a_network_that_runs(spec: NetSpec, depth: int, data: st.DataObject) -> None:
    kept = {INPUT: (0, 1, 2)}
    for space, width in coupling(blueprint(spec)).widths.items():
        if space != INPUT:
            channels = st.sets(st.integers(0, width - 1), min_size=1)
            kept[space] = tuple(sorted(data.draw(channels)))
    small, taken = shrink(spec, random_weights(spec, 0), planned(spec, last_blocks(spec, depth), kept))
    assert [len(blocks) for blocks in small.groups] == [min(depth, len(blocks)) for blocks in spec.groups]
    net = build(small, taken)  # refuses weights of another shape
    full = shrunk_spec(spec, whole(spec, last_blocks(spec, depth)))
    assert count_parameters(net) == parameters(small) <= parameters(full)
    assert macs(small, 32, 32) <= macs(full, 32, 32)
    with torch.no_grad():
        assert bool(torch.isfinite(net(torch.from_numpy(SMALL_IMAGES)).logits).all())


@pytest.mark.parametrize("family", ["resnet", "imagenet", "wide", "vgg", "vgg, normed"])
def test_silent_channels_inside_blocks_can_go(family: str) -> None:
    """The inherited filters must be the right ones, in the right order, read by the right columns."""
    spec = SMALL[family]
    weights = random_weights(spec, 1)
    space = coupling(blueprint(spec)).space
    kept = {one: tuple(range(width)) for one, width in coupling(blueprint(spec)).widths.items()}
    silenced = {
        "vgg": {"features.0": "features.0", "features.7": "features.7"},
        "vgg, normed": {"features.0": "features.1"},
        "wide": {"layer2.1.conv1": "layer2.1.bn2"},
    }.get(family, {"layer1.0.conv1": "layer1.0.bn1", "layer3.0.conv1": "layer3.0.bn1"})
    for convolution, last in silenced.items():
        weights[f"{last}.weight"][[1, 3]] = 0
        weights[f"{last}.bias"][[1, 3]] = -1  # below the ReLU
        kept[space[convolution]] = tuple(c for c in kept[space[convolution]] if c not in (1, 3))
    small, taken = shrink(spec, weights, planned(spec, last_blocks(spec, 64), kept))
    assert parameters(small) < parameters(spec)
    assert torch.allclose(outputs(small, taken).logits, outputs(spec, weights).logits, atol=1e-5)


@pytest.mark.parametrize("family", ["resnet", "imagenet"])
def test_silent_channels_of_a_stream_can_go(family: str) -> None:
    spec = SMALL[family]
    weights = random_weights(spec, 2)
    space = coupling(blueprint(spec)).space
    kept = {one: tuple(range(width)) for one, width in coupling(blueprint(spec)).widths.items()}
    last = f"layer{len(spec.groups)}"
    writers = [f"{last}.{at}.bn2" for at in range(len(spec.groups[-1]))]
    writers += [f"{last}.0.downsample.1"] if family == "imagenet" else []
    silent = (0, spec.feature_width - 1)  # of a CIFAR Network those that no shortcut feeds
    for writer in writers:
        weights[f"{writer}.weight"][list(silent)] = 0
        weights[f"{writer}.bias"][list(silent)] = 0
    stream = space[f"{last}.0.conv2"]
    kept[stream] = tuple(channel for channel in kept[stream] if channel not in silent)
    small, taken = shrink(spec, weights, planned(spec, last_blocks(spec, 64), kept))
    assert small.feature_width == spec.feature_width - 2
    assert torch.allclose(outputs(small, taken).logits, outputs(spec, weights).logits, atol=1e-5)


def test_a_block_reads_what_the_block_left_out_would_have_handed_on() -> None:
    """Where the block left out does nothing, nothing is missing: the columns are those its shortcut leads to."""
    spec = NetSpec(6, 1, ((BlockSpec(5, 10), BlockSpec(7, 10)),), 4)
    weights = random_weights(spec, 3)
    weights["layer1.0.bn2.weight"][:] = 0
    weights["layer1.0.bn2.bias"][:] = 0
    small, taken = shrink(spec, weights, whole(spec, ((1,),)))
    assert torch.allclose(outputs(small, taken).logits, outputs(spec, weights).logits, atol=1e-5)


def test_a_vgg_block_left_out_is_taken_as_linear() -> None:
    """One that hands on what it gets, scaled, is linear indeed; the scale is what the filters' own norm replaces."""
    spec = NetSpec(3, 1, ((BlockSpec(6, 6),), (BlockSpec(6, 6), BlockSpec(8, 8))), 4, "vgg", VggSpec(False, ()))
    weights = random_weights(spec, 4)
    weights["features.3.weight"][:] = 0
    weights["features.3.weight"][range(6), range(6), 1, 1] = 1
    weights["features.3.bias"][:] = 0
    small, taken = shrink(spec, weights, whole(spec, ((0,), (1,))))
    assert torch.allclose(outputs(small, taken).logits, outputs(spec, weights).logits, atol=1e-5)
    weights["features.3.weight"] *= 5
    assert np.allclose(
        shrink(spec, weights, whole(spec, ((0,), (1,))))[1]["features.3.weight"], taken["features.3.weight"]
    )


def test_a_filter_behind_a_learned_shortcut_keeps_its_norm() -> None:
    spec = SMALL["imagenet"]
    weights = random_weights(spec, 5)
    _, taken = shrink(spec, weights, whole(spec, last_blocks(spec, 1)))
    norms = [
        np.linalg.norm(array.reshape(len(array), -1), axis=1)
        for array in (taken["layer3.0.conv1.weight"], weights["layer3.1.conv1.weight"])
    ]
    assert np.allclose(*norms, rtol=1e-4)


def test_hidden_layers_become_one_linear_layer() -> None:
    """Each ReLU counts as a half. Where all of them let everything through, the logits are a quarter (two ReLUs)."""
    spec = SMALL["vgg, hidden layers"]
    weights = random_weights(spec, 6)
    for name in weights:
        if name.startswith("classifier."):
            weights[name] = np.abs(weights[name]) if name.endswith("weight") else weights[name] * 0
    small, taken = shrink(spec, weights, whole(spec, last_blocks(spec, 64)))
    assert small.vgg == VggSpec(True, ())
    theirs, mine = outputs(spec, weights), outputs(small, taken)  # 32 pixels: the last map is a single pixel, so flat
    assert torch.equal(mine.feature, theirs.feature)
    assert torch.allclose(4 * mine.logits, theirs.logits, rtol=1e-4, atol=1e-5)


def test_weights_are_copies() -> None:
    spec = SMALL["resnet"]
    weights = random_weights(spec, 7)
    before = msgspec.json.encode({name: float(array.sum()) for name, array in weights.items()})
    _, taken = shrink(spec, weights, whole(spec, last_blocks(spec, 1)))
    for array in taken.values():
        array[:] = 0
    assert msgspec.json.encode({name: float(array.sum()) for name, array in weights.items()}) == before
