from __future__ import annotations

import pytest
import torch
from tiny_networks import noise, random_weights

pytest.importorskip("torch_pruning", reason="torch-pruning is not installed")

from benchmarks.peers import torch_pruning
from benchmarks.peers.torch_pruning import Kind, Projection, Prunable, pruned
from transfer.blueprint import macs, parameters
from transfer.limit import Limit
from transfer.networks import build, count_parameters
from transfer.spec import BlockSpec, NetSpec, VggSpec, resnet_cifar, wide_resnet

torch.set_num_threads(1)
SPECS = {
    "resnet": resnet_cifar(8, 3, widths=(6, 9, 12)),
    "wide": wide_resnet(10, 1, 3, widths=(18, 20, 24)),
    "vgg": NetSpec(3, 1, ((BlockSpec(8, 8),), (BlockSpec(12, 12),)), 3, "vgg", VggSpec(True, (6,))),
}
IMAGES = torch.from_numpy(noise(8, 3, 8, 8))
TARGETS = torch.arange(8) % 3


@pytest.fixture(autouse=True)
def _large_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_pruning, "STEPS", 40)


@pytest.mark.parametrize("family", sorted(SPECS))
@pytest.mark.parametrize("kind", ["taylor", "norm"])
def test_it_is_within_the_limit_and_runs_like_the_network(family: str, kind: Kind) -> None:
    spec = SPECS[family]
    net = build(spec, random_weights(spec, 0))
    for limit in (Limit(parameters(spec) * 2 // 3), Limit(macs(spec, 8, 8) * 2 // 3, (8, 8))):
        made = pruned(net, IMAGES, TARGETS, limit, kind)
        assert made.parameters == count_parameters(made.net)
        assert (made.parameters if limit.image is None else made.macs) <= limit.most
        outputs = made.net(IMAGES)
        assert outputs.logits.shape == (8, 3) and outputs.feature.shape == (8, len(made.feature))
        assert all(0 <= channel < spec.feature_width for channel in made.feature)
        outputs.logits.sum().backward()
        trained = {name for name, weight in made.net.named_parameters() if weight.grad is not None}
        assert trained and not any("shortcut" in name for name in trained)


@pytest.mark.parametrize("family", sorted(SPECS))
def test_before_pruning_it_computes_what_the_network_does(family: str) -> None:
    net = build(SPECS[family], random_weights(SPECS[family], 1))
    with torch.no_grad():
        assert torch.allclose(Prunable(net).eval()(IMAGES).logits, net(IMAGES).logits, atol=1e-5)


def test_it_says_which_features_are_left() -> None:
    spec = SPECS["resnet"]
    net = build(spec, random_weights(spec, 2))
    made = pruned(net, IMAGES, TARGETS, Limit(parameters(spec) // 2))
    after, before = (one.get_parameter("linear.weight") for one in (made.net, net))
    assert len(made.feature) < spec.feature_width and torch.equal(after, before[:, list(made.feature)])
    assert any(isinstance(module, Projection) for module in made.net.modules())


def test_a_limit_out_of_reach_is_refused() -> None:
    net = build(SPECS["vgg"], random_weights(SPECS["vgg"], 3))
    with pytest.raises(ValueError, match="reaches no network of only 10 parameters"):
        pruned(net, IMAGES, TARGETS, Limit(10))
