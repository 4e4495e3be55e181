"""Single operations, against torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from transfer.graph import Conv, Dense, MaxPool, MeanPool, Operation, Scale
from transfer.operations import INPUT
from transfer.tflite_writer import Writer

interpreter = pytest.importorskip("ai_edge_litert.interpreter", reason="no TFLite interpreter for this platform")

SIDE = st.integers(3, 20)


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def run(operation: Operation, image: np.ndarray) -> Tensor:
    """What the operation makes of an image [h, w, 3], as torch would lay it out."""
    writer = Writer("none")
    writer.activation(INPUT, image.shape)
    writer.add(operation)
    model = interpreter.Interpreter(model_content=writer.finish(INPUT, (operation.name, operation.name), ""))
    model.allocate_tensors()
    model.set_tensor(model.get_input_details()[0]["index"], image[None])
    model.invoke()
    made = torch.from_numpy(model.get_tensor(model.get_output_details()[0]["index"]))
    return made.permute(0, 3, 1, 2) if made.dim() == 4 else made


def torchs(image: np.ndarray) -> Tensor:
    return torch.from_numpy(image)[None].permute(0, 3, 1, 2)


@given(SIDE, SIDE, st.sampled_from([(2, 2, 0), (3, 2, 1), (3, 1, 1), (2, 1, 0)]))
@settings(deadline=None)
def test_max_pools(height: int, width: int, shape: tuple[int, int, int]) -> None:
    image = np.abs(numbers(height, width, 3))
    kernel, stride, padding = shape
    wanted = functional.max_pool2d(torchs(image), kernel, stride, padding)
    torch.testing.assert_close(run(MaxPool("pool", INPUT, kernel, stride, padding), image), wanted)


@given(SIDE, SIDE)
@settings(deadline=None)
def test_mean_pools(height: int, width: int) -> None:
    image = numbers(height, width, 3)
    wanted = functional.avg_pool2d(torchs(image), 2, ceil_mode=True)
    torch.testing.assert_close(run(MeanPool("pool", INPUT, 2), image), wanted)


@given(SIDE, SIDE, st.sampled_from([1, 3, 5, 7]), st.integers(1, 3), st.booleans())
@settings(deadline=None)
def test_convolutions(height: int, width: int, kernel: int, stride: int, relu: bool) -> None:
    image, weight, bias = numbers(height, width, 3), numbers(4, kernel, kernel, 3, seed=1), numbers(4, seed=2)
    oihw = torch.from_numpy(weight).permute(0, 3, 1, 2)
    wanted = functional.conv2d(torchs(image), oihw, torch.from_numpy(bias), stride, kernel // 2)
    got = run(Conv("conv", INPUT, weight, bias, stride, relu), image)
    torch.testing.assert_close(got, functional.relu(wanted) if relu else wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("relu", [False, True])
def test_scales(relu: bool) -> None:
    image, scale, offset = numbers(5, 4, 3), numbers(3, seed=1), numbers(3, seed=2)
    wanted = torchs(image * scale + offset)
    got = run(Scale("scale", INPUT, scale, offset, relu), image)
    torch.testing.assert_close(got, functional.relu(wanted) if relu else wanted)


@pytest.mark.parametrize("relu", [False, True])
def test_a_dense_layer_takes_a_map_as_it_lies_in_memory(relu: bool) -> None:
    image, weight, bias = numbers(5, 4, 3), numbers(6, 60, seed=1), numbers(6, seed=2)
    wanted = torch.from_numpy(weight @ image.ravel() + bias)[None]
    got = run(Dense("dense", INPUT, weight, bias, relu), image)
    torch.testing.assert_close(got, functional.relu(wanted) if relu else wanted, rtol=1e-4, atol=1e-4)
