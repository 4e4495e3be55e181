"""A small file that remembers how the last generations were judged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from tiny_world import OLD, World, images

from agent.adapters import judgements as module
from agent.adapters.judgements import Judgement, Judgements, golden, judged
from agent.core.facts import Scores
from transfer import bundle

SCORES = Scores(0.9, 0.88, 0.1, 0.8, 100, 20, weakest="lime")


def test_what_was_found_out_is_there_after_a_restart(tmp_path: Path, world: World) -> None:
    found = judged(world.classifier(2), world.bundle(), 2, 5.0, SCORES, ["lime"])
    Judgements(tmp_path / "j.json").add("d" * 64, found)
    assert Judgements(tmp_path / "j.json").of("d" * 64) == found
    assert found.right == len(found.answers) == 30 and set(found.answers) == set(OLD)


def test_only_the_last_are_kept(tmp_path: Path) -> None:
    judgements = Judgements(tmp_path / "j.json")
    for number in range(module.KEPT + 3):
        judgements.add(f"{number:064x}", Judgement(generation=number, at_utc=0.0))
    again = Judgements(tmp_path / "j.json")
    assert again.of(f"{2:064x}") is None and again.of(f"{3:064x}") is not None


@pytest.mark.parametrize("damage", [b"", b"{", b'{"a": 1}', b"\xff\xfe", b'{"a": {"generation": "x", "at_utc": 0}}'])
def test_a_file_that_cannot_be_read_is_none(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / "j.json").write_bytes(damage)
    judgements = Judgements(tmp_path / "j.json")
    assert judgements.of("a") is None
    judgements.add("a", Judgement(generation=1, at_utc=0.0))
    assert Judgements(tmp_path / "j.json").of("a") is not None


def test_a_disk_that_refuses_costs_the_memory_only(tmp_path: Path) -> None:
    judgements = Judgements(tmp_path / "nowhere" / "j.json")
    with pytest.raises(OSError):
        judgements.add("a", Judgement(generation=1, at_utc=0.0))
    assert judgements.of("a") is not None


def test_golden_images_are_few_and_of_every_category(
    tmp_path: Path, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = np.concatenate([images(label, 100) for label in OLD])
    held = safetensors.numpy.save({"images": many, "targets": np.repeat(np.arange(3), 100)})
    altered = bundle.load(world.altered(tmp_path / "many", files={bundle.HOLDOUT: held}), trusted=None)
    pictures, truth = golden(altered)
    assert len(pictures) == module.MOST and {truth.count(label) for label in OLD} <= {21, 22}
    monkeypatch.setattr(module, "MOST_BYTES", 5 * pictures[0].nbytes)
    assert len(golden(altered)[0]) == 5  # large images: fewer of them, for they stay in memory
