"""Which model a start serves with: what cannot be served is not active, and what ends the daemon is given up."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_world import OLD, SIDE, World, fitted, images

from agent.adapters.inference import InferenceError
from agent.adapters.model_store import ModelStore
from agent.adapters.start_record import StartRecord
from agent.config import Config, Model
from agent.first_model import STARTS, FirstModel, FirstModelError, first_model
from transfer import bundle, tflite
from transfer.bundle import BundleError
from transfer.graph import network_graph
from transfer.spec import InputSpec, resnet_cifar


def begin(state: Path, **model: Any) -> FirstModel:
    """As the daemon does it at each start."""
    models = ModelStore(state)
    models.repair()
    return first_model(Config(model=Model(**model)), models, StartRecord(state / "start.json"))


def generations(state: Path, world: World, count: int) -> ModelStore:
    store = ModelStore(state)
    for _ in range(count):
        store.promote(store.import_bundle(world.student, [world.public]))
    return store


def serving(first: FirstModel) -> int:
    return first.classifier.generation


# ------------------------------------------------------------------------------------------------ bad bundles


def written(weights: dict[str, np.ndarray], net: Any, side: int = SIDE) -> dict[str, bytes]:
    model = tflite.write(network_graph(net, weights, side, side))
    return {bundle.WEIGHTS: safetensors.numpy.save(weights), bundle.MODEL: model}


def made_bad(world: World, folder: Path, how: str) -> Path:
    """A bundle, signed by whom the device trusts, that must not be served."""
    student = world.bundle()
    net, weights = student.manifest.net, student.weights()
    if how == "weights that are no numbers":
        weights["linear.bias"] = np.full_like(weights["linear.bias"], np.nan)
        return world.altered(folder, files=written(weights, net))
    if how == "no numbers beside a good model":
        weights["linear.bias"] = np.full_like(weights["linear.bias"], np.nan)
        return world.altered(folder, files={bundle.WEIGHTS: safetensors.numpy.save(weights)})
    if how == "images of another size":
        return world.altered(folder, files=written(weights, net, side=SIDE * 2))
    if how == "a manifest of another size":
        other = InputSpec(SIDE * 2, SIDE * 2, student.manifest.input.mean, student.manifest.input.std)
        return world.altered(folder, input=other)
    if how == "fewer outputs than labels":
        narrow = resnet_cifar(8, 2, widths=(4, 6, 8))
        return world.altered(folder, files={bundle.MODEL: written(fitted(narrow, OLD[:2], 5), narrow)[bundle.MODEL]})
    if how == "statistics of more labels":
        return world.altered(folder, labels=OLD[:2])
    if how == "held-out images of no category":
        held = safetensors.numpy.save({"images": images("amber", 4), "targets": np.array([0, 1, 2, 7])})
        return world.altered(folder, files={bundle.HOLDOUT: held})
    assert how == "not a model"
    return world.altered(folder, files={bundle.MODEL: b"TFL3 but no more"})


BAD = (
    "weights that are no numbers",
    "no numbers beside a good model",
    "images of another size",
    "a manifest of another size",
    "fewer outputs than labels",
    "statistics of more labels",
    "held-out images of no category",
    "not a model",
)


@pytest.mark.spec("10.2")
@pytest.mark.parametrize("how", BAD)
def test_a_signed_bundle_that_cannot_be_served_never_becomes_active(world: World, tmp_path: Path, how: str) -> None:
    bad = made_bad(world, tmp_path / "bad", how)
    with pytest.raises((BundleError, InferenceError)):
        begin(tmp_path, bundle=str(bad), trusted_keys=(world.public,))
    store = ModelStore(tmp_path)
    assert store.active() is None and store.numbers() == []
    # The operator mends the configuration: nothing of the bad one is in the way.
    assert serving(begin(tmp_path, bundle=str(world.student), trusted_keys=(world.public,))) == 2


@pytest.mark.spec("10.2")
def test_an_unsigned_or_strangers_bundle_never_becomes_active(world: World, tmp_path: Path) -> None:
    (tmp_path / "copy").mkdir()
    for file in world.student.iterdir():
        (tmp_path / "copy" / file.name).write_bytes(file.read_bytes())
    with pytest.raises(BundleError, match="not trusted"):
        begin(tmp_path, bundle=str(tmp_path / "copy"), trusted_keys=("ab" * 32,))
    (tmp_path / "copy" / bundle.SIGNATURE).unlink()
    with pytest.raises(BundleError):
        begin(tmp_path, bundle=str(tmp_path / "copy"), trusted_keys=(world.public,))
    assert ModelStore(tmp_path).active() is None


@pytest.mark.spec("10.2", "4.1")
def test_a_byte_changed_anywhere_on_disk_gives_way_to_the_last_good_one(world: World, tmp_path: Path) -> None:
    """Whichever file of the active generation it is, at whichever place: it is noticed, and the start serves."""
    store = generations(tmp_path, world, 2)
    files = sorted(store.path(2).iterdir())

    @settings(deadline=None, max_examples=40)
    @given(st.sampled_from(files), st.floats(0, 1, exclude_max=True), st.integers(0, 7))
    def flipped(path: Path, place: float, bit: int) -> None:
        whole = path.read_bytes()
        damaged = bytearray(whole)
        damaged[int(place * len(whole))] ^= 1 << bit
        path.write_bytes(damaged)
        try:
            assert serving(begin(tmp_path)) == 1
        finally:
            path.write_bytes(whole)
            StartRecord(tmp_path / "start.json").settle()
            store.promote(2)

    flipped()


@pytest.mark.spec("7.2")
def test_a_first_start_that_was_cut_off_is_finished(world: World, tmp_path: Path) -> None:
    """Killed between taking in and promoting: nothing was damaged, and the bundle may be gone."""
    ModelStore(tmp_path).import_bundle(world.student, [world.public])
    assert ModelStore(tmp_path).repair() == []
    assert serving(begin(tmp_path)) == 1
    found = ModelStore(tmp_path).active()
    assert found is not None and found[0] == 1


@pytest.mark.spec("10.2")
def test_what_a_first_start_that_was_cut_off_took_in_is_examined(world: World, tmp_path: Path) -> None:
    store = ModelStore(tmp_path / "state")
    bad = made_bad(world, tmp_path / "bad", "weights that are no numbers")
    assert store.import_bundle(bad, [world.public]) == 1
    with pytest.raises(FirstModelError):
        begin(tmp_path / "state")
    assert store.numbers() == [] and store.active() is None
    assert serving(begin(tmp_path / "state", bundle=str(world.student), trusted_keys=(world.public,))) == 2


# ------------------------------------------------------------------------------------------------ crash loops


@pytest.mark.spec("11.4")
def test_a_model_the_daemon_does_not_stay_up_with_is_given_up_at_the_third_start(world: World, tmp_path: Path) -> None:
    generations(tmp_path, world, 2)
    assert [serving(begin(tmp_path)) for _ in range(STARTS - 1)] == [2, 2]
    third = begin(tmp_path)
    assert serving(third) == 1 and "2 starts in a row did not settle with generation 2" in third.given_up
    assert ModelStore(tmp_path).active() == (1, ModelStore(tmp_path).path(1))
    StartRecord(tmp_path / "start.json").settle()
    assert [serving(begin(tmp_path)) for _ in range(5)] == [1] * 5  # and nothing leads back to it


@pytest.mark.spec("11.4")
def test_where_the_last_good_one_does_not_help_it_was_not_the_model(world: World, tmp_path: Path) -> None:
    """What was learned is not lost to a broken camera: the newer model comes back and stays."""
    generations(tmp_path, world, 3)
    before = (tmp_path / "models" / "pointer.json").read_bytes()
    starts = [begin(tmp_path) for _ in range(9)]
    assert [serving(start) for start in starts] == [3, 3, 2, 2, 3, 3, 3, 3, 3]
    assert "it was not the model" in starts[4].given_up
    assert (tmp_path / "models" / "pointer.json").read_bytes() == before


def test_a_start_that_settled_in_between_begins_the_count_anew(world: World, tmp_path: Path) -> None:
    generations(tmp_path, world, 2)
    for _ in range(3):
        assert [serving(begin(tmp_path)) for _ in range(2)] == [2, 2]
        StartRecord(tmp_path / "start.json").settle()


def test_with_one_generation_there_is_nothing_to_give_it_up_for(world: World, tmp_path: Path) -> None:
    generations(tmp_path, world, 1)
    assert [(serving(start), start.given_up) for start in (begin(tmp_path) for _ in range(6))] == [(1, "")] * 6


def test_one_that_cannot_be_loaded_gives_way_at_once(world: World, tmp_path: Path) -> None:
    """Whole and signed, and yet not for this machine, such as after an update of the interpreter."""
    store = generations(tmp_path, world, 1)
    store.promote(store.import_bundle(made_bad(world, tmp_path / "bad", "not a model"), [world.public]))
    first = begin(tmp_path)
    assert serving(first) == 1 and "generation 2 cannot be loaded" in first.given_up


def test_with_nothing_that_can_be_loaded_the_start_says_so(world: World, tmp_path: Path) -> None:
    store = ModelStore(tmp_path)
    store.promote(store.import_bundle(made_bad(world, tmp_path / "bad", "not a model"), [world.public]))
    with pytest.raises(FirstModelError, match="generation 1 cannot be served, and there is no other"):
        begin(tmp_path)
    with pytest.raises(FirstModelError, match=r"name one with model\.bundle"):
        begin(tmp_path / "empty")


# The process dies as one does whose model is too much for it: in the middle of loading. Only that is ours.
DYING = """
import os, signal, sys
from agent.adapters import inference
real = inference.Interpreter
def deadly(path, *arguments):
    if "000002" in str(path):
        os.kill(os.getpid(), signal.SIGSEGV)
    return real(path, *arguments)
inference.Interpreter = deadly
from agent.__main__ import main
sys.exit(main(["run", "--config", sys.argv[1]]))
"""


@pytest.mark.spec("11.4", "4.1")
def test_the_real_daemon_comes_up_at_the_third_start(world: World, tmp_path: Path, root: Path) -> None:
    generations(tmp_path / "state", world, 2)
    (tmp_path / "in").mkdir()
    (tmp_path / "dying.py").write_text(textwrap.dedent(DYING))
    (tmp_path / "agent.yaml").write_text(
        f"device: {{name: cam, state_dir: {tmp_path / 'state'}}}\nsource: {{folder: {tmp_path / 'in'}}}\n"
        "log: {format: json}\n"
    )
    command = [sys.executable, str(tmp_path / "dying.py"), str(tmp_path / "agent.yaml")]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    for _ in range(STARTS - 1):
        died = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
        assert died.returncode == -signal.SIGSEGV, died.stderr
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as lives:
        assert lives.stderr is not None
        said = []
        for line in lives.stderr:
            said.append(line)
            if '"model_given_up"' in "".join(said) and '"started"' in "".join(said):
                break
        lives.send_signal(signal.SIGTERM)
        said += list(lives.stderr)
    assert lives.returncode == 0, said
    started = next(line for line in said if '"started"' in line)
    assert '"generation": 1' in started
    assert not (tmp_path / "state" / "start.json").exists()  # stopped in good order
