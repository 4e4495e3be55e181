"""Inference with the real interpreter: verdicts, the hot swap under load, and models that must not be served."""

from __future__ import annotations

import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from tiny_world import NEW, OLD, SIDE, World, features, fitted, frame, images, mixed, random_weights

from agent.adapters.inference import SWITCH_S, WAITING_FRAMES, Classifier, Inference, InferenceError, Verdict
from agent.adapters.intake import Frame
from transfer import bundle, interpreter, tflite
from transfer.bundle import Bundle
from transfer.class_statistics import ClassStatistics
from transfer.graph import network_graph
from transfer.spec import resnet_cifar

Told = tuple[Frame, Verdict]
Start = Callable[..., Inference]


@pytest.fixture
def told() -> queue.Queue[Told]:
    return queue.Queue()


@pytest.fixture
def errors() -> list[tuple[Frame, Exception]]:
    return []


@pytest.fixture
def serving(world: World, told: queue.Queue[Told], errors: list[tuple[Frame, Exception]]) -> Iterator[Start]:
    """serving(on_verdict=..., start=True) -> an Inference of the tiny student; closed after the test."""
    opened: list[Inference] = []

    def start(on_verdict: Callable[[Frame, Verdict], None] | None = None, *, started: bool = True) -> Inference:
        def tell(frame: Frame, verdict: Verdict) -> None:
            told.put((frame, verdict))

        inference = Inference(world.classifier(), on_verdict or tell, lambda f, e: errors.append((f, e)))
        if started:
            inference.start()
            opened.append(inference)
        return inference

    yield start
    for each in opened:
        each.close()


# ------------------------------------------------------------------------------------------------ the classifier


def test_it_knows_what_it_knows_and_finds_the_rest_novel(world: World) -> None:
    classifier = world.classifier(7)
    for label in OLD:
        verdicts = classifier.classify(images(label, 20, seed=50))
        assert {verdict.label for verdict in verdicts} == {label}
        assert all(0 < verdict.confidence <= 1 and verdict.generation == 7 for verdict in verdicts)
        assert sum(verdict.novel for verdict in verdicts) <= 2
    assert all(verdict.novel for verdict in classifier.classify(images(NEW, 20, seed=50)))


def test_features_are_those_of_the_network_whatever_the_batch(world: World) -> None:
    pictures = mixed(OLD, 3, seed=8)[0]
    classifier, student = world.classifier(), world.bundle()
    expected = features(student.manifest.net, student.weights(), pictures)
    together = classifier.classify(pictures)
    alone = [classifier.classify(picture[None])[0] for picture in pictures]
    for some in (together, alone):
        np.testing.assert_allclose([verdict.feature for verdict in some], expected, atol=1e-4)
    assert together[0].feature.dtype == np.float32 and together[0].feature.base is None


def test_the_false_alarm_rate_moves_the_line(world: World) -> None:
    pictures = mixed(OLD, 40, seed=60)[0]
    strict = Classifier(world.bundle(), 1, false_alarm_rate=0.5).classify(pictures)
    lax = Classifier(world.bundle(), 1, false_alarm_rate=0.0).classify(pictures)
    assert 0.3 < np.mean([verdict.novel for verdict in strict]) < 0.7
    assert np.mean([verdict.novel for verdict in lax]) < 0.05


def test_more_is_kept_than_is_flagged(world: World) -> None:
    pictures = mixed(OLD, 40, seed=60)[0]
    for buffer_share, low, high in ((0.4, 0.25, 0.55), (0.0, 0.0, 0.1)):
        verdicts = Classifier(world.bundle(), 1, buffer_share=buffer_share).classify(pictures)
        assert low <= np.mean([verdict.kept for verdict in verdicts]) <= high
        assert all(verdict.kept for verdict in verdicts if verdict.novel)


def test_a_bundle_may_decide_by_gaussians(world: World, tmp_path: Path) -> None:
    path = world.altered(tmp_path / "gaussian", decision="gaussian")
    classifier = Classifier(bundle.load(path, trusted=[world.public]), 1)
    pictures, truth = mixed(OLD, 20, seed=51)
    verdicts = classifier.classify(pictures)
    assert np.mean([v.label == OLD[t] for v, t in zip(verdicts, truth, strict=True)]) > 0.9
    assert all(0 < verdict.confidence <= 1 for verdict in verdicts)


def test_logits_beyond_the_labels_are_nobodys(world: World, tmp_path: Path) -> None:
    """A network may have spare rows; the largest of the first len(labels) decides."""
    net = resnet_cifar(8, 4, widths=(4, 6, 8))
    student = world.bundle()
    weights = student.weights()
    weights["linear.weight"] = np.concatenate([weights["linear.weight"], np.zeros((1, 8), np.float32)])
    weights["linear.bias"] = np.append(weights["linear.bias"], np.float32(1000))
    files = {
        bundle.WEIGHTS: safetensors.numpy.save(weights),
        bundle.MODEL: tflite.write(network_graph(net, weights, SIDE, SIDE)),
    }
    path = world.altered(tmp_path / "spare", files=files, net=net)
    verdicts = Classifier(bundle.load(path, trusted=None), 1).classify(images("teal", 5))
    assert {verdict.label for verdict in verdicts} == {"teal"}


# ------------------------------------------------------------------------------------------------ models to refuse


def refused(world: World, folder: Path, files: dict[str, bytes], says: str) -> None:
    path = world.altered(folder / "bad", files=files)
    with pytest.raises(InferenceError, match=says):
        Classifier(bundle.load(path, trusted=None), 9)


def without_xnnpack(model: Path | bytes, threads: int) -> Any:
    """What a device has whose library was built without it, or finds no processor that it knows."""
    library = pytest.importorskip("ai_edge_litert.interpreter")
    return library.Interpreter(
        model_path=str(model),
        num_threads=threads,
        experimental_op_resolver_type=library.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )


def test_a_file_that_is_no_model_is_refused(world: World, tmp_path: Path) -> None:
    refused(world, tmp_path, {bundle.MODEL: b"no model at all"}, r"model\.tflite")


@pytest.mark.parametrize("kernels", ["XNNPACK", "TFLite's own"])
def test_a_model_whose_output_is_not_finite_is_refused(
    world: World, tmp_path: Path, kernels: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kernels != "XNNPACK":
        monkeypatch.setattr(interpreter, "_open", without_xnnpack)
    student = world.bundle()
    weights = student.weights()
    weights["linear.bias"] = np.array([0, np.inf, 0], np.float32)
    model = tflite.write(network_graph(student.manifest.net, weights, SIDE, SIDE))
    refused(world, tmp_path, {bundle.MODEL: model}, "generation 9: the model's output is not finite")


def test_a_model_whose_features_overflow_the_score_is_refused(world: World, tmp_path: Path) -> None:
    student = world.bundle()
    weights = student.weights()
    weights["layer3.0.bn2.bias"] = np.full(8, 3e38, np.float32)
    weights["linear.weight"] = np.zeros_like(weights["linear.weight"])
    model = tflite.write(network_graph(student.manifest.net, weights, SIDE, SIDE))
    refused(world, tmp_path, {bundle.MODEL: model}, "generation 9: ")


def test_a_model_of_another_width_is_refused(world: World, tmp_path: Path) -> None:
    net = resnet_cifar(8, 3, widths=(4, 6, 10))
    model = tflite.write(network_graph(net, random_weights(net, 0), SIDE, SIDE))
    refused(world, tmp_path, {bundle.MODEL: model}, "3 logits of 10 features; its manifest says 3 of 8")


def test_a_bundle_without_a_scale_for_novelty_is_refused(world: World, tmp_path: Path) -> None:
    statistics = replace(world.bundle().statistics(), novelty_quantiles=np.zeros(0, np.float32))
    refused(world, tmp_path, {bundle.STATISTICS: safetensors.numpy.save(statistics.to_arrays())}, "no scale yet")


def test_images_of_another_size_are_refused(world: World) -> None:
    with pytest.raises(ValueError, match="fit"):
        world.classifier().classify(np.zeros((1, 8, 8, 3), np.uint8))


# ------------------------------------------------------------------------------------------------ serving


def test_frames_come_back_in_order_with_their_verdicts(serving: Start, told: queue.Queue[Told]) -> None:
    inference = serving()
    sent = [frame(images(OLD[n % 3], 1, seed=n)[0], f"{n}.png") for n in range(20)]
    for each in sent:
        inference.submit(each)
    got = [told.get(timeout=10) for _ in sent]
    assert [f.origin for f, _ in got] == [f.origin for f in sent]
    assert [v.label for _, v in got] == [OLD[n % 3] for n in range(20)]
    inference.close()
    served = inference.counters()
    assert (served.frames, served.dropped, served.errors) == (20, 0, 0)
    assert served.novel == sum(v.novel for _, v in got) and served.longest_wait_s > 0
    inference.watch_waits()
    assert inference.counters().longest_wait_s == 0


def test_closing_serves_what_waits(serving: Start, told: queue.Queue[Told]) -> None:
    inference = serving(started=False)
    for n in range(WAITING_FRAMES - 1):
        assert inference.offer(frame(images("teal", 1, seed=n)[0]))
    inference.start()
    inference.close()
    assert told.qsize() == WAITING_FRAMES - 1


def test_a_source_that_cannot_wait_loses_frames_and_they_are_counted(serving: Start) -> None:
    inference = serving(started=False)
    taken = [inference.offer(frame(images("teal", 1)[0])) for _ in range(WAITING_FRAMES + 3)]
    assert taken == [True] * WAITING_FRAMES + [False] * 3
    assert inference.counters().dropped == 3


def test_a_source_that_can_wait_does(serving: Start, told: queue.Queue[Told]) -> None:
    may_go_on = threading.Event()

    def hold(frame: Frame, verdict: Verdict) -> None:
        may_go_on.wait(10)
        told.put((frame, verdict))

    inference = serving(hold)
    picture = frame(images("teal", 1)[0])

    def feed() -> None:
        for _ in range(WAITING_FRAMES + 5):
            inference.submit(picture)

    feeder = threading.Thread(target=feed)
    feeder.start()
    feeder.join(0.2)
    assert feeder.is_alive()
    may_go_on.set()
    feeder.join(10)
    assert not feeder.is_alive() and inference.counters().dropped == 0


def test_one_bad_frame_does_not_stop_the_next(
    serving: Start, told: queue.Queue[Told], errors: list[tuple[Frame, Exception]]
) -> None:
    inference = serving()
    bad = frame(np.zeros((4, 4, 3), np.uint8), "bad.png")
    inference.submit(bad)
    inference.submit(frame(images("plum", 1)[0]))
    assert told.get(timeout=10)[1].label == "plum"
    assert [(f.origin, type(e)) for f, e in errors] == [("bad.png", ValueError)]
    assert inference.counters().errors == 1


@pytest.mark.spec("10.3")
def test_a_swap_under_load_loses_no_frame_and_mixes_no_labels(
    world: World, serving: Start, told: queue.Queue[Told], tmp_path: Path
) -> None:
    renamed = bundle.load(world.altered(tmp_path / "renamed", labels=("x", "y", "z")), trusted=None)
    inference = serving()
    stop = threading.Event()
    sent: list[Frame] = []

    def feed() -> None:
        while not stop.is_set():
            sent.append(frame(images("teal", 1, seed=len(sent))[0], str(len(sent))))
            inference.submit(sent[-1])

    feeder = threading.Thread(target=feed)
    feeder.start()
    got = [told.get(timeout=10)]
    for generation in (2, 3):
        inference.swap(Classifier(renamed, 2) if generation == 2 else world.classifier(generation))
        assert inference.current.generation == generation
        while got[-1][1].generation != generation:
            got.append(told.get(timeout=10))
    stop.set()
    feeder.join(10)
    inference.close()
    while not told.empty():
        got.append(told.get())
    assert [f.origin for f, _ in got] == [f.origin for f in sent]
    generations = [v.generation for _, v in got]
    assert generations == sorted(generations) and set(generations) == {1, 2, 3}
    assert {(v.generation, v.label) for _, v in got} == {(1, "teal"), (2, "y"), (3, "teal")}
    assert inference.counters().dropped == 0 and inference.counters().frames == len(sent)


def test_a_lull_comes_when_the_last_waiting_frame_is_served(world: World, told: queue.Queue[Told]) -> None:
    may_tell = threading.Semaphore(0)

    def hold(frame: Frame, verdict: Verdict) -> None:
        may_tell.acquire(timeout=10)
        told.put((frame, verdict))

    inference = Inference(world.classifier(), hold, lambda f, e: None)
    for _ in range(3):
        assert inference.offer(frame(images("teal", 1)[0]))
    waiter = threading.Thread(target=inference.await_lull, args=(10,))
    waiter.start()
    inference.start()
    for _ in range(2):
        may_tell.release()
        told.get(timeout=10)
    waiter.join(0.1)
    assert waiter.is_alive()
    may_tell.release()
    waiter.join(10)
    assert told.qsize() == 1
    inference.close()


def test_nobody_waits_for_ever_for_a_lull(serving: Start) -> None:
    serving(started=False).await_lull()


def test_a_classifier_asks_before_it_keeps_all_waiting(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    read = Bundle.statistics

    def statistics(of: Bundle) -> ClassStatistics:
        done.append("statistics")
        return read(of)

    monkeypatch.setattr(Bundle, "statistics", statistics)
    Classifier(world.bundle(), 1, pause=lambda: done.append("asked"))
    assert done == ["asked", "statistics", "asked", "asked"]


def test_a_daemon_gives_the_serving_thread_its_turn_soon(root: Path, tmp_path: Path) -> None:
    """In a process of its own, for the setting is the process's. Python's own 5 ms hold a frame up at every thread."""
    code = f"""
import contextlib, sys
from agent.config import Config, Device
from agent.daemon import Daemon
from agent.first_model import FirstModelError
before_s = sys.getswitchinterval()
with contextlib.suppress(FirstModelError):
    Daemon(Config(device=Device(state_dir={str(tmp_path)!r})))
print(before_s, sys.getswitchinterval())
"""
    ran = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert [float(part) for part in ran.stdout.split()] == [0.005, SWITCH_S]


def test_asking_is_in_turn_with_the_frames_and_counted_nowhere(
    serving: Start, told: queue.Queue[Told], world: World
) -> None:
    inference = serving()
    for picture in images("teal", 3):
        inference.submit(frame(picture))
    verdict = inference.ask(images("plum", 1)[0])
    assert (verdict.label, verdict.generation) == ("plum", 1)
    assert inference.counters().frames == 3 and told.qsize() == 3


def test_who_asks_is_told_what_went_wrong(serving: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    inference = serving()
    with pytest.raises(InferenceError, match="no answer"):
        inference.ask(np.zeros((SIDE + 1, SIDE, 3), np.uint8))
    assert inference.ask(images("plum", 1)[0]).label == "plum"  # and the next one is answered
    assert inference.counters().errors == 0
    monkeypatch.setattr("agent.adapters.inference.ANSWER_WITHIN_S", 0.05)
    with pytest.raises(InferenceError, match="no answer"):
        serving(started=False).ask(images("plum", 1)[0])  # nobody serves


def test_it_shows_that_it_lives(serving: Start, told: queue.Queue[Told]) -> None:
    inference = serving()
    before = inference.last_alive_at
    for n in range(3):
        inference.submit(frame(images("teal", 1, seed=n)[0]))
        told.get(timeout=10)
    assert before < inference.last_alive_at <= time.monotonic()


def test_the_world_of_these_tests_is_what_it_says() -> None:
    """The fitted networks do tell the colours apart; otherwise nothing above would mean anything."""
    net = resnet_cifar(8, 4, widths=(6, 8, 12))
    labels = (*OLD, NEW)
    weights = fitted(net, labels, seed=1)
    pictures, truth = mixed(labels, 20, seed=70)
    logits = features(net, weights, pictures) @ weights["linear.weight"].T + weights["linear.bias"]
    assert (logits.argmax(axis=1) == truth).mean() > 0.95
