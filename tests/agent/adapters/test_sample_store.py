"""What the store has acknowledged stays, within its quota, whatever happens to process and file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.adapters.sample_store import Sample, SampleStore
from agent.adapters.sqlite_file import DatabaseUnavailable

ROOT = Path(__file__).resolve().parents[3]
FEATURE = np.linspace(0, 1, 16, dtype=np.float32)
NOISE = np.random.default_rng(0).integers(0, 256, (400, 16, 16, 3), np.uint8)  # about 800 bytes each as PNG
ROW_BYTES = 1300


def add(store: SampleStore, n: int, label: str = "cat", category: str = "") -> bool:
    return store.add(f"id{n}", NOISE[n], FEATURE + np.float32(n), 0.5 * n, label, 1e9 + n, category)


def ids(samples: list[Sample]) -> list[str]:
    return [sample.sample_id for sample in samples]


def test_a_sample_comes_back_as_it_went_in(tmp_path: Path) -> None:
    store = SampleStore(tmp_path / "samples.db")
    assert add(store, 3, "dog")
    store.close()
    (sample,) = SampleStore(tmp_path / "samples.db").get(["id3"])
    assert np.array_equal(sample.image, NOISE[3])
    assert sample.feature.dtype == np.float32 and np.array_equal(sample.feature, FEATURE + 3)
    assert (sample.score, sample.label, sample.at_utc) == (1.5, "dog", 1e9 + 3)
    assert (sample.category, sample.reserved_for) == ("", "")


def test_the_same_sample_is_kept_once(tmp_path: Path) -> None:
    store = SampleStore(tmp_path / "samples.db")
    assert add(store, 1) and not add(store, 1)
    assert store.count() == 1


def test_select_is_by_arrival(tmp_path: Path) -> None:
    store = SampleStore(tmp_path / "samples.db")
    for n in (5, 2, 9):
        add(store, n)
    assert ids(store.select(2)) == ["id9", "id2"]
    assert ids(store.select(10, by="oldest")) == ["id5", "id2", "id9"]
    assert store.select(0) == []


def test_get_keeps_the_order_asked_for_and_leaves_out_what_is_not_here(tmp_path: Path) -> None:
    store = SampleStore(tmp_path / "samples.db")
    for n in range(5):
        add(store, n)
    assert ids(store.get(["id4", "none", "id0", "id4"])) == ["id4", "id0"]
    assert ids(store.get([f"id{n}" for n in range(2000)])) == [f"id{n}" for n in range(5)]


def test_the_label_that_a_sample_came_with_is_kept(tmp_path: Path) -> None:
    store = SampleStore(tmp_path / "samples.db")
    for n in range(5):
        add(store, n, category="fox" if n in (1, 3) else "")
    store.close()
    store = SampleStore(tmp_path / "samples.db")
    assert (store.count(), store.count(category="fox"), store.count(category="")) == (5, 2, 3)
    assert store.categories() == {"": 3, "fox": 2}
    assert (store.count_besides(()), store.count_besides(("fox", "owl")), store.count_besides(("",))) == (5, 3, 2)
    assert ids(store.select(9, category="fox")) == ["id3", "id1"]
    assert ids(store.select(9, category="")) == ["id4", "id2", "id0"]


def test_a_sample_that_is_here_can_be_labelled_and_relabelled(tmp_path: Path) -> None:
    """The image arrives a second time, in the folder of its category: it is the same sample."""
    store = SampleStore(tmp_path / "samples.db")
    add(store, 1)
    assert add(store, 1, category="fox") and not add(store, 1, category="fox")
    assert not add(store, 1)  # once more without: what was said stands
    assert add(store, 1, category="owl")
    assert store.categories() == {"owl": 1}


def test_remove_gives_the_room_back(tmp_path: Path) -> None:
    store = SampleStore(tmp_path / "samples.db", max_bytes=3 * ROW_BYTES)
    for n in range(3):
        add(store, n)
    store.reserve(["id0", "id1", "id2"], "job")
    assert not add(store, 3)
    assert store.remove(["id0", "none"]) == 1
    assert add(store, 3)
    assert sorted(ids(store.select(9))) == ["id1", "id2", "id3"]


def test_the_oldest_of_the_commonest_label_makes_room(tmp_path: Path) -> None:
    store = SampleStore(tmp_path / "samples.db", max_bytes=6 * ROW_BYTES)
    add(store, 0, "rare")
    for n in range(1, 20):
        add(store, n, "common")
    kept = store.select(99, by="oldest")
    assert kept[0].sample_id == "id0"
    assert ids(kept[1:]) == [f"id{n}" for n in range(20 - len(kept) + 1, 20)]


def test_a_label_that_came_with_a_sample_is_its_class(tmp_path: Path) -> None:
    """What is new looks like something known: its samples must not go with all that is taken for the same."""
    store = SampleStore(tmp_path / "samples.db", max_bytes=6 * ROW_BYTES)
    add(store, 0, "cat", category="fox")
    for n in range(1, 20):
        add(store, n, "cat")
    assert "id0" in ids(store.select(99))


@pytest.mark.spec("5.2")
@settings(deadline=None, max_examples=25)
@given(
    classes=st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from(("", "fox"))), min_size=20, max_size=60),
    room=st.integers(5, 15),
)
def test_no_class_is_crowded_out(
    tmp_path_factory: pytest.TempPathFactory, classes: list[tuple[str, str]], room: int
) -> None:
    """Whatever comes in whatever order: every class has all of its samples, or an even share of the room, and those
    that it has are its newest."""
    store = SampleStore(tmp_path_factory.mktemp("store") / "samples.db", max_bytes=room * ROW_BYTES)
    came: dict[str, list[str]] = {}
    for n, (label, category) in enumerate(classes):
        assert add(store, n, label, category)
        came.setdefault(category or label, []).append(f"id{n}")
    kept = {sample.sample_id for sample in store.select(99)}
    smallest_share = (len(kept) - 1) // len(came)  # the last one came before there was room for it
    for name, samples in came.items():
        mine = [i for i in samples if i in kept]
        assert len(mine) >= min(len(samples), smallest_share), f"class {name} was crowded out"
        assert mine == samples[len(samples) - len(mine) :], "an older one was kept for a newer one"


def test_what_is_refused_is_counted(tmp_path: Path) -> None:
    store = SampleStore(tmp_path / "samples.db", max_bytes=500)
    add(store, 1)
    add(store, 2)
    assert store.refused == 2 and store.trouble == (0, "")


def test_reserved_samples_stay_until_released(tmp_path: Path) -> None:
    store = SampleStore(tmp_path / "samples.db", max_bytes=6 * ROW_BYTES)
    for n in range(4):
        add(store, n)
    assert store.reserve(["id0", "id1"], "job-1") == 2
    for n in range(4, 30):
        assert add(store, n)
    assert ids(store.get(["id0", "id1"])) == ["id0", "id1"]
    assert {s.reserved_for for s in store.get(["id0", "id1"])} == {"job-1"}
    assert store.release("job-1") == 2 and store.release("job-1") == 0
    for n in range(30, 50):
        add(store, n)
    assert store.get(["id0", "id1"]) == []


def test_when_all_is_reserved_a_sample_is_refused_and_nothing_evicted(tmp_path: Path) -> None:
    store = SampleStore(tmp_path / "samples.db", max_bytes=4 * ROW_BYTES)
    n = 0
    while store.count() == n:
        add(store, n)
        n += 1
    before = ids(store.select(99))
    store.reserve(before, "job")
    assert not add(store, 100)
    assert ids(store.select(99)) == before


def test_a_sample_larger_than_the_quota_is_refused(tmp_path: Path) -> None:
    store = SampleStore(tmp_path / "samples.db", max_bytes=500)
    assert not add(store, 1)


@pytest.mark.parametrize("bad", [np.array([np.nan], np.float32), np.zeros(3), np.zeros((2, 2), np.float32)])
def test_a_feature_that_is_none_is_the_callers_error(tmp_path: Path, bad: np.ndarray) -> None:
    with pytest.raises(ValueError, match="feature of x"):
        SampleStore(tmp_path / "samples.db").add("x", NOISE[0], bad, 0.0, "cat", 0.0)


def test_a_score_must_be_a_number(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="score of x"):
        SampleStore(tmp_path / "samples.db").add("x", NOISE[0], FEATURE, float("nan"), "cat", 0.0)


def test_a_corrupt_store_does_not_stop_the_start(tmp_path: Path) -> None:
    (tmp_path / "samples.db").write_bytes(b"\x01garbage" * 4000)
    store = SampleStore(tmp_path / "samples.db")
    assert store.quarantined == tmp_path / "samples.db.corrupt-1"
    assert add(store, 1) and store.count() == 1


def test_a_spoiled_picture_is_left_out(tmp_path: Path) -> None:
    store = SampleStore(tmp_path / "samples.db")
    add(store, 1)
    add(store, 2)
    store.close()
    content = (tmp_path / "samples.db").read_bytes()
    at = content.index(b"IDAT") + 100
    (tmp_path / "samples.db").write_bytes(content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :])
    assert len(SampleStore(tmp_path / "samples.db").select(9)) == 1


def test_without_a_disk_nothing_is_acknowledged(tmp_path: Path) -> None:
    (tmp_path / "state").write_bytes(b"a file where the folder should be")
    store = SampleStore(tmp_path / "state" / "samples.db")
    assert not add(store, 1)
    assert (store.count(), store.select(5), store.get(["id1"])) == (0, [], [])
    with pytest.raises(DatabaseUnavailable):
        store.reserve(["id1"], "job")
    (tmp_path / "state").unlink()
    assert add(store, 1) and store.count() == 1


WRITER = """
import sys
import numpy as np
from pathlib import Path
from agent.adapters.sample_store import SampleStore
store = SampleStore(Path(sys.argv[1]))
rng = np.random.default_rng(int(sys.argv[2]))
for n in range(10_000):
    image = rng.integers(0, 256, (16, 16, 3), np.uint8)
    if store.add(f"{sys.argv[2]}-{n}", image, np.zeros(16, np.float32), 0.0, "cat", 0.0):
        print(f"{sys.argv[2]}-{n}", flush=True)
"""


def test_every_acknowledged_sample_survives_sigkill(tmp_path: Path) -> None:
    acknowledged: list[str] = []
    for run, kill_after in enumerate((1, 17, 40)):
        arguments = [sys.executable, "-c", WRITER, str(tmp_path / "samples.db"), str(run)]
        writer = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        assert writer.stdout is not None
        for line in writer.stdout:
            acknowledged.append(line.strip())
            if len(acknowledged) % 50 >= kill_after:
                writer.kill()
                break
        acknowledged += [line.strip() for line in writer.stdout if line.endswith("\n")]
        writer.wait()
    store = SampleStore(tmp_path / "samples.db")
    assert ids(store.get(acknowledged)) == acknowledged and len(acknowledged) > 3
    assert store.quarantined is None


@settings(deadline=None, max_examples=15)
@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(["add", "remove", "reserve", "release"]),
            st.integers(0, 30),
            st.sampled_from(["a", "b", "c"]),
        ),
        max_size=30,
    )
)
def test_the_quota_holds_and_reservations_do_too(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int, str]]
) -> None:
    store = SampleStore(tmp_path_factory.mktemp("store") / "samples.db", max_bytes=5 * ROW_BYTES)
    reserved: set[str] = set()
    for action, n, label in steps:
        name = f"id{n}"
        here = bool(store.get([name]))
        if action == "add":
            assert not (add(store, n, label) and here)
        elif action == "remove":
            assert store.remove([name]) == here
            reserved.discard(name)
        elif action == "reserve":
            assert store.reserve([name], "job") == here
            reserved |= {name} if here else set()
        else:
            assert store.release("job") == len(reserved)
            reserved.clear()
        assert store.count() <= 5
        assert set(ids(store.get(sorted(reserved)))) == reserved
