"""The arithmetic of the ratios on known numbers, that all peers do the same work, and a whole run at toy size."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.device import inference, model
from benchmarks.device.conditions import Conditions
from benchmarks.device.inference import CLASSIFY, OURS, DisagreementError, agree, contenders, findings
from transfer.preprocess import normalise
from transfer.spec import resnet_cifar

pytest.importorskip("onnxruntime", reason="onnxruntime is not installed (extra `bench`)")

TINY = resnet_cifar(8, len(model.LABELS), widths=(4, 6, 8))
PICTURES = normalise(model.images(1, 0)[:2], model.INPUT)


@pytest.fixture(autouse=True)
def threads() -> Any:
    """The benchmark gives torch one thread; whoever is tested next gets back what there was."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_a_ratio_is_ours_by_theirs() -> None:
    one = {OURS: [1.0, 2.0], "torch_eager": [10.0, 20.0], "onnxruntime": [4.0, 8.0], CLASSIFY: [1.25, 2.5]}
    many = {OURS: [8.0, 8.0], "torch_eager": [16.0, 16.0], "onnxruntime": [10.0, 10.0], CLASSIFY: [10.0, 10.0]}
    found = findings({1: one, 32: many}, {"top1_loss_pt": 0.1}, [], [])
    figures = found.figures
    assert (figures["vs_torch_eager"], figures["vs_onnxruntime"]) == (0.1, 0.25)
    assert (figures["vs_torch_eager_batch32"], figures["vs_onnxruntime_batch32"]) == (0.5, 0.8)
    assert figures["share_not_model"] == pytest.approx(0.2) == figures["share_not_model_batch32"]
    assert figures["vs_litert_fp32"] is None and figures["top1_loss_pt"] == 0.1
    assert [row["images_a_second"] for row in found.rows if row["peer"] == OURS] == [1 / 1.5, 4.0]


def test_all_peers_do_the_same_work() -> None:
    peers = contenders(TINY, model.random_weights(TINY, 0), PICTURES, [])
    assert set(peers) == {OURS, "litert_fp32", "torch_eager", "torch_channels_last", "onnxruntime"}
    agree(peers)
    logits, feature = peers["torch_eager"]()
    assert (logits.shape, feature.shape) == ((2, 10), (2, 8))


def test_a_peer_that_computes_something_else_is_noticed() -> None:
    peers = contenders(TINY, model.random_weights(TINY, 0), PICTURES, [])
    other = contenders(TINY, model.random_weights(TINY, 1), PICTURES, [])
    with pytest.raises(DisagreementError, match="onnxruntime is off by"):
        agree(peers | {"onnxruntime": other["onnxruntime"]})
    with pytest.raises(DisagreementError, match="ours is off by inf"):
        agree(peers | {OURS: lambda: tuple(part[:1] for part in other[OURS]())})


def test_a_peer_that_is_not_installed_is_left_out_once(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name in ("torch", "onnxruntime"):
            raise ImportError(f"No module named {name!r}")
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    notes: list[str] = []
    for _ in range(2):
        peers = contenders(TINY, model.random_weights(TINY, 0), PICTURES, notes)
    assert set(peers) == {OURS, "litert_fp32"}
    assert sorted(notes) == [
        "onnxruntime is left out: No module named 'onnxruntime'.",
        "torch_channels_last is left out: No module named 'torch'.",
        "torch_eager is left out: No module named 'torch'.",
    ]


def test_a_run_at_toy_size(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(inference, "QUICK_ROUNDS", {1: 2, 3: 1})
    made = model.bundle_of_half_a_million
    monkeypatch.setattr(inference, "bundle_of_half_a_million", lambda *given: made(*given, spec=TINY))
    found = inference.measure(Conditions(quick=True, cache=tmp_path))
    assert {(row["peer"], row["batch"]) for row in found.rows} == {
        (peer, batch)
        for peer in (OURS, "litert_fp32", "torch_eager", "torch_channels_last", "onnxruntime", CLASSIFY)
        for batch in (1, 3)
    }
    assert all(row["median_ms"] > 0 for row in found.rows)
    assert found.figures["vs_torch_eager"] is not None and set(found.targets) <= set(found.figures)
    assert found.figures["top1_loss_pt"] is None and "--data-dir" in found.notes[-1]
