"""The folded twin says what its network says, and training one trains the other."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_networks import SMALL, SPECS, random_weights
from torch import nn
from torch.nn import functional

from transfer.folded import folded
from transfer.networks import Network, build, weights_of
from transfer.operations import Conv
from transfer.spec import NetSpec

torch.set_num_threads(2)


def network(spec: NetSpec, *moving: str) -> Network:
    """Frozen but for the named modules and the last layer."""
    net = build(spec, random_weights(spec, 0)).requires_grad_(False)
    for name in moving:
        net.get_submodule(name).requires_grad_(True)
    net.last_linear.requires_grad_(True)
    return net


def close(got: torch.Tensor, wanted: torch.Tensor) -> None:
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-4 * float(wanted.detach().abs().max()) + 1e-6)


@given(SPECS, st.data())
@settings(deadline=None, max_examples=40)
def test_it_says_the_same_and_its_gradients_are_the_same(spec: NetSpec, data: st.DataObject) -> None:
    names = [op.name for op in build(spec, random_weights(spec, 0)).blueprint.operations if isinstance(op, Conv)]
    net = network(spec, *data.draw(st.lists(st.sampled_from(names), max_size=3)))
    twin, x = folded(net), torch.randn(2, 3, 16, 16)
    wanted, got = net(x), twin(x)
    for a, b in zip(got.blocks, wanted.blocks, strict=True):
        for one, other in zip(a, b, strict=True):
            close(one, other)
    close(got.feature, wanted.feature)
    close(got.logits, wanted.logits)
    moving = [parameter for parameter in net.parameters() if parameter.requires_grad]
    targets = torch.zeros(2, dtype=torch.long)
    mine = torch.autograd.grad(functional.cross_entropy(got.logits, targets), moving)
    theirs = torch.autograd.grad(functional.cross_entropy(wanted.logits, targets), moving)
    for one, other in zip(mine, theirs, strict=True):
        close(one, other)


def test_a_step_on_what_moves_is_a_step_of_both() -> None:
    net = network(SMALL["resnet"], "layer2.0.conv2")
    before, x = weights_of(net), torch.randn(2, 3, 16, 16)
    twin = folded(net)
    with torch.no_grad():
        said = twin(x).logits
        for parameter in net.parameters():
            parameter.add_(0.1 * float(parameter.requires_grad))
        close(twin(x).logits, net(x).logits)
        assert not torch.allclose(twin(x).logits, said)
    changed = {name for name, array in weights_of(net).items() if (array != before[name]).any()}
    assert changed == {"layer2.0.conv2.weight", "linear.weight", "linear.bias"}


def test_what_trains_is_shared_and_nothing_else_is() -> None:
    spec = SMALL["vgg, normed"]
    net = network(spec, build(spec, random_weights(spec, 0)).last_convolutions()[-1])
    twin = folded(net)
    shared = {id(p) for p in twin.parameters() if p.requires_grad}
    assert shared == {id(p) for p in net.parameters() if p.requires_grad} and len(shared) == 4
    frozen = {p.data_ptr() for p in twin.parameters() if not p.requires_grad}
    assert not frozen & {p.data_ptr() for p in net.parameters()}


@pytest.mark.parametrize(("name", "left"), [("resnet", 0), ("imagenet", 0), ("vgg, normed", 0), ("wide", 4)])
def test_norms_behind_a_convolution_are_gone(name: str, left: int) -> None:
    """In a pre-activated network most of them stand behind a sum."""
    norms = [module for module in folded(network(SMALL[name])).modules() if isinstance(module, nn.BatchNorm2d)]
    assert (len(norms) == left) if not left else len(norms) >= left


def test_maps_lie_channels_last() -> None:
    out = folded(network(SMALL["resnet"]))(torch.randn(2, 3, 16, 16).to(memory_format=torch.channels_last))
    assert all(m.is_contiguous(memory_format=torch.channels_last) for group in out.blocks for m in group)


def test_the_network_itself_is_left_as_it_was() -> None:
    net = network(SMALL["resnet"], "conv1")
    before, training = weights_of(net), {name: p.requires_grad for name, p in net.named_parameters()}
    folded(net)
    assert all((weights_of(net)[name] == array).all() for name, array in before.items())
    assert {name: p.requires_grad for name, p in net.named_parameters()} == training
    assert net.conv1.weight.is_contiguous()
