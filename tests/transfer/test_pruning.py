from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from prunable_networks import PRUNABLE
from tiny_networks import SMALL, noise, random_weights

from transfer import pruning
from transfer.blueprint import macs, parameters, weight_shapes
from transfer.limit import Limit
from transfer.networks import Network, build, weights_of
from transfer.pruning import (
    filter_widths,
    plan,
    shrink,
    shrunk_spec,
    widths_within,
    zero_fractions,
)
from transfer.spec import BlockSpec, NetSpec, resnet_cifar

torch.set_num_threads(1)

SPEC = NetSpec(
    stem_width=8,
    stem_stride=1,
    groups=tuple(tuple(BlockSpec(width + 2, width) for _ in range(3)) for width in (8, 12, 16)),
    classes=5,
)
IMAGES = torch.randn(6, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def network(spec: NetSpec, seed: int = 0) -> Network:
    """With batch norms that are not all alike, as after training."""
    torch.manual_seed(seed)
    net = Network(spec).train()
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(module.weight, 1, 0.2)
            torch.nn.init.normal_(module.bias, 0, 0.5)
    net(IMAGES)
    return net.eval()


def test_zero_fractions_are_those_of_the_maps_behind_each_relu() -> None:
    net = network(SPEC)
    zeros = zero_fractions(net, IMAGES)
    assert set(zeros) == {name[: -len(".weight")] for name in weight_shapes(SPEC) if ".conv" in f".{name}"}
    with torch.no_grad():
        stem = torch.relu(net.bn1(net.conv1(IMAGES)))
        blocks = net(IMAGES).blocks
    assert torch.allclose(zeros["conv1"], (stem == 0).float().mean(dim=(2, 3)))
    assert torch.allclose(zeros["layer2.1.conv2"], (blocks[1][1] == 0).float().mean(dim=(2, 3)))


def test_widths_drop_the_mean_number_of_silent_filters() -> None:
    share = torch.tensor([[1.0, 0.9, 0.2, 0.1, 0.0, 0.0, 0.0, 0.3], [1.0, 0.1, 0.2, 0.1, 0.0, 0.0, 0.0, 0.3]])
    assert filter_widths({"conv1": share}, 0.9) == {"conv1": 7}  # 2 and 1 are safe: 8 - 1.5, rounded up
    assert filter_widths({"conv1": share}, 0.1) == {"conv1": 4}  # never fewer than 4
    assert filter_widths({"conv1": share[:, :3]}, 0.1) == {"conv1": 3}


@settings(deadline=None)
@given(st.floats(0.05, 1.0), st.floats(0.05, 1.0), st.integers(0, 50))
def test_a_lower_threshold_never_keeps_more(one: float, other: float, seed: int) -> None:
    share = torch.rand(5, 20, generator=torch.Generator().manual_seed(seed))
    low, high = sorted((one, other))
    assert filter_widths({"c": share}, low)["c"] <= filter_widths({"c": share}, high)["c"]


@pytest.mark.parametrize("threshold", [0.0, 1.1])
def test_a_threshold_that_is_no_share_is_refused(threshold: float) -> None:
    with pytest.raises(ValueError, match="threshold"):
        filter_widths({}, threshold)


def test_keeping_everything_changes_nothing() -> None:
    net = network(SPEC)
    widths = {name: share.shape[1] for name, share in zero_fractions(net, IMAGES).items()}
    spec, weights = shrink(SPEC, weights_of(net), plan(SPEC, zero_fractions(net, IMAGES), 3, widths))
    assert spec == SPEC
    with torch.no_grad():
        assert torch.equal(build(spec, weights)(IMAGES).logits, net(IMAGES).logits)


def test_dropping_filters_that_are_always_silent_changes_nothing() -> None:
    """Inside a block the inherited filters must be the right ones, in the right order, read by the right columns."""
    net = network(SPEC)
    for name, module in net.named_modules():
        if name.endswith(".bn1"):
            with torch.no_grad():
                module.weight[[1, 4]] = 0.0  # type: ignore[index, operator]
                module.bias[[1, 4]] = -1.0  # type: ignore[index, operator]
    zeros = zero_fractions(net, IMAGES)
    widths = {name: share.shape[1] - 2 * name.endswith(".conv1") for name, share in zeros.items()}
    spec, weights = shrink(SPEC, weights_of(net), plan(SPEC, zeros, 3, widths))
    assert all(block.mid == before.mid - 2 for block, before in zip(spec.placed(), SPEC.placed(), strict=True))
    with torch.no_grad():
        assert torch.allclose(build(spec, weights)(IMAGES).logits, net(IMAGES).logits, atol=1e-5)


def test_the_filters_with_the_fewest_zeros_stay() -> None:
    zeros = zero_fractions(network(SPEC), IMAGES)
    widths = {name: share.shape[1] - 3 for name, share in zeros.items()}
    chosen = plan(SPEC, zeros, 1, widths)
    share = zeros["layer3.2.conv2"].mean(dim=0).numpy()
    dropped = [channel for channel in range(16) if channel not in chosen.out[2]]
    assert share[list(chosen.out[2])].max() <= share[dropped].min()
    assert chosen.blocks == ((2,), (2,), (2,))


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 4), st.floats(0.05, 1.0))
def test_every_student_is_a_network_that_runs(depth: int, threshold: float) -> None:
    net = network(SPEC)
    zeros = zero_fractions(net, IMAGES)
    chosen = plan(SPEC, zeros, depth, filter_widths(zeros, threshold))
    spec, weights = shrink(SPEC, weights_of(net), chosen)
    assert spec == shrunk_spec(SPEC, chosen)
    assert all(len(blocks) == min(depth, 3) for blocks in spec.groups)
    with torch.no_grad():
        logits = build(spec, weights)(IMAGES).logits
    assert logits.shape == (6, 5) and bool(torch.isfinite(logits).all())


def test_widths_fill_a_number_of_parameters() -> None:
    spec = resnet_cifar(14, 10)
    zeros = zero_fractions(network(spec), IMAGES)
    for most in (60_000, 20_000):
        made = shrunk_spec(spec, plan(spec, zeros, 1, widths_within(spec, zeros, 1, Limit(most))))
        assert 0.8 * most < parameters(made) <= most
    with pytest.raises(ValueError, match="parameters"):
        widths_within(spec, zeros, 1, Limit(100))


def test_channels_stand_where_the_shortcut_of_the_student_puts_them() -> None:
    spec = resnet_cifar(8, 3)
    zeros = {name: torch.zeros(1, shape[0]) for name, shape in _convolutions(spec).items()}
    chosen = plan(spec, zeros, 1, {name: share.shape[1] for name, share in zeros.items()})
    assert [list(out) for out in chosen.out] == [list(range(16)), list(range(32)), list(range(64))]
    # Half of each: the first channels of every group, all equally silent. The teacher's shortcut moves channel c of
    # the first group to c + 8, the student's channel i to i + 4.
    half = plan(spec, zeros, 1, {name: share.shape[1] // 2 for name, share in zeros.items()})
    fed = [(half.out[1][at + 4], channel + 8) for at, channel in enumerate(half.out[0])]
    assert all(got == wanted for got, wanted in fed if wanted in half.out[1])
    assert sorted(half.out[1]) == list(range(16))


def _convolutions(spec: NetSpec) -> dict[str, tuple[int, ...]]:
    shapes = weight_shapes(spec)
    return {name[: -len(".weight")]: shape for name, shape in shapes.items() if len(shape) == 4}


def test_inherited_weights_are_copies() -> None:
    net = network(SPEC)
    weights = weights_of(net)
    zeros = zero_fractions(net, IMAGES)
    _, taken = shrink(SPEC, weights, plan(SPEC, zeros, 1, {name: share.shape[1] for name, share in zeros.items()}))
    taken["linear.weight"][:] = 0
    assert np.abs(weights["linear.weight"]).max() > 0


@pytest.mark.parametrize(
    ("family", "relus"),
    [
        ("imagenet", {"conv1": "relu1", "layer2.0.conv1": "layer2.0.relu1", "layer2.0.conv2": "layer2.0.relu2"}),
        # Decision 7: behind the next batch norm.
        ("wide", {"conv1": "layer1.0.relu1", "layer1.1.conv2": "layer2.0.relu1", "layer3.1.conv2": "relu"}),
        ("vgg", {"features.0": "features.1", "features.2": "features.3"}),
        ("vgg, hidden layers", {"features.0": "features.2", "features.3": "features.5"}),
    ],
)
def test_activation_maps_of_other_families(family: str, relus: dict[str, str]) -> None:
    spec = SMALL[family]
    net = build(spec, random_weights(spec, 0))
    images = torch.from_numpy(noise(3, 3, 32, 32))
    zeros = zero_fractions(net, images)
    for convolution, relu in relus.items():
        with torch.no_grad():
            maps = net.before(images, net.prefix(relu)[0] + 1)[relu]
        assert torch.equal(zeros[convolution], (maps == 0).float().mean(dim=(2, 3)))
    convolutions = [name for name, shape in weight_shapes(spec).items() if len(shape) == 4 and "downsample" not in name]
    assert [f"{name}.weight" for name in zeros] == convolutions


def test_large_images_are_taken_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    net = network(SPEC)
    at_once = zero_fractions(net, IMAGES)
    monkeypatch.setattr(pruning, "PIXELS_AT_ONCE", 4 * 16 * 16)
    in_pieces = zero_fractions(net, IMAGES)
    assert list(at_once) == list(in_pieces)
    assert all(torch.allclose(at_once[name], in_pieces[name], atol=0.01) for name in at_once)


@settings(deadline=None, max_examples=25)
@given(PRUNABLE, st.integers(1, 2), st.floats(0.05, 1.0))
def test_the_papers_students_of_every_family_run(spec: NetSpec, depth: int, threshold: float) -> None:
    net = build(spec, random_weights(spec, 0))
    images = torch.from_numpy(noise(2, 3, 8, 8))
    zeros = zero_fractions(net, images)
    widths = filter_widths(zeros, threshold)
    small, weights = shrink(spec, weights_of(net), plan(spec, zeros, depth, widths))
    assert small.feature_width == widths[net.last_convolutions()[-1]]
    with torch.no_grad():
        assert bool(torch.isfinite(build(small, weights)(images).logits).all())


def test_widths_fill_a_number_of_macs() -> None:
    spec = resnet_cifar(14, 10)
    zeros = zero_fractions(network(spec), IMAGES)
    limit = Limit(4_000_000, (32, 32))
    made = shrunk_spec(spec, plan(spec, zeros, 1, widths_within(spec, zeros, 1, limit)))
    assert 0.8 * limit.most < macs(made, 32, 32) <= limit.most
    with pytest.raises(ValueError, match="only 1,000 multiply-accumulates"):
        widths_within(spec, zeros, 1, Limit(1_000, (32, 32)))
