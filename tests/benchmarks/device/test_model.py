"""The bundle that all benchmarks of the device share is one that the device takes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from agent.adapters.inference import Classifier
from benchmarks.device import model
from transfer import bundle, signing
from transfer.blueprint import parameters
from transfer.spec import resnet_cifar
from transfer.tflite import Quantise

TINY = resnet_cifar(8, len(model.LABELS), widths=(4, 6, 8))


def test_it_has_half_a_million_parameters() -> None:
    assert 0.5e6 <= parameters(model.SPEC) <= 0.54e6


@pytest.mark.parametrize("quantise", ["none", "dynamic_int8"])
def test_it_is_served_like_any_other(tmp_path: Path, quantise: Quantise) -> None:
    key = signing.generate(tmp_path / "key")
    made = model.bundle_of_half_a_million(tmp_path / "bundle", quantise, key=key, spec=TINY)
    found = bundle.load(made, trusted=[signing.public_key_hex(key)])
    verdicts = Classifier(found, 1, false_alarm_rate=0.1).classify(model.images(30, seed=5))
    assert len(verdicts) == 300 and {verdict.label for verdict in verdicts} <= set(model.LABELS)
    # The scale of novelty is the served model's own: about as many are flagged as were asked for.
    assert 0.03 < np.mean([verdict.novel for verdict in verdicts]) < 0.25
    held_out = found.holdout()
    assert held_out is not None and len(held_out[0]) == model.HELD_OUT_EACH * len(model.LABELS)


def test_other_seeds_are_other_models_for_the_same_images(tmp_path: Path) -> None:
    one, two = (model.bundle_of_half_a_million(tmp_path / f"{seed}", seed=seed, spec=TINY) for seed in (1, 2))
    assert bundle.load(one, trusted=None).digest != bundle.load(two, trusted=None).digest
    again = model.bundle_of_half_a_million(tmp_path / "again", seed=1, spec=TINY)
    assert bundle.load(one, trusted=None).digest == bundle.load(again, trusted=None).digest


def test_images_are_all_different(tmp_path: Path) -> None:
    pictures = model.images(3, seed=1)
    assert pictures.shape == (30, model.SIDE, model.SIDE, 3) and pictures.dtype == np.uint8
    assert len({picture.tobytes() for picture in pictures}) == 30
    assert not np.array_equal(pictures, model.images(3, seed=2))
