from __future__ import annotations

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from prunable_networks import PRUNABLE
from tiny_networks import SMALL, noise, random_weights

from transfer import pruning
from transfer.blueprint import blueprint
from transfer.coupling import coupling
from transfer.networks import build
from transfer.operations import Conv
from transfer.spec import NetSpec
from transfer.taylor import importance

torch.set_num_threads(1)
IMAGES = torch.from_numpy(noise(6, 3, 32, 32))


@settings(deadline=None, max_examples=15)
@given(PRUNABLE)
def test_every_channel_that_a_convolution_writes_has_its_importance(spec: NetSpec) -> None:
    found = importance(build(spec, random_weights(spec, 0)), IMAGES[:2, :, :8, :8], draws=2)
    coupled = coupling(blueprint(spec))
    written = {coupled.space[one.name] for one in blueprint(spec).operations if isinstance(one, Conv)}
    assert set(found) == written
    for space, values in found.items():
        assert values.shape == (coupled.widths[space],)
        assert np.isfinite(values).all() and (values >= 0).all()


def test_it_is_the_squared_change_of_the_logits_to_first_order() -> None:
    """With a single logit nothing is drawn, and a batch norm scaled down a little tells the same."""
    spec = msgspec.structs.replace(SMALL["imagenet"], classes=1)
    net = build(spec, random_weights(spec, 1)).double()
    images = IMAGES.double()
    found = importance(net, images)["layer2.1.conv1"][3]
    norm, small = net.get_submodule("layer2.1.bn1"), 1e-4
    with torch.no_grad():
        before = net(images).logits
        norm.get_parameter("weight")[3] *= 1 - small
        norm.get_parameter("bias")[3] *= 1 - small
        change = (net(images).logits - before) / small
    assert found == pytest.approx(float(change.square().mean()), rel=1e-2) and found > 0


def test_the_members_of_a_coupled_set_are_summed_before_they_are_squared() -> None:
    """Two writers of one stream that cancel each other are not missed together."""
    spec = msgspec.structs.replace(SMALL["resnet"], classes=1)
    weights = random_weights(spec, 2)
    weights["layer1.0.bn2.weight"][2] = weights["bn1.weight"][2] = 0  # both write constants into channel 2 ...
    weights["layer1.0.bn2.bias"][2] = weights["bn1.bias"][2] = 1
    for block in ("layer1.0.conv1", "layer2.0.conv1"):
        weights[f"{block}.weight"][:, 2] = 0  # ... which goes nowhere but through the shortcuts
    together = importance(build(spec, weights), IMAGES)["conv1"][2]
    weights["layer1.0.bn2.bias"][2] = 0
    weights["bn1.bias"][2] = 2
    alone = importance(build(spec, weights), IMAGES)["conv1"][2]
    assert together == pytest.approx(alone, rel=1e-4) and together > 0


def test_a_silent_channel_has_none() -> None:
    spec = SMALL["wide"]
    weights = random_weights(spec, 3)
    weights["layer2.0.bn2.weight"][5] = weights["layer2.0.bn2.bias"][5] = 0
    found = importance(build(spec, weights), IMAGES)["layer2.0.conv1"]
    assert found[5] == 0 and (np.delete(found, 5) > 0).any()


def test_many_images_are_taken_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = msgspec.structs.replace(SMALL["vgg"], classes=1)
    net = build(spec, random_weights(spec, 4))
    at_once = importance(net, IMAGES)
    monkeypatch.setattr(pruning, "PIXELS_AT_ONCE", 2 * 32 * 32)
    in_pieces = importance(net, IMAGES)
    assert all(np.allclose(at_once[space], in_pieces[space], rtol=1e-3) for space in at_once)


def test_the_network_is_left_as_it_was() -> None:
    spec = SMALL["resnet"]
    net = build(spec, random_weights(spec, 5)).requires_grad_(False)  # frozen, as a teacher may be
    first = importance(net, IMAGES, seed=1)
    assert all(weight.grad is None for weight in net.parameters()) and not IMAGES.requires_grad
    assert not any(module._forward_hooks for module in net.modules())
    again = importance(net, IMAGES, seed=1)
    assert all(np.array_equal(first[space], again[space]) for space in first)
