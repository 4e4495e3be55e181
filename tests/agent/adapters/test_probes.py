"""Held-out images are asked of what serves, between frames, and compared with what was said when it was judged."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from tiny_world import INPUT, OLD, SIDE, World, fitted

from agent.adapters.inference import Classifier, Inference
from agent.adapters.judgements import Judgements, judged
from agent.adapters.probes import AT_ONCE, Probes
from transfer import bundle, tflite
from transfer.graph import network_graph

Said = list[tuple[int, int, int]]
HELD_OUT = 30


class Probing:
    """Probes beside a serving thread, as the daemon has them; `said` is what they found."""

    def __init__(self, world: World, folder: Path) -> None:
        self.world, self.said, self.busy = world, Said(), False
        self.judgements = Judgements(folder / "judged.json")
        self.loaded: list[int] = []
        self.inference = Inference(world.classifier(1), lambda f, v: None, lambda f, e: None)
        self.inference.start()
        self.probes = Probes(
            self.judgements,
            self._load,
            self.inference,
            lambda *missed: self.said.append(missed),
            lambda: self.busy,
            lambda: 1000.0,
        )

    def _load(self, number: int) -> bundle.Bundle:
        self.loaded.append(number)
        return self.world.bundle()

    def judge(self) -> None:
        self.judgements.add(self.world.bundle().digest, judged(self.world.classifier(1), self.world.bundle(), 1, 5.0))


@pytest.fixture
def probing(world: World, tmp_path: Path) -> Iterator[Probing]:
    probing = Probing(world, tmp_path)
    yield probing
    probing.inference.close()


def confused(world: World, folder: Path) -> Classifier:
    """The student as a machine would run it that gets it wrong: two categories change places."""
    student = world.bundle()
    net = student.manifest.net
    weights = fitted(net, OLD, seed=5)
    for name in ("linear.weight", "linear.bias"):
        weights[name] = weights[name][[1, 0, 2]]
    files = {
        bundle.WEIGHTS: safetensors.numpy.save(weights),
        bundle.MODEL: tflite.write(network_graph(net, weights, SIDE, SIDE)),
    }
    classifier = Classifier(bundle.load(world.altered(folder, files=files, decision="logits"), trusted=None), 1)
    classifier.digest = student.digest
    return classifier


@pytest.mark.spec("10.4")
def test_a_model_that_answers_otherwise_than_when_it_was_judged_is_noticed(
    world: World, probing: Probing, tmp_path: Path
) -> None:
    probing.judge()
    probing.inference.swap(confused(world, tmp_path / "confused"))
    probing.probes.look(everything=True)
    assert probing.said == [(1, 20, HELD_OUT)]  # of three categories two have changed places


def test_a_model_as_it_was_judged_is_not_worth_a_word(probing: Probing) -> None:
    probing.judge()
    for _ in range(3):
        probing.probes.look(everything=True)
    assert probing.said == [] and probing.loaded == [1]
    assert probing.inference.counters().frames == 0  # asking is not serving


def test_a_settled_model_is_asked_a_few_at_a_time_and_all_in_turn(
    world: World, probing: Probing, tmp_path: Path
) -> None:
    probing.judge()
    probing.inference.swap(confused(world, tmp_path / "confused"))
    for look in range(-(-HELD_OUT // AT_ONCE)):
        probing.probes.look()
        assert probing.said[-1][1] <= AT_ONCE * (look + 1)
    assert probing.said[-1] == (1, 20, HELD_OUT)
    probing.probes.look()
    assert len(probing.said) <= 4  # said when it changes only


def test_what_matters_more_interrupts_it(world: World, probing: Probing, tmp_path: Path) -> None:
    probing.judge()
    probing.inference.swap(confused(world, tmp_path / "confused"))
    probing.busy = True
    probing.probes.look(everything=True)
    assert probing.said == []


def test_a_bundle_that_nobody_judged_here_is_taken_at_its_first_word(world: World, probing: Probing) -> None:
    probing.probes.look()
    judgement = probing.judgements.of(world.bundle().digest)
    assert judgement is not None and len(judgement.answers) == HELD_OUT
    assert judgement.right == HELD_OUT and judgement.scores is None and judgement.at_utc == 1000.0


def test_after_a_swap_the_other_models_images_are_asked(world: World, probing: Probing, tmp_path: Path) -> None:
    probing.judge()
    probing.probes.look(everything=True)
    probing.inference.swap(world.classifier(2))
    probing.probes.look(everything=True)
    assert probing.loaded == [1, 2] and probing.said == []


def test_a_model_that_cannot_answer_any_more_has_missed(probing: Probing, monkeypatch: pytest.MonkeyPatch) -> None:
    probing.judge()
    probing.probes.look(everything=True)

    def broken(images: np.ndarray) -> list[object]:
        raise RuntimeError("the output is not finite")

    monkeypatch.setattr(probing.inference.current, "classify", broken)
    probing.probes.look(everything=True)
    assert probing.said == [(1, HELD_OUT, HELD_OUT)]


def test_without_held_out_images_there_is_nothing_to_ask(world: World, tmp_path: Path) -> None:
    student = world.bundle()
    files = {name: student.read(name) for name in student.manifest.files if name != bundle.HOLDOUT}
    import msgspec

    bundle.save(tmp_path / "bare", msgspec.structs.replace(student.manifest, files={}), files, world.key)
    bare = bundle.load(tmp_path / "bare", trusted=None)
    inference = Inference(Classifier(bare, 1), lambda f, v: None, lambda f, e: None)
    inference.start()
    said: Said = []
    never: Callable[[], bool] = lambda: False  # noqa: E731
    probes = Probes(
        Judgements(tmp_path / "j.json"), lambda n: bare, inference, lambda *m: said.append(m), never, lambda: 0.0
    )
    probes.look(everything=True)
    inference.close()
    assert said == [] and bare.manifest.input == INPUT
