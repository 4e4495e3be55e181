from __future__ import annotations

import msgspec
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_networks import SMALL, noise, random_weights

from transfer.blueprint import weight_shapes
from transfer.cells import MOST_NUMBERS, usual_cells, with_cells
from transfer.graph import network_graph
from transfer.networks import build
from transfer.spec import NetSpec, resnet_cifar, resnet_imagenet, vgg16
from transfer.tflite import check, write

torch.set_num_threads(2)

LINEAR = {name: spec for name, spec in SMALL.items() if spec.family != "vgg" or not spec.details.hidden}


@pytest.mark.parametrize("spec", LINEAR.values(), ids=LINEAR)
@pytest.mark.parametrize("cells", [1, 2, 4])
def test_the_network_stays_and_an_earlier_map_is_told_behind_its_feature(spec: NetSpec, cells: int) -> None:
    """Images so large that every family's last map has 4 x 4 pixels or more."""
    weights, images = random_weights(spec, 0), torch.from_numpy(noise(2, 3, 128, 128))
    parted = with_cells(spec, cells, 128, 128)
    assert weight_shapes(parted) == weight_shapes(spec)
    with torch.no_grad():
        whole, more = build(spec, weights)(images), build(parted, weights)(images)
    assert torch.equal(more.logits, whole.logits)
    assert more.feature.shape == (2, parted.feature_width)
    assert torch.equal(more.feature[:, : parted.pooled_width], whole.feature)
    group, position = parted.earlier
    earlier, rest = whole.blocks[group][position], more.feature[:, parted.pooled_width :]
    torch.testing.assert_close(rest.reshape(2, cells**2, -1).mean(dim=1), earlier.mean(dim=(2, 3)))


def test_a_cell_is_the_mean_of_its_part_of_the_map() -> None:
    spec = with_cells(SMALL["resnet"], 2, 32, 64)
    with torch.no_grad():
        out = build(spec, random_weights(spec, 1))(torch.from_numpy(noise(1, 3, 32, 64)))
    (earlier,) = out.blocks[spec.earlier[0]][spec.earlier[1]]
    channels, height, width = earlier.shape
    upper_right = earlier[:, : height // 2, width // 2 :].mean(dim=(1, 2))
    first = spec.pooled_width + channels
    torch.testing.assert_close(out.feature[0, first : first + channels], upper_right)


@given(st.sampled_from(sorted(LINEAR)), st.integers(1, 3), st.integers(1, 3), st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=25)
def test_the_model_file_computes_what_torch_does(name: str, height: int, width: int, seed: int) -> None:
    images = noise(3, 64 * height, 64 * width, 3)
    spec, weights = with_cells(LINEAR[name], 2, *images.shape[1:3]), random_weights(LINEAR[name], seed)
    with torch.no_grad():
        out = build(spec, weights)(torch.from_numpy(images).permute(0, 3, 1, 2))
    scale = max(1.0, float(out.feature.abs().max()), float(out.logits.abs().max()))
    model = write(network_graph(spec, weights, *images.shape[1:3]))
    check(model, images, out.logits.numpy(), out.feature.numpy(), 1e-5 * scale)


def test_the_earlier_map_is_the_last_groups_first_or_the_one_before() -> None:
    assert resnet_cifar(20, 3).earlier == (2, 0)
    assert resnet_cifar(8, 3).earlier == (1, 0)
    assert msgspec.structs.replace(resnet_cifar(20, 3), groups=resnet_cifar(20, 3).groups[:1]).earlier == (0, 0)


def test_what_has_no_equal_cells_is_said() -> None:
    with pytest.raises(ValueError, match="a map of 7 x 8 has no 2 x 2 equal cells"):
        with_cells(resnet_cifar(20, 3), 2, 28, 32)
    assert with_cells(resnet_cifar(20, 3), 0, 28, 32) == resnet_cifar(20, 3)


def test_there_are_as_many_as_usual_where_they_are_equal_and_the_statistics_small() -> None:
    spec = resnet_cifar(20, 10)
    assert usual_cells(spec, 10, 32, 32) == 2
    assert usual_cells(spec, 10, 28, 32) == 0  # a map of 7 x 8
    most = MOST_NUMBERS // (64 + 4 * 64) ** 2
    assert (usual_cells(spec, most, 32, 32), usual_cells(spec, most + 1, 32, 32)) == (2, 0)
    assert usual_cells(resnet_imagenet(18, 10), 10, 256, 256) == 0  # 512 channels
    assert usual_cells(vgg16(10, norm=True, hidden=(), widths=(8, 8, 8, 8, 16)), 10, 64, 64) == 2
    assert usual_cells(vgg16(10, norm=True, hidden=(4,), widths=(8, 8, 8, 8, 16)), 10, 64, 64) == 0


def test_cells_survive_being_written_and_are_not_told_where_there_are_none() -> None:
    spec = with_cells(resnet_cifar(20, 3), 2, 32, 32)
    assert msgspec.json.decode(msgspec.json.encode(spec), type=NetSpec) == spec
    assert b"cells" not in msgspec.json.encode(resnet_cifar(20, 3)) and "cells" not in repr(resnet_cifar(20, 3))
    assert spec.feature_width == 64 + 4 * 64
