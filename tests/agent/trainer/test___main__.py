"""The trainer as the daemon sees it: a process, a folder, an exit status."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest
from tiny_world import NEW, OLD, World, images, mixed, sample_ids

from agent.adapters.inference import Classifier
from agent.adapters.judge import judge
from agent.config import Gate
from agent.core.policy import gate_objection
from agent.job import Progress, Result, read_result
from agent.trainer.__main__ import run
from agent.trainer.selection import MIN_CHOSEN
from transfer import bundle

PICTURES = np.concatenate([images(NEW, 20, seed=4), images("teal", 4, seed=4)])
EPOCHS = 100


def command(folder: Path) -> list[str]:
    return [sys.executable, "-m", "agent.trainer", str(folder)]


@pytest.fixture
def trainer(root: Path) -> Callable[[Path], subprocess.CompletedProcess[str]]:
    def train(folder: Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command(folder), cwd=root, capture_output=True, text=True, check=False)

    return train


@pytest.fixture
def under_way(root: Path) -> Iterator[Callable[[Path], subprocess.Popen[bytes]]]:
    """A trainer that has finished its first epoch and cannot finish its last: nobody reads its progress, and the pipe
    holds 4096 bytes of it."""
    started: list[subprocess.Popen[bytes]] = []

    def start(folder: Path) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(command(folder), cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0)
        started.append(process)
        assert process.stdout is not None
        fcntl.fcntl(process.stdout, fcntl.F_SETPIPE_SZ, 4096)
        for line in process.stdout:
            told = msgspec.json.decode(line, type=Progress)
            if (told.stage, told.done) == ("train", 1):
                return process
        raise AssertionError(process.communicate())

    yield start
    for process in started:
        process.kill()
        process.communicate()


def progress(output: str) -> list[tuple[str, int, int]]:
    told = [msgspec.json.decode(line, type=Progress) for line in output.splitlines()]
    return [(each.stage, each.done, each.total) for each in told]


def result_of(folder: Path) -> Result:
    result = read_result(folder)
    assert result is not None
    return result


def candidate_of(folder: Path) -> bundle.Bundle:
    made = bundle.load(folder / "candidate", trusted=None)
    assert made.manifest.labels == (*OLD, NEW)
    return made


# ------------------------------------------------------------------------------------------------ every tier


def test_head(world: World, tmp_path: Path, trainer: Callable[[Path], subprocess.CompletedProcess[str]]) -> None:
    job = world.job(tmp_path, PICTURES)
    ended = trainer(job)
    assert ended.returncode == 0, ended.stderr
    assert progress(ended.stdout) == [("head", 0, 1), ("head", 1, 1)]
    result = result_of(job)
    assert result.ok and set(sample_ids(PICTURES[20:])) <= set(result.refused)
    assert set(result.stages) == {"load", "learn"} and result.seconds > 0
    made = candidate_of(job).digest
    assert trainer(job).returncode == 0  # finished already: nothing is done again
    assert result_of(job) == result and candidate_of(job).digest == made


def test_training_does_without_torchs_compiler(world: World, tmp_path: Path, root: Path) -> None:
    """It would hold 70 MiB and take a second, and nothing here is compiled."""
    job = world.job(tmp_path, PICTURES, tier="transfer")
    world.answer(job)
    code = f"import sys; from agent.trainer.__main__ import main; code = main([{str(job)!r}])\n"
    code += "print(code, 'torch._dynamo' in sys.modules)"
    ended = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert ended.stdout.splitlines()[-1] == "0 False"


def test_transfer_with_the_teachers_answers(
    world: World, tmp_path: Path, trainer: Callable[[Path], subprocess.CompletedProcess[str]]
) -> None:
    job = world.job(tmp_path, PICTURES, tier="transfer")
    world.answer(job)
    ended = trainer(job)
    assert ended.returncode == 0, ended.stderr
    assert progress(ended.stdout)[-2:] == [("write", 0, 1), ("write", 1, 1)]
    result = result_of(job)
    # The teacher knows teal from lime, so its word decides, and it is right about every one.
    assert result.ok and result.tier == "transfer" and set(result.refused) == set(sample_ids(PICTURES[20:]))
    assert set(result.stages) == {"load", "ask", "learn"}
    candidate_of(job)


def test_sparse_killed_after_a_checkpoint_ends_as_if_it_had_not_been(
    world: World,
    tmp_path: Path,
    trainer: Callable[[Path], subprocess.CompletedProcess[str]],
    under_way: Callable[[Path], subprocess.Popen[bytes]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    whole = world.job(tmp_path / "whole", PICTURES, tier="sparse", epochs=EPOCHS, batch_size=64)
    uninterrupted = run(whole)  # here, where torch is loaded already
    assert uninterrupted.ok
    assert [i for stage, i, _ in progress(capsys.readouterr().out) if stage == "train"] == list(range(EPOCHS + 1))

    killed = world.job(tmp_path / "killed", PICTURES, tier="sparse", epochs=EPOCHS, batch_size=64)
    process = under_way(killed)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert read_result(killed) is None and not (killed / "candidate").exists()

    again = trainer(killed)
    assert again.returncode == 0, again.stderr
    epochs = [i for stage, i, _ in progress(again.stdout) if stage == "train"]
    assert 1 <= epochs[0] < EPOCHS and epochs == list(range(epochs[0], EPOCHS + 1))
    assert candidate_of(killed).digest == candidate_of(whole).digest  # every byte of every file
    assert result_of(killed).ok and result_of(killed).refused == uninterrupted.refused


@pytest.mark.spec("12.1")
def test_where_torch_cannot_be_imported_it_learns_by_the_head(world: World, tmp_path: Path, root: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('no torch for this processor')")
    job = world.job(tmp_path / "jobs", PICTURES, tier="sparse")
    ended = subprocess.run(
        command(job),
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0 and "torch cannot be imported here" in ended.stderr
    assert result_of(job).ok and result_of(job).tier == "head"
    assert "tier head" in candidate_of(job).manifest.made_by


# ------------------------------------------------------------------------------------------------ one after the other


@pytest.mark.parametrize("tier", ["head", "sparse"])
def test_three_rounds_in_a_row(world: World, tmp_path: Path, tier: str) -> None:
    """Each on the candidate of the one before: what was learned earlier is an old category from then on, with held-out
    images of its own."""
    model, known = world.student, list(OLD)
    for number, category in enumerate((NEW, "navy", "snow"), 1):
        pictures = images(category, 32, seed=4)
        job = world.job(tmp_path / str(number), pictures, model=model, categories=(category,), tier=tier, epochs=3)
        result = run(job)
        assert result.ok, result.reason
        active = bundle.load(model, trusted=None)
        made = bundle.load(job / "candidate", trusted=None)
        known.append(category)
        assert list(made.manifest.labels) == known == list(made.statistics().labels)
        assert made.manifest.parent == active.digest and made.manifest.net.classes == len(known)
        held_out = made.holdout()
        assert held_out is not None and set(held_out[1].tolist()) == set(range(len(known)))

        test = np.concatenate([images(label, 10, seed=8) for label in known[len(OLD) :]])
        new = [label for label in known[len(OLD) :] for _ in range(10)]
        judging = [row for row, name in enumerate(sample_ids(pictures)) if name in result.held_out]
        scores = judge(active, made, pictures[judging], [category] * len(judging))
        assert scores.old_count == 30 + sum(target >= 3 for target in held_out[1]) - len(judging)
        assert gate_objection(Gate(), scores) == ""
        said = [verdict.label for verdict in Classifier(made, number).classify(test)]
        assert all(said[start : start + 10].count(new[start]) >= 8 for start in range(0, len(new), 10)), said
        model = job / "candidate"


# ------------------------------------------------------------------------------------------------ interruptions


def test_one_at_a_time_and_sigterm_leaves_a_checkpoint(
    world: World,
    tmp_path: Path,
    trainer: Callable[[Path], subprocess.CompletedProcess[str]],
    under_way: Callable[[Path], subprocess.Popen[bytes]],
) -> None:
    job = world.job(tmp_path, PICTURES, tier="sparse", epochs=EPOCHS, batch_size=64)
    process = under_way(job)

    second = trainer(job)
    assert second.returncode == 76 and second.stdout == ""
    assert second.stderr.splitlines() == [f"{job}: another trainer is at work on this job"]

    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate()
    assert (process.returncode, errors) == (75, b"")
    assert (job / "checkpoint.safetensors").exists()
    assert read_result(job) is None and not (job / "candidate").exists()
    descriptor = os.open(job / "lock", os.O_RDWR)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # free for the next one
    os.close(descriptor)


# ------------------------------------------------------------------------------------------------ broken folders


@pytest.mark.parametrize("broken", ["job.json", "samples.safetensors", "model/weights.safetensors", "result.json"])
def test_a_broken_folder_is_one_clear_line(
    world: World, tmp_path: Path, broken: str, trainer: Callable[[Path], subprocess.CompletedProcess[str]]
) -> None:
    job = world.job(tmp_path, PICTURES, tier="sparse")
    (job / broken).unlink(missing_ok=True)
    (job / broken).write_bytes(b"\xff\x00 broken")
    ended = trainer(job)
    assert ended.returncode == 1 and ended.stdout == ""
    (line,) = ended.stderr.splitlines()
    assert str(job / broken) in line


def test_no_folder_is_one_clear_line(
    tmp_path: Path, trainer: Callable[[Path], subprocess.CompletedProcess[str]]
) -> None:
    ended = trainer(tmp_path / "none")
    assert ended.returncode == 1
    assert ended.stderr.splitlines() == [f"{tmp_path / 'none'}: No such file or directory"]


def test_answers_that_are_incomplete_are_one_clear_line(
    world: World, tmp_path: Path, trainer: Callable[[Path], subprocess.CompletedProcess[str]]
) -> None:
    job = world.job(tmp_path, PICTURES, tier="transfer")
    world.answer(job, slice(0, 20))
    ended = trainer(job)
    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert "lack 4 samples" in line


# ------------------------------------------------------------------------------------------------ hopeless jobs


def test_too_few_samples_are_a_result_not_a_fault(world: World, tmp_path: Path) -> None:
    job = world.job(tmp_path, images(NEW, MIN_CHOSEN), tier="head")  # one of them is held out
    result = run(job)
    assert not result.ok and result.refused == sample_ids(images(NEW, MIN_CHOSEN))
    assert result.reason == f"only {MIN_CHOSEN - 1} of {MIN_CHOSEN} samples are of {NEW!r}; {MIN_CHOSEN} are needed"


def test_several_categories_that_nobody_tells_apart_end_it_with_what_is_needed(world: World, tmp_path: Path) -> None:
    result = run(world.job(tmp_path, PICTURES, categories=(NEW, "pink")))
    assert not result.ok and result.left_out == {NEW: 0, "pink": 0}
    assert "several categories at once need a teacher or given labels" in result.reason


def test_a_category_with_too_few_samples_is_left_out_of_a_round_that_succeeds(world: World, tmp_path: Path) -> None:
    given = (*[NEW] * 20, "pink", "pink", "zebra", "teal")
    job = world.job(tmp_path, PICTURES, categories=("pink", NEW), given=given)
    result = run(job)
    assert result.ok and result.left_out == {"pink": 1} and result.foreign == 1
    candidate_of(job)
    assert result.labels == (*[NEW] * 20, "", "", "", "teal")
    assert result.refused == sample_ids(PICTURES[20:23]) and result.held_out == sample_ids(PICTURES[:20:4])


def test_too_few_of_each_are_named(world: World, tmp_path: Path) -> None:
    given = (NEW, NEW, "pink", *["teal"] * 21)
    result = run(world.job(tmp_path, PICTURES, categories=("pink", NEW), given=given))
    assert not result.ok
    assert result.reason == (
        f"only 1 of 24 samples are of 'pink'; only 1 of 24 samples are of {NEW!r}; {MIN_CHOSEN} are needed"
    )


@pytest.mark.parametrize("tier", ["head", "sparse", "transfer"])
def test_a_dormant_category_is_learned_without_any_sample(world: World, tmp_path: Path, tier: str) -> None:
    """From a buffer of old categories only: it is named in images that came later, and the old ones still are."""
    model = world.foresighted(tmp_path / "model")
    buffered = mixed(OLD, 12, seed=8)[0]
    job = world.job(tmp_path / "jobs", buffered, model=model, tier=tier, unseen=True, learning_rate=1e-4)
    if tier == "transfer":
        world.answer(job)
    result = run(job)
    assert result.ok and not any(result.labels), result.reason
    made = bundle.load(job / "candidate", trusted=None)
    assert made.manifest.labels == (*OLD, NEW) and made.manifest.dormant == ()
    assert made.manifest.decision == "logits" and made.statistics().counts.tolist() == [60, 60, 60, 2]
    pictures, truth = mixed((*OLD, NEW), 25, seed=33)
    said = [verdict.label for verdict in Classifier(made, 2).classify(pictures)]
    right = np.array([made.manifest.labels.index(label) for label in said]) == truth
    assert [right[truth == kind].mean() >= 0.8 for kind in range(4)] == [True] * 4


@pytest.mark.parametrize("tier", ["head", "sparse"])
def test_what_the_model_was_taught_nothing_about_needs_a_teacher(world: World, tmp_path: Path, tier: str) -> None:
    result = run(world.job(tmp_path, PICTURES, tier=tier, unseen=True))
    assert not result.ok and f"neither is there for {NEW} (tier {tier})" in result.reason


def test_a_teacher_that_does_not_know_the_unseen_category_cannot_show_it(world: World, tmp_path: Path) -> None:
    job = world.job(tmp_path, PICTURES, tier="transfer", categories=(NEW, "pink"), unseen=True)
    world.answer(job)
    result = run(job)
    assert not result.ok and result.reason.endswith("neither is there for pink (tier transfer)")


def test_a_model_that_was_not_taught_about_it_learns_it_by_the_teachers_word_on_other_things(
    world: World, tmp_path: Path
) -> None:
    job = world.job(tmp_path, mixed(OLD, 20, seed=8)[0], tier="transfer", unseen=True, learning_rate=1e-4)
    world.answer(job)
    result = run(job)
    assert result.ok and not any(result.labels), result.reason
    made = bundle.load(job / "candidate", trusted=None)
    pictures, truth = mixed((*OLD, NEW), 25, seed=33)
    said = [verdict.label for verdict in Classifier(made, 2).classify(pictures)]
    right = np.array([made.manifest.labels.index(label) for label in said]) == truth
    assert [right[truth == kind].mean() >= 0.8 for kind in range(4)] == [True] * 4


def test_a_category_with_samples_and_one_without_are_learned_together(world: World, tmp_path: Path) -> None:
    """The one that the model was taught about has no sample, and comes behind the one that came with labels."""
    model = world.foresighted(tmp_path / "model")
    pictures = np.concatenate([images("navy", 16, seed=4), images("teal", 8, seed=4)])
    job = world.job(
        tmp_path / "jobs",
        pictures,
        model=model,
        categories=(NEW, "navy"),
        unseen=True,
        given=("navy",) * 16 + ("",) * 8,
    )
    result = run(job)
    assert result.ok, result.reason
    made = bundle.load(job / "candidate", trusted=None)
    assert made.manifest.labels == (*OLD, "navy", NEW) == made.statistics().labels
    later, truth = mixed(("navy", NEW), 25, seed=33)
    said = np.array([verdict.label for verdict in Classifier(made, 2).classify(later)])
    assert (said == np.array(["navy", NEW])[truth]).mean() > 0.8


def test_a_category_that_no_sample_is_of_ends_it_with_a_result(world: World, tmp_path: Path) -> None:
    """Not with a fault, which would be tried again. Twelve images are too few to say what the teacher's logit means."""
    job = world.job(tmp_path, images("teal", 12, seed=4), tier="transfer", unseen=True)
    world.answer(job)
    result = run(job)
    assert not result.ok and f"no sample is of {NEW!r}" in result.reason


def test_where_the_teacher_sees_none_of_the_category_nothing_is_learned(world: World, tmp_path: Path) -> None:
    pictures = images("teal", 12, seed=4)
    job = world.job(tmp_path, pictures, tier="transfer")
    world.answer(job)
    result = run(job)
    assert not result.ok and "only 0 of 12 samples" in result.reason and result.refused == sample_ids(pictures)
    assert not (job / "candidate").exists()


def test_a_teacher_at_home_is_asked_in_the_trainer(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = world.job(tmp_path, PICTURES, tier="transfer", epochs=1)
    (job / "teacher").symlink_to(world.teacher)
    result = run(job)
    assert result.ok and set(result.refused) == set(sample_ids(PICTURES[20:]))
    assert ("ask", 24, 24) in progress(capsys.readouterr().out)
