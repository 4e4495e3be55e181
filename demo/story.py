"""The main job, told once from beginning to end, with real processes, a real broker and real images."""

from __future__ import annotations

import contextlib
import hashlib
import json
import queue
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from cloud_teacher.datasets import Dataset
from demo.audience import Audience
from demo.broker import start_broker
from demo.feed import Background, Feed, accuracy
from demo.operator import Operator
from demo.processes import Child, run_with_progress
from transfer import signing, wire

if TYPE_CHECKING:
    from nacl.signing import SigningKey

PREFIX, FLEET, DEVICE = "understudy", "demo", "edge-1"
KNOWN_IMAGES = 400
"""Held-out images of the known categories, at most: dropped before and again after the swap."""
NEW_IMAGES = 200
GROUP_IMAGES = 80
"""A device looks at more together (`novelty.group_images`); here a hundred new images are all there are."""
PACE_PER_S = 60.0
DURING_ROUND_PER_S = 15.0
READY_TIMEOUT_S = 60.0
ROUND_TIMEOUT_S = 900.0
SERVED_TIMEOUT_S = 180.0
NOTICED_WITHIN_S = 0.5


class StoryError(RuntimeError):
    """The story could not be told to its end; the text says where it stopped."""


@dataclass(frozen=True)
class Plan:
    """What the story is about."""

    dataset: Dataset
    data_arguments: list[str]
    new_label: str
    privacy: str
    cache: Path
    scene: Path
    teacher: Path | None = None
    epochs: int | None = None


@dataclass
class Outcome:
    """The closing figures. Accuracies 0..1, of the daemon's own answers about held-out images."""

    ok: bool
    old_before: float
    old_after: float
    new_before: float
    new_after: float
    round_s: float
    bytes_per_image: float
    frames: int
    dropped_frames: int
    swap_gap_ms: float
    gate: str = ""
    novel_found: float = 0.0
    false_alarms: float = 0.0
    prepare_s: float = 0.0
    total_s: float = 0.0
    daemon_pss_mib: float = 0.0
    daemon_rss_mib: float = 0.0

    def as_json(self) -> str:
        return json.dumps({k: round(v, 4) if isinstance(v, float) else v for k, v in asdict(self).items()})


def tell(plan: Plan, see: Audience) -> Outcome:
    """Prepare (from the cache if it can), then run the loop. Raises StoryError, ProcessError, BrokerError."""
    began_s = time.monotonic()
    known = [label for label in plan.dataset.labels if label != plan.new_label]
    see.say(f"{len(known)} known categories: {', '.join(known)}", kind="title")
    see.say(f"the device has never seen {plan.new_label!r}; privacy mode {plan.privacy}")
    student, teacher, cloud_key = _prepared(plan, see)
    prepare_s = time.monotonic() - began_s
    with contextlib.ExitStack() as stage:
        outcome = _loop(plan, see, stage, student, teacher, signing.public_key_hex(cloud_key))
    outcome.prepare_s, outcome.total_s = prepare_s, time.monotonic() - began_s
    return outcome


# ------------------------------------------------------------------------------------------------ before the curtain


def _prepared(plan: Plan, see: Audience) -> tuple[Path, Path, SigningKey]:
    """Student bundle, teacher bundle and the cloud's key; made once and kept in the cache."""
    plan.cache.mkdir(parents=True, exist_ok=True)
    key_file = plan.cache / "cloud.key"
    key = signing.load_key(key_file) if key_file.exists() else signing.generate(key_file)
    given = hashlib.sha256(plan.teacher.read_bytes()).hexdigest() if plan.teacher and plan.teacher.is_file() else ""
    made_of = [plan.dataset.fingerprint, plan.new_label, str(plan.epochs), given or str(plan.teacher), _sources()]
    home = plan.cache / "demo" / f"{plan.dataset.name}-{hashlib.sha256(repr(made_of).encode()).hexdigest()[:12]}"
    student, teacher = home / "student", home / "teacher"
    if student.exists() and teacher.exists():
        see.say(f"teacher and student are in the cache ({home})", kind="quiet")
        return student, teacher, key
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    epochs = ["--epochs", str(plan.epochs)] if plan.epochs else []
    common = [*plan.data_arguments, "--cache", str(plan.cache), "--json-progress"]
    source = plan.teacher
    if source is None:
        see.say(f"training a teacher that knows all {len(plan.dataset.labels)} categories (kept for next time)")
        source = home / "trained"
        run_with_progress(
            "cloud_teacher", ["teacher", "train", *common, "--out", str(source)], _shown(see), home / "train.log"
        )
    see.say(f"compressing it to a student that is only ever shown {len(plan.dataset.labels) - 1} of them")
    unfinished = home / "unfinished"
    arguments = ["teacher", "compress", *common, *epochs, "--teacher", str(source), "--unknown", plan.new_label]
    arguments += ["--key", str(key_file), "--out", str(unfinished), "--as-teacher-bundle", str(teacher)]
    run_with_progress("cloud_teacher", arguments, _shown(see), home / "compress.log")
    unfinished.rename(student)
    return student, teacher, key


def _shown(see: Audience) -> Callable[[str, int, int, str], None]:
    """Passes progress on; of the last line, which names the file made, only what it says about it."""

    def report(stage: str, done: int, total: int, detail: str) -> None:
        if stage == "finished":
            see.say(detail.partition(": ")[2] or detail, kind="good")
        else:
            see.progress(stage, done, total, detail)

    return report


def _sources() -> str:
    """Changes with the code that makes teachers and students, so that an old cache is not mistaken for a new one."""
    root = Path(__file__).resolve().parent.parent
    digest = hashlib.sha256()
    for path in sorted([*(root / "cloud_teacher").glob("*.py"), *(root / "transfer").glob("*.py")]):
        if path.name not in ("__main__.py", "fleet.py", "worker.py"):
            digest.update(path.read_bytes())
    return digest.hexdigest()


# ------------------------------------------------------------------------------------------------ the loop


def _loop(
    plan: Plan, see: Audience, stage: contextlib.ExitStack, student: Path, teacher: Path, cloud_public: str
) -> Outcome:
    scene = plan.scene
    inbox, state, logs = scene / "inbox", scene / "state", scene / "logs"
    for folder in (inbox, state, logs):
        folder.mkdir(parents=True)
    operator_key = signing.generate(scene / "operator.key")
    broker = start_broker(logs)
    stage.callback(broker.stop)
    see.say(f"broker: {broker.kind} on port {broker.port}", kind="quiet")
    url = f"mqtt://127.0.0.1:{broker.port}"
    topics = wire.Topics(PREFIX, FLEET, DEVICE)
    operator = Operator(broker.port, topics)
    stage.callback(operator.close)
    worker = Child(
        "teacher worker",
        "cloud_teacher",
        ["teacher", "serve", "--teacher", str(teacher), "--broker", url, "--prefix", PREFIX, "--fleet", FLEET],
        logs / "worker.log",
    )
    stage.callback(worker.stop)
    config = scene / "agent.yaml"
    config.write_text(_agent_config(plan, inbox, state, student, broker.port, cloud_public, operator_key))
    agent = Child("agent", "agent", ["run", "--config", str(config)], logs / "agent.log")
    stage.callback(agent.stop)
    worker.wait_for("ready", READY_TIMEOUT_S)
    agent.wait_for('"started"', READY_TIMEOUT_S)
    see.say(f"teacher worker and agent are running; logs in {logs}", kind="quiet")
    children = (worker, agent)
    feed = Feed(inbox, state / "predictions.jsonl")
    known_images, known_labels, test_images, train_images = _cast(plan)

    def served(names: list[str], what: str) -> None:
        wanted = set(names)
        until_s = time.monotonic() + SERVED_TIMEOUT_S
        while True:
            feed.read()
            done = len(wanted & feed.said.keys())
            see.progress(what, done, len(wanted))
            if done == len(wanted):
                return
            for child in children:
                child.check()
            if time.monotonic() > until_s:
                raise StoryError(f"{what}: only {done} of {len(wanted)} images were classified in {SERVED_TIMEOUT_S} s")
            time.sleep(0.1)

    def drop(name: str, images: npt.NDArray[np.uint8], labels: list[str]) -> list[str]:
        names = []
        for image, label in zip(images, labels, strict=True):
            names.append(feed.put(name, image, label))
            time.sleep(1 / PACE_PER_S)
        return names

    served(drop("known", known_images, known_labels), "known images")
    old_before = accuracy(feed.of_stage("known"))
    alarms = float(np.mean([said.novel for said in feed.of_stage("known")]))
    see.say(f"known categories: {old_before:.1%} right, {alarms:.1%} flagged as novel by mistake")
    served(drop("new", train_images, [plan.new_label] * len(train_images)), f"images of {plan.new_label!r}")
    found = feed.of_stage("new")
    new_before, novel = accuracy(found), float(np.mean([said.novel for said in found]))
    kept = float(np.mean([said.kept for said in found]))
    see.say(f"{plan.new_label!r} arrives: {new_before:.1%} right, {novel:.1%} flagged as novel, {kept:.1%} buffered")

    noticed = _noticed(operator)
    if noticed:
        see.say(
            f"device: {noticed.detail['novel']} of {noticed.detail['images']} images in a row look new", kind="good"
        )

    background = Background(feed, "during", known_images, known_labels, DURING_ROUND_PER_S)
    stage.callback(background.stop)
    wanted = max(10, int(sum(said.kept for said in found) * 0.9))
    began_s = time.monotonic()
    trigger_id = f"demo-{secrets.token_hex(4)}"
    _trigger(url, plan.new_label, wanted, scene / "operator.key", logs / "trigger.log", see, trigger_id)
    swap, ending, round_s = _follow(operator, see, children, feed, began_s)
    if swap is not None:
        names = drop("after", known_images, known_labels)
        names += drop("tested", test_images, [plan.new_label] * len(test_images))
        served(names, "all categories, new model")
        ending = ending or _ending(operator, see, children)
    background.stop()
    served(sorted(p.name for p in inbox.iterdir()), "the last images")
    rss_mib, pss_mib = _memory(agent.process.pid)
    gone = not swap
    old_after = old_before if gone else accuracy(feed.of_stage("after"))
    new_after = new_before if gone else accuracy(feed.of_stage("tested"))
    dropped = feed.dropped_in - len(feed.said)
    gate = "passed" if swap is not None else (ending.detail if ending else "no verdict")
    outcome = Outcome(
        ok=False,
        old_before=old_before,
        old_after=old_after,
        new_before=new_before,
        new_after=new_after,
        round_s=round_s,
        bytes_per_image=operator.teacher_bytes / max(1, wanted),
        frames=feed.dropped_in,
        dropped_frames=dropped,
        swap_gap_ms=float(swap.detail["longest_wait_ms"] or 0) if swap else 0.0,
        gate=gate,
        novel_found=novel,
        false_alarms=alarms,
        daemon_pss_mib=pss_mib,
        daemon_rss_mib=rss_mib,
    )
    succeeded = ending is not None and ending.state == "SUCCEEDED"
    outcome.ok = succeeded and dropped == 0
    if plan.dataset.name == "digits":
        outcome.ok = outcome.ok and new_after >= 0.90 and old_after >= old_before - 0.02
    return outcome


def _cast(
    plan: Plan,
) -> tuple[npt.NDArray[np.uint8], list[str], npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Held-out known images with labels, held-out new images, and the new images the device may learn from."""
    data, new = plan.dataset, plan.dataset.labels.index(plan.new_label)
    known = np.flatnonzero(data.test_targets != new)
    known = np.random.default_rng(0).permutation(known)[:KNOWN_IMAGES]
    labels = [data.labels[int(t)] for t in data.test_targets[known]]
    test = np.flatnonzero(data.test_targets == new)[:NEW_IMAGES]
    train = np.flatnonzero(data.train_targets == new)[:NEW_IMAGES]
    return data.test_images[known], labels, data.test_images[test], data.train_images[train]


def _trigger(url: str, label: str, wanted: int, key: Path, log: Path, see: Audience, trigger_id: str) -> None:
    see.say(f"the operator publishes a trigger: learn {label!r} from {wanted} samples", kind="title")
    arguments = ["fleet", "trigger", "--broker", url, "--prefix", PREFIX, "--fleet", FLEET, "--category", label]
    arguments += ["--samples", str(wanted), "--key", str(key), "--id", trigger_id, "--json"]
    run_with_progress("cloud_teacher", arguments, lambda *_: None, log)


def _noticed(operator: Operator) -> wire.Event | None:
    """What the device says by itself of the images before the trigger; None where nothing looks new to it."""
    found = None
    with contextlib.suppress(queue.Empty):
        while True:
            message = operator.messages.get(timeout=NOTICED_WITHIN_S)
            if isinstance(message, wire.Event) and message.kind == "something_new":
                found = message
    return found


def _heard(operator: Operator, children: tuple[Child, ...], timeout_s: float) -> Iterator[wire.Message]:
    """What the fleet says, as it says it. Raises StoryError after `timeout_s` in all."""
    until_s = time.monotonic() + timeout_s
    while time.monotonic() < until_s:
        for child in children:
            child.check()
        with contextlib.suppress(queue.Empty):
            yield operator.messages.get(timeout=0.25)
    raise StoryError(f"the round did not end within {timeout_s:.0f} s")


def _follow(
    operator: Operator, see: Audience, children: tuple[Child, ...], feed: Feed, began_s: float
) -> tuple[wire.Event | None, wire.JobUpdate | None, float]:
    """Show the round until the swap, or its failure."""
    last = ""
    for message in _heard(operator, children, ROUND_TIMEOUT_S):
        feed.read()
        if isinstance(message, wire.Status) and message.reason and message.reason != last:
            last = message.reason
            see.say(f"device: {message.phase}: {message.reason}")
        elif isinstance(message, wire.Event) and message.kind == "progress":
            stage, done, total = (message.detail[k] for k in ("stage", "done", "total"))
            see.progress(f"trainer: {stage}", int(done or 0), int(total or 0))
        elif isinstance(message, wire.Event) and message.kind == "judged":
            show: Callable[[str], str] = lambda key: f"{float(message.detail[key] or 0):.1%}"  # noqa: B023, E731
            see.say(
                f"gate: old {show('old_before')} -> {show('old_after')}, new {show('new_before')} -> "
                f"{show('new_after')} on held-out images ({message.detail['refused']} samples refused)"
            )
        elif isinstance(message, wire.Event) and message.kind == "swapped":
            see.say(f"hot swap to generation {message.detail['generation']}", kind="good")
            return message, None, time.monotonic() - began_s
        elif isinstance(message, wire.JobUpdate) and message.state in ("FAILED", "TIMED_OUT", "REJECTED", "CANCELED"):
            see.say(f"{message.state}: {message.detail}", kind="bad")
            return None, message, time.monotonic() - began_s
    raise StoryError("the operator's connection ended")


def _ending(operator: Operator, see: Audience, children: tuple[Child, ...]) -> wire.JobUpdate | None:
    for message in _heard(operator, children, SERVED_TIMEOUT_S):
        if isinstance(message, wire.JobUpdate) and message.state not in ("QUEUED", "IN_PROGRESS"):
            see.say(f"probation over: {message.detail}", kind="good" if message.state == "SUCCEEDED" else "bad")
            return message
    return None


def _memory(pid: int) -> tuple[float, float]:
    """RSS and PSS of the daemon in MiB; zeros where the system does not say."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        sizes = {line.split(":")[0]: int(line.split()[1]) / 1024 for line in lines[1:]}
        return sizes["Rss"], sizes["Pss"]
    except (OSError, KeyError, ValueError, IndexError):
        return 0.0, 0.0


def _agent_config(
    plan: Plan, inbox: Path, state: Path, student: Path, port: int, cloud_public: str, operator_key: SigningKey
) -> str:
    import yaml

    document = {
        "device": {"name": DEVICE, "fleet": FLEET, "prefix": PREFIX, "state_dir": str(state)},
        "source": {"kind": "folder", "folder": str(inbox), "rescan_s": 5.0},
        "model": {"bundle": str(student), "trusted_keys": [cloud_public]},
        "mqtt": {"host": "127.0.0.1", "port": port, "operator_keys": [signing.public_key_hex(operator_key)]},
        "privacy": {
            "mode": plan.privacy,
            "consent_to_upload": plan.privacy == "upload",
            "share_predictions": plan.privacy != "local",
        },
        "novelty": {
            "group_images": GROUP_IMAGES,
            # Natural images and a net trained for minutes: single scores say little there, so more is kept for the
            # group, and a tenth category costs the other nine more than it does where all are told apart with ease.
            **({} if plan.dataset.name == "digits" else {"buffer_share": 0.3}),
        },
        **({} if plan.dataset.name == "digits" else {"gate": {"max_old_drop": 0.06}}),
        # The demo shares its machine with a broker, a worker and whatever else runs: only memory and disk count.
        "budget": {
            "max_cpu_percent": 100.0,
            "max_load_per_core": 1000.0,
            "min_available_mib": 200.0,
            "require_power": False,
            "sample_s": 1.0,
        },
        "log": {"format": "json"},
    }
    return yaml.safe_dump(document, sort_keys=False)
