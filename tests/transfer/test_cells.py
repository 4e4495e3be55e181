from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_networks import SMALL, noise, random_weights

from transfer.cells import MOST_NUMBERS, over_all, rows_in_cells, split, usual_cells
from transfer.graph import network_graph
from transfer.networks import build
from transfer.spec import NetSpec, resnet_cifar, resnet_imagenet, vgg16
from transfer.tflite import check, write

torch.set_num_threads(2)

LINEAR = {name: spec for name, spec in SMALL.items() if spec.family != "vgg" or not spec.details.hidden}


@pytest.mark.parametrize("spec", LINEAR.values(), ids=LINEAR)
@pytest.mark.parametrize("cells", [2, 4])
def test_the_logits_stay_and_the_feature_says_where(spec: NetSpec, cells: int) -> None:
    """Images so large that every family's last map has 4 x 4 pixels or more."""
    weights, images = random_weights(spec, 0), torch.from_numpy(noise(2, 3, 128, 128))
    parted, rows = split(spec, weights, cells)
    with torch.no_grad():
        whole, parts = build(spec, weights)(images), build(parted, rows)(images)
    assert parts.feature.shape == (2, parted.feature_width) == (2, spec.feature_width * cells**2)
    torch.testing.assert_close(parts.logits, whole.logits, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(
        parts.feature.reshape(2, cells**2, -1).mean(dim=1) * cells, whole.feature, rtol=1e-4, atol=1e-4
    )


def test_a_cell_is_the_mean_of_its_part_of_the_map() -> None:
    spec, weights = split(SMALL["resnet"], random_weights(SMALL["resnet"], 1), 2)
    with torch.no_grad():
        out = build(spec, weights)(torch.from_numpy(noise(1, 3, 32, 64)))
    (last,) = out.blocks[-1][-1]
    _, height, width = last.shape
    upper_right = last[:, : height // 2, width // 2 :].mean(dim=(1, 2))
    channels = len(last)
    torch.testing.assert_close(out.feature[0, channels : 2 * channels] * 2, upper_right)


@given(st.sampled_from(sorted(LINEAR)), st.integers(1, 3), st.integers(1, 3), st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=25)
def test_the_model_file_computes_what_torch_does(name: str, height: int, width: int, seed: int) -> None:
    spec, weights = split(LINEAR[name], random_weights(LINEAR[name], seed), 2)
    images = noise(3, 64 * height, 64 * width, 3)
    with torch.no_grad():
        out = build(spec, weights)(torch.from_numpy(images).permute(0, 3, 1, 2))
    scale = max(1.0, float(out.feature.abs().max()), float(out.logits.abs().max()))
    model = write(network_graph(spec, weights, *images.shape[1:3]))
    check(model, images, out.logits.numpy(), out.feature.numpy(), 1e-5 * scale)


def test_what_has_no_equal_cells_is_said() -> None:
    spec, weights = split(resnet_cifar(8, 3), random_weights(resnet_cifar(8, 3), 0), 2)
    with pytest.raises(ValueError, match="a map of 7 x 8 has no 2 x 2 equal cells"):
        network_graph(spec, weights, 28, 32)


def test_one_cell_changes_nothing_and_cells_are_made_once() -> None:
    spec, weights = resnet_cifar(8, 3), random_weights(resnet_cifar(8, 3), 0)
    same, kept = split(spec, weights, 1)
    assert same == spec and all(kept[name] is weights[name] for name in weights)
    with pytest.raises(ValueError, match="2 cells a side already"):
        split(*split(spec, weights, 2), 2)


def test_there_are_as_many_as_usual_where_they_are_equal_and_the_statistics_small() -> None:
    spec = resnet_cifar(8, 10)
    assert usual_cells(spec, 10, 32, 32) == 2
    assert usual_cells(spec, 10, 28, 32) == 1  # a map of 7 x 8
    most = MOST_NUMBERS // 256**2
    assert (usual_cells(spec, most, 32, 32), usual_cells(spec, most + 1, 32, 32)) == (2, 1)
    assert usual_cells(resnet_imagenet(18, 10), 10, 256, 256) == 1  # 512 channels
    assert usual_cells(vgg16(10, norm=True, hidden=(), widths=(8, 8, 8, 8, 16)), 10, 64, 64) == 2


@given(st.integers(1, 4), st.integers(1, 5), st.integers(0, 2**32 - 1))
@settings(deadline=None)
def test_rows_say_of_cells_what_they_said_of_the_whole(cells: int, d: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    rows, features = random.standard_normal((3, d)), random.standard_normal((4, cells**2 * d))
    parted = rows_in_cells(rows, cells)
    np.testing.assert_allclose(features @ parted.T, over_all(features, cells) @ rows.T, atol=1e-9)
    np.testing.assert_allclose(over_all(parted, cells), rows, atol=1e-12)


def test_rows_of_a_split_network_are_shares_of_the_rows_before() -> None:
    spec = resnet_cifar(8, 3)
    weights = random_weights(spec, 0)
    rows = split(spec, weights, 2)[1]["linear.weight"]
    assert rows.shape == (3, 256) and rows.dtype == np.float32
    np.testing.assert_allclose(rows.reshape(3, 4, 64).sum(axis=1) / 2, weights["linear.weight"], rtol=1e-6)
