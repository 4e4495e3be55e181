"""The rival computes what the network does."""

from __future__ import annotations

import numpy as np
import pytest
from tiny_networks import noise, random_weights

from transfer import tflite
from transfer.graph import network_graph
from transfer.spec import resnet_cifar, vgg16

pytest.importorskip("onnx", reason="onnx is not installed (extra `bench`)")
onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed (extra `bench`)")

from benchmarks.peers.onnx_graph import OnnxError, onnx_model  # noqa: E402


def test_it_gives_the_same_numbers_as_the_tflite_model() -> None:
    spec = resnet_cifar(8, 5, widths=(4, 6, 8))
    graph, images = network_graph(spec, random_weights(spec, 1), 16, 16), noise(3, 16, 16, 3)
    session = onnxruntime.InferenceSession(onnx_model(graph), providers=["CPUExecutionProvider"])
    found = session.run(None, {"image": np.ascontiguousarray(images.transpose(0, 3, 1, 2))})
    for got, wanted in zip(found, tflite.run(tflite.write(graph), images), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5)


def test_another_family_is_refused_by_name() -> None:
    spec = vgg16(5, norm=True, hidden=(), widths=(4, 4, 4, 4, 8))
    with pytest.raises(OnnxError, match="MaxPool"):
        onnx_model(network_graph(spec, random_weights(spec, 0), 32, 32))
