from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_networks import SMALL, SPECS, Weights, noise, random_weights

from transfer.graph import network_graph
from transfer.head import append_row
from transfer.networks import build
from transfer.preprocess import normalise
from transfer.spec import InputSpec, NetSpec, resnet_cifar, resnet_imagenet, vgg16, wide_resnet
from transfer.tflite import BATCH, MismatchError, check, features, run, write

torch.set_num_threads(2)

interpreter = pytest.importorskip("ai_edge_litert.interpreter", reason="no TFLite interpreter for this platform")


def torch_outputs(spec: NetSpec, weights: Weights, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    with torch.no_grad():
        out = build(spec, weights)(torch.from_numpy(images).permute(0, 3, 1, 2))
    return out.logits.numpy(), out.feature.numpy()


def agrees(spec: NetSpec, height: int, width: int, seed: int = 0) -> None:
    """The model computes what torch does, to 1e-5 of the largest output."""
    weights, images = random_weights(spec, seed), noise(2, height, width, 3)
    logits, feature = torch_outputs(spec, weights, images)
    scale = max(1.0, float(np.abs(feature).max()), float(np.abs(logits).max()))
    check(write(network_graph(spec, weights, height, width)), images, logits, feature, 1e-5 * scale)


@given(SPECS, st.integers(8, 64), st.integers(8, 64), st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=60)
def test_equals_torch(spec: NetSpec, height: int, width: int, seed: int) -> None:
    agrees(spec, height, width, seed)


@pytest.mark.parametrize("spec", SMALL.values(), ids=SMALL)
def test_every_family_equals_torch(spec: NetSpec) -> None:
    agrees(spec, 32, 32)
    agrees(spec, 224, 224)


WIDE_ENOUGH = [  # for some of their weights to be worth it
    resnet_cifar(8, 5),
    wide_resnet(10, 1, 5),
    resnet_imagenet(18, 5, widths=(16, 24, 24, 32)),
    vgg16(5, norm=True, hidden=(40,), widths=(16, 24, 24, 24, 32)),
]


@pytest.mark.parametrize("spec", WIDE_ENOUGH, ids=lambda spec: spec.family)
def test_every_family_runs_with_int8_weights(spec: NetSpec) -> None:
    weights, images = random_weights(spec, 1), noise(8, 64, 64, 3)
    graph = network_graph(spec, weights, 64, 64)
    plain, small = write(graph), write(graph, quantise="dynamic_int8")
    assert len(small) < 0.5 * len(plain)
    (logits, feature), (logits8, feature8) = run(plain, images), run(small, images)
    assert np.abs(feature8 - feature).max() < 0.2 * np.abs(feature).max()
    assert np.abs(logits8 - logits).max() < 0.2 * np.abs(logits).max()


def test_the_batch_can_be_resized_and_back() -> None:
    spec = resnet_cifar(8, 10)
    weights, images = random_weights(spec, 0), noise(7, 32, 32, 3)
    logits, feature = torch_outputs(spec, weights, images)
    model = interpreter.Interpreter(model_content=write(network_graph(spec, weights, 32, 32)), num_threads=1)
    (source,) = model.get_input_details()
    outputs = model.get_output_details()
    assert (source["name"], source["shape"].tolist(), source["dtype"]) == ("image", [1, 32, 32, 3], np.float32)
    assert source["shape_signature"].tolist() == [-1, 32, 32, 3]
    assert [(o["name"], o["shape"].tolist()) for o in outputs] == [("logits", [1, 10]), ("feature", [1, 64])]
    for n in (1, 7, 1):
        model.resize_tensor_input(source["index"], [n, 32, 32, 3], strict=True)
        model.allocate_tensors()
        model.set_tensor(source["index"], images[:n])
        model.invoke()
        assert np.allclose(model.get_tensor(outputs[0]["index"]), logits[:n], atol=1e-5)
        assert np.allclose(model.get_tensor(outputs[1]["index"]), feature[:n], atol=1e-5)


def test_int8_is_a_quarter_of_the_size_and_decides_alike() -> None:
    spec = resnet_cifar(14, 10, widths=(16, 32, 128))
    weights, images = random_weights(spec, 1), noise(96, 32, 32, 3)
    graph = network_graph(spec, weights, 32, 32)
    plain, small = write(graph), write(graph, quantise="dynamic_int8")
    assert len(small) < 0.3 * len(plain)
    (logits, feature), (logits8, feature8) = run(plain, images), run(small, images)
    assert np.abs(feature8 - feature).max() < 0.1 * feature.std()
    # Only where the decision is not a matter of a hair can one ask for the same one.
    ordered = np.sort(logits, axis=1)
    clear = ordered[:, -1] - ordered[:, -2] > 4 * np.abs(logits8 - logits).max()
    assert clear.sum() >= 16
    assert np.array_equal(logits8.argmax(axis=1)[clear], logits.argmax(axis=1)[clear])


def test_the_linear_layer_is_quantised_too_and_zero_weights_are_no_trouble() -> None:
    spec = resnet_cifar(8, 100)
    weights, images = random_weights(spec, 2), noise(3, 16, 16, 3)
    weights["layer3.0.conv1.weight"][5] = 0
    graph = network_graph(spec, weights, 16, 16)
    logits, _ = run(write(graph), images)
    model = write(graph, quantise="dynamic_int8")
    details = interpreter.Interpreter(model_content=model).get_tensor_details()
    types = {detail["name"]: detail["dtype"] for detail in details}
    assert types["logits.weight"] == types["layer3.0.conv1.weight"] == np.int8
    assert types["layer3.0.shortcut.weight"] == types["conv1.weight"] == types["logits"] == np.float32
    assert np.abs(run(model, images)[0] - logits).max() < 0.1 * logits.std()


def test_a_new_category_is_one_more_row() -> None:
    spec = resnet_cifar(8, 9)
    weights, images = random_weights(spec, 3), noise(4, 32, 32, 3)
    logits, feature = run(write(network_graph(spec, weights, 32, 32)), images)
    grown = dict(weights)
    grown["linear.weight"], grown["linear.bias"] = append_row(
        weights["linear.weight"], weights["linear.bias"], feature.mean(axis=0)
    )
    more_logits, same_feature = run(write(network_graph(resnet_cifar(8, 10), grown, 32, 32)), images)
    assert more_logits.shape == (4, 10)
    assert np.allclose(more_logits[:, :9], logits, atol=1e-6)
    assert np.allclose(more_logits[:, 9], feature @ grown["linear.weight"][9] + grown["linear.bias"][9], atol=1e-5)
    assert np.array_equal(same_feature, feature)


def test_the_same_graph_gives_the_same_bytes() -> None:
    spec = resnet_cifar(8, 10)
    first, second = (
        write(network_graph(spec, random_weights(spec, 4), 32, 32), quantise="dynamic_int8", description="d")
        for _ in range(2)
    )
    assert first == second
    assert first[4:8] == b"TFL3"


def test_a_wrong_model_is_noticed() -> None:
    spec = resnet_cifar(8, 10)
    weights, images = random_weights(spec, 5), noise(2, 32, 32, 3)
    logits, feature = torch_outputs(spec, weights, images)
    wrong = dict(weights)
    wrong["bn1.bias"] = weights["bn1.bias"] + np.float32(0.01)
    with pytest.raises(MismatchError, match="off by"):
        check(write(network_graph(spec, wrong, 32, 32)), images, logits, feature, 1e-5)
    with pytest.raises(MismatchError, match=r"is \(2, 10\)"):
        check(write(network_graph(spec, weights, 32, 32)), images, logits[:, :9], feature, 1e-5)
    with pytest.raises(MismatchError, match="off by nan"):
        check(write(network_graph(spec, weights, 32, 32)), images, logits * np.nan, feature, 1e-5)


def test_features_come_in_batches_and_in_order() -> None:
    spec, takes = resnet_cifar(8, 3, widths=(4, 6, 8)), InputSpec(16, 16, (0.5,) * 3, (0.25,) * 3)
    model = write(network_graph(spec, random_weights(spec, 0), 16, 16))
    images = np.random.default_rng(0).integers(0, 256, (2 * BATCH + 3, 16, 16, 3), dtype=np.uint8)
    found = features(model, images, takes)
    assert found.shape == (len(images), 8)
    np.testing.assert_allclose(found, run(model, normalise(images, takes))[1], rtol=1e-5, atol=1e-5)
