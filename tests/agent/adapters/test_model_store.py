"""Generations are whole or not there, and one pointer is the only truth, wherever the power goes."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.adapters.model_store import ModelStore, ModelStoreError
from transfer import bundle, signing
from transfer.bundle import BundleError, Manifest
from transfer.spec import BlockSpec, InputSpec, NetSpec

ROOT = Path(__file__).resolve().parents[3]
NET = NetSpec(4, 1, ((BlockSpec(4, 4),),), 2)
MANIFEST = Manifest(kind="student", name="s", labels=("a", "b"), input=InputSpec(8, 8, (0.0,) * 3, (1.0,) * 3), net=NET)


@pytest.fixture
def key(tmp_path: Path) -> signing.SigningKey:
    return signing.generate(tmp_path / "key")


def make_bundle(directory: Path, key: signing.SigningKey | None, content: bytes = b"1") -> Path:
    """The store looks at names and hashes only, so the files need not be a working model."""
    names = ("weights.safetensors", "model.tflite", "statistics.safetensors")
    bundle.save(directory, MANIFEST, {name: name.encode() + content for name in names}, key)
    return directory


def store_with(state: Path, tmp_path: Path, key: signing.SigningKey, count: int) -> ModelStore:
    """A store of `count` generations, each promoted when it came."""
    store = ModelStore(state)
    for n in range(count):
        source = make_bundle(tmp_path / f"candidate-{os.urandom(4).hex()}", None, b"%d" % n)
        store.promote(store.adopt(source, key))
    return store


def numbers(store: ModelStore) -> tuple[int | None, int | None]:
    active, previous = store.active(), store.previous()
    return (active and active[0], previous and previous[0])


def spoil(store: ModelStore, number: int) -> None:
    (store.path(number) / "model.tflite").write_bytes(b"bit rot")


def test_a_new_store_has_nothing(tmp_path: Path) -> None:
    store = ModelStore(tmp_path / "state")
    assert store.repair() == []
    assert numbers(store) == (None, None) and store.numbers() == []
    with pytest.raises(ModelStoreError, match="no previous"):
        store.roll_back()


def test_import_verifies_and_copies(tmp_path: Path, key: signing.SigningKey) -> None:
    source = make_bundle(tmp_path / "source", key)
    store = ModelStore(tmp_path / "state")
    number = store.import_bundle(source, [signing.public_key_hex(key)])
    assert number == 1 and numbers(store) == (None, None)
    shutil.rmtree(source)
    assert store.load(1).manifest.labels == ("a", "b")
    store.promote(1)
    assert store.active() == (1, tmp_path / "state/models/generations/000001")


@pytest.mark.parametrize("fault", ["unsigned", "stranger", "spoiled"])
def test_a_bundle_that_is_not_to_be_trusted_leaves_nothing(tmp_path: Path, key: signing.SigningKey, fault: str) -> None:
    source = make_bundle(tmp_path / "source", None if fault == "unsigned" else key)
    if fault == "spoiled":
        (source / "model.tflite").write_bytes(b"other")
    trusted = signing.public_key_hex(signing.generate(tmp_path / "other") if fault == "stranger" else key)
    store = ModelStore(tmp_path / "state")
    with pytest.raises(BundleError):
        store.import_bundle(source, [trusted])
    assert store.numbers() == []


def test_a_teacher_is_no_model_for_the_device(tmp_path: Path, key: signing.SigningKey) -> None:
    manifest = Manifest(kind="teacher", name="t", labels=("a", "b"), input=MANIFEST.input, net=NET)
    bundle.save(tmp_path / "teacher", manifest, {"weights.safetensors": b""}, key)
    with pytest.raises(BundleError, match="students only"):
        ModelStore(tmp_path / "state").import_bundle(tmp_path / "teacher", [signing.public_key_hex(key)])


def test_adopt_signs_with_the_devices_key(tmp_path: Path, key: signing.SigningKey) -> None:
    candidate = make_bundle(tmp_path / "candidate", None)
    store = ModelStore(tmp_path / "state")
    number = store.adopt(candidate, key)
    adopted = bundle.load(store.path(number), trusted=[signing.public_key_hex(key)])
    assert adopted.digest == bundle.load(candidate, trusted=None).digest


def test_promote_and_roll_back_move_the_pointer_only(tmp_path: Path, key: signing.SigningKey) -> None:
    store = store_with(tmp_path / "state", tmp_path, key, 2)
    assert numbers(store) == (2, 1)
    before = {p: p.read_bytes() for p in store.path(1).iterdir()}
    assert store.roll_back() == 1
    assert {p: p.read_bytes() for p in store.path(1).iterdir()} == before
    assert numbers(ModelStore(tmp_path / "state")) == (1, None)


@pytest.mark.spec("10.5")
@pytest.mark.parametrize("generations", [1, 2, 4])
def test_going_back_restores_what_was_before_byte_for_byte(
    tmp_path: Path, key: signing.SigningKey, generations: int
) -> None:
    """The pointer and every generation that was there. What failed is no longer offered: going back once more leads
    further back, not to it."""
    store = store_with(tmp_path / "state", tmp_path, key, generations)
    models = tmp_path / "state" / "models"

    def served() -> dict[str, bytes]:
        files = [models / "pointer.json", models / "pointer.bak", *models.rglob("generations/*/*")]
        return {str(path): path.read_bytes() for path in files}

    before = served()
    store.promote(store.adopt(make_bundle(tmp_path / "failing", None, b"failing"), key))
    assert store.collect_garbage(keep=0) is not None
    assert store.roll_back() == generations
    after = served()
    assert {path: after[path] for path in before if path in after} == {p: before[p] for p in before if p in after}
    assert after[str(models / "pointer.json")] == before[str(models / "pointer.json")]
    if generations > 1:
        assert store.roll_back() == generations - 1


@pytest.mark.spec("10.1")
def test_a_changed_byte_anywhere_is_noticed(tmp_path: Path, key: signing.SigningKey) -> None:
    """Manifest and signature included: a label with another letter is as wrong as another weight."""
    store = store_with(tmp_path / "state", tmp_path, key, 1)
    files = sorted(path for path in store.path(1).iterdir())

    @settings(deadline=None, max_examples=200)
    @given(st.sampled_from(files), st.integers(0, 2000), st.integers(0, 7))
    def flipped(path: Path, place: int, bit: int) -> None:
        whole = path.read_bytes()
        damaged = bytearray(whole)
        damaged[place % len(whole)] ^= 1 << bit
        path.write_bytes(damaged)
        try:
            with pytest.raises(BundleError):
                store.load(1)
        finally:
            path.write_bytes(whole)

    flipped()
    store.load(1)


def test_repeated_orders_find_their_work_done(tmp_path: Path, key: signing.SigningKey) -> None:
    store = store_with(tmp_path / "state", tmp_path, key, 2)
    store.promote(2)
    assert numbers(store) == (2, 1)
    assert store.roll_back(1) == store.roll_back(1) == 1
    assert numbers(store) == (1, None)


def test_what_does_not_verify_is_neither_promoted_nor_rolled_back_to(tmp_path: Path, key: signing.SigningKey) -> None:
    store = store_with(tmp_path / "state", tmp_path, key, 2)
    third = store.adopt(make_bundle(tmp_path / "c", None), key)
    spoil(store, third)
    spoil(store, 1)
    for order in (lambda: store.promote(third), store.roll_back, lambda: store.promote(77)):
        with pytest.raises(BundleError):
            order()
    assert numbers(store) == (2, 1)


def test_numbers_are_never_used_twice(tmp_path: Path, key: signing.SigningKey) -> None:
    store = store_with(tmp_path / "state", tmp_path, key, 2)
    candidate = make_bundle(tmp_path / "c", None)
    assert store.adopt(candidate, key) == 3
    store.discard(3)
    assert ModelStore(tmp_path / "state").adopt(candidate, key) == 4
    (tmp_path / "state/models/last_number").write_bytes(b"\xffgarbage")
    assert store.adopt(candidate, key) == 5


def test_discard_and_garbage_spare_what_is_needed(tmp_path: Path, key: signing.SigningKey) -> None:
    store = store_with(tmp_path / "state", tmp_path, key, 6)
    for number in (5, 6):
        with pytest.raises(ModelStoreError):
            store.discard(number)
    store.discard(99)
    assert store.collect_garbage(keep=1, candidates=[2]) == [1, 3]
    assert store.numbers() == [2, 4, 5, 6]  # 4 would be the previous one after going back to 5
    assert store.collect_garbage(keep=0) == [2]
    store.roll_back()
    assert numbers(store) == (5, 4)
    assert store.collect_garbage(keep=0) == [6]


@pytest.mark.parametrize("damage", [None, b"", b"{", b'{"active":"two"}', b"\xff\xfe", b"[1,2]"])
def test_a_lost_pointer_is_taken_from_its_copy(tmp_path: Path, key: signing.SigningKey, damage: bytes | None) -> None:
    state = tmp_path / "state"
    store_with(state, tmp_path, key, 3)
    pointer = state / "models/pointer.json"
    pointer.unlink() if damage is None else pointer.write_bytes(damage)
    store = ModelStore(state)
    assert any("pointer.json" in note for note in store.repair())
    assert numbers(store) == (3, 2)
    assert store.repair() == []


def test_without_any_pointer_the_newest_that_verifies_serves(tmp_path: Path, key: signing.SigningKey) -> None:
    state = tmp_path / "state"
    store = store_with(state, tmp_path, key, 3)
    spoil(store, 3)
    for name in ("pointer.json", "pointer.bak"):
        (state / "models" / name).write_bytes(b"zeros\0\0\0")
    notes = ModelStore(state).repair()
    assert numbers(store) == (2, None)
    assert any("generation 3 does not verify (hash_mismatch)" in note for note in notes)


def test_a_corrupt_active_generation_gives_way_to_the_previous(tmp_path: Path, key: signing.SigningKey) -> None:
    store = store_with(tmp_path / "state", tmp_path, key, 3)
    spoil(store, 3)
    notes = store.repair()
    assert numbers(store) == (2, None)
    assert notes[0].startswith("generation 3 does not verify") and "went back to generation 2" in notes[1]


def test_a_removed_previous_generation_is_no_longer_offered(tmp_path: Path, key: signing.SigningKey) -> None:
    store = store_with(tmp_path / "state", tmp_path, key, 2)
    shutil.rmtree(store.path(1))
    assert store.repair() != []
    assert numbers(store) == (2, None)


def test_with_nothing_left_there_is_no_active_generation(tmp_path: Path, key: signing.SigningKey) -> None:
    store = store_with(tmp_path / "state", tmp_path, key, 2)
    spoil(store, 1)
    spoil(store, 2)
    assert store.repair()[-1] == "no generation verifies"
    assert numbers(store) == (None, None)


# The process is killed at its n-th step that changes the disk. The step is a real one; only the moment is ours.
KILLED = """
import os, signal, sys
from pathlib import Path
from agent.adapters.model_store import ModelStore
from transfer import signing

left = int(sys.argv[1])

def deadly(real):
    def step(*arguments, **keywords):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments, **keywords)
    return step

store = ModelStore(Path(sys.argv[2]))
key = signing.load_key(Path(sys.argv[4]))
for name in ("replace", "rename", "fsync", "rmdir", "unlink", "mkdir"):
    setattr(os, name, deadly(getattr(os, name)))
third = store.adopt(Path(sys.argv[3]), key)
store.promote(third)
store.roll_back(2)
store.promote(third)
store.collect_garbage(keep=0)
print("survived", left)
"""


def test_killed_at_any_step_there_is_an_active_generation_and_a_way_on(tmp_path: Path, key: signing.SigningKey) -> None:
    pristine = tmp_path / "pristine"
    store_with(pristine, tmp_path, key, 2)
    candidate = make_bundle(tmp_path / "candidate", None, b"third")
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    environment = os.environ | {"PYTHONPATH": path}
    script = tmp_path / "killed.py"
    script.write_text(textwrap.dedent(KILLED))
    arguments = [str(candidate), str(tmp_path / "key")]

    def run(step: int, state: Path) -> subprocess.CompletedProcess[str]:
        shutil.copytree(pristine, state)
        command = [sys.executable, str(script), str(step), str(state), *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    undisturbed = run(10_000, tmp_path / "undisturbed")
    assert undisturbed.returncode == 0, undisturbed.stderr
    steps = 10_000 - int(undisturbed.stdout.split()[1])
    assert steps > 20
    seen_states = set()
    # All steps would take long on a small machine; an odd stride meets each kind of step (fsync, rename, ...).
    for step in range(1, steps + 1, 3):
        state = tmp_path / f"state-{step}"
        assert run(step, state).returncode == -signal.SIGKILL
        store = ModelStore(state)
        store.repair()
        active, previous = numbers(store)
        assert (active, previous) in {(2, 1), (3, 2)}
        seen_states.add((active, previous))
        assert all(store.load(n) for n in store.numbers())  # no half made generation passes for one
        assert not [p for p in (state / "models/generations").iterdir() if p.name.startswith(".")]
        fourth = store.adopt(candidate, key)
        assert fourth > 2
        store.promote(fourth)
        assert numbers(store) == (fourth, active)
        shutil.rmtree(state)
    assert seen_states == {(2, 1), (3, 2)}


def test_a_full_disk_leaves_the_store_as_it_was(
    tmp_path: Path, key: signing.SigningKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = store_with(tmp_path / "state", tmp_path, key, 2)
    third = store.adopt(make_bundle(tmp_path / "c", None), key)

    def refuse(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    for order in (lambda: store.promote(third), store.roll_back, lambda: store.adopt(tmp_path / "c", key)):
        with pytest.raises(OSError, match="No space"):
            order()
    monkeypatch.undo()
    assert numbers(store) == (2, 1) and store.numbers() == [1, 2, 3]
    assert json.loads((tmp_path / "state/models/pointer.json").read_bytes()) == {"active": 2, "previous": 1}
    assert store.repair() == []


@pytest.mark.spec("7.4", "7.2")
def test_a_flip_that_could_not_be_made_durable_is_taken_back(
    tmp_path: Path, key: signing.SigningKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its round is told to have failed; after a restart it must not serve all the same."""
    store = store_with(tmp_path / "state", tmp_path, key, 2)
    third = store.adopt(make_bundle(tmp_path / "c", None), key)
    sync, pointer = os.fsync, tmp_path / "state/models/pointer.json"

    def refuse_after_the_flip(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode) and json.loads(pointer.read_bytes())["active"] == third:
            raise OSError(errno.EIO, "Input/output error")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", refuse_after_the_flip)
    with pytest.raises(OSError, match="Input/output"):
        store.promote(third)
    monkeypatch.undo()
    assert numbers(store) == numbers(ModelStore(tmp_path / "state")) == (2, 1)
    store.promote(third)
    assert numbers(store) == (3, 2)
