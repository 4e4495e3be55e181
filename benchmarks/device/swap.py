"""A thousand swaps of the model under a stream of frames.

A stream of 100 images a second goes through the daemon's own inference thread, while its own workshop promotes one of
two generations after the other without a pause. Each time the bundle is verified, its class statistics are read, a
classifier is built and has run once, the pointer on the disk is flipped, and the next frame is served by the new model.
A device swaps once in a round; here it never stops swapping. Blocks of 25 swaps and blocks without any take turns. The
student has half a million random weights and is packed as it is shipped.

dropped  frames that were refused because eight were waiting
p99_ratio  the time from offer to verdict that 99 % of the frames stay below, by what it is without swaps
max_gap_ms  the longest time between two verdicts, less the 10 ms that the stream itself takes
rss_growth_mib  what the process grew by, rivals included

The rival is what one would write first: the same stream and the same classifier, but loaded by the thread that serves,
between two frames. It flips no pointer on the disk. A swap of ours takes longer, for it waits for the moments after a
frame was served to do what keeps all threads waiting.
"""

from __future__ import annotations

import os
import queue
import tempfile
import threading
import time
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import psutil
from nacl.signing import SigningKey

from agent.adapters.inference import Classifier, Inference, Verdict, serve_promptly
from agent.adapters.intake import Frame
from agent.adapters.job_folder import JobFolders
from agent.adapters.judgements import Judgements
from agent.adapters.memory import one_heap
from agent.adapters.model_store import ModelStore
from agent.adapters.sample_store import SampleStore
from agent.adapters.teacher_client import TeacherClient
from agent.config import Config
from agent.core import commands as do
from agent.core import events as ev
from agent.workshop import Workshop
from benchmarks.device.conditions import Conditions
from benchmarks.device.findings import Findings, Row
from benchmarks.device.model import SPEC, bundle_of_half_a_million, images
from transfer import signing, wire
from transfer.spec import NetSpec

SWAPS, QUICK_SWAPS = 1000, 50
BLOCK = 25
WARM_UP = 10
INTERVAL_S = 0.01
LOADED_WITHIN_S = SERVED_WITHIN_S = 30.0
TARGETS = {"dropped": 0.0, "p99_ratio": 1.5, "max_gap_ms": 10.0, "rss_growth_mib": 5.0}

WITHOUT, OURS, RIVAL = "without swaps", "swaps, as the daemon does", "stop and load"
GENERATIONS = (1, 2)


class SwapError(RuntimeError):
    """A swap or a frame went wrong; the message says how."""


@dataclass(frozen=True)
class Block:
    """A stretch of the stream. times_s [frames, 2]: when each frame was offered and when its verdict came, in order."""

    kind: str
    swaps: int
    seconds: float
    dropped: int
    times_s: npt.NDArray[np.float64]

    @property
    def latencies_s(self) -> npt.NDArray[np.float64]:
        return self.times_s[:, 1] - self.times_s[:, 0]

    @property
    def gap_s(self) -> float:
        """Longest time between two verdicts, less the stream's own; 0 where there are no two."""
        return max(0.0, float(np.diff(self.times_s[:, 1]).max(initial=0)) - INTERVAL_S)


def measure(conditions: Conditions) -> Findings:
    """See the module's docstring. Raises SwapError."""
    one_heap()  # as the daemon does when it starts, and:
    serve_promptly()
    swaps = QUICK_SWAPS if conditions.quick else SWAPS
    with tempfile.TemporaryDirectory(prefix="benchmark-swap-") as folder:
        conditions.note("making two generations of the student")
        device = Device(Path(folder))
        try:
            return findings(*alternating(device, swaps, BLOCK, conditions.note))
        finally:
            device.close()


def alternating(
    device: Device, swaps: int, block: int, note: Callable[[str], None] = lambda line: None
) -> tuple[list[Block], float]:
    """The blocks of all three kinds in turns, until there were so many `swaps` of each; and by how many MiB the process
    has grown."""
    device.block(OURS, WARM_UP)
    before = psutil.Process().memory_info().rss
    blocks: list[Block] = []
    for done in range(0, swaps, block):
        note(f"swap {done} of {swaps}")
        ours = device.block(OURS, min(block, swaps - done))
        blocks += [ours, device.block(WITHOUT, seconds=ours.seconds), device.block(RIVAL, ours.swaps)]
    return blocks, (psutil.Process().memory_info().rss - before) / 2**20


def findings(blocks: Sequence[Block], growth_mib: float) -> Findings:
    """What the blocks say, whichever order they were in."""
    ours, without = _latencies(blocks, OURS), _latencies(blocks, WITHOUT)
    return Findings(
        benchmark="swap",
        figures={
            "dropped": sum(block.dropped for block in blocks if block.kind == OURS),
            "p99_ratio": float(np.quantile(ours, 0.99) / np.quantile(without, 0.99)),
            "max_gap_ms": 1000 * max(block.gap_s for block in blocks if block.kind == OURS),
            "rss_growth_mib": growth_mib,
        },
        rows=[_row(blocks, kind) for kind in (WITHOUT, OURS, RIVAL)],
        targets=TARGETS,
        notes=(
            "max gap without swaps is what the machine's other work and Python's own scheduling come to; usual max "
            "gap, the median of the blocks' longest, shows what swaps add where one such moment decides the maximum.",
            f"The process made {sum(block.swaps for block in blocks)} swaps while its growth was measured.",
            *(
                ["It ran with real-time priority: what else the machine had to do waited."]
                if _ahead_of_others()
                else []
            ),
        ),
    )


def _ahead_of_others() -> bool:
    """Whether this process was started as `chrt --fifo`, to be measured on a machine that has other work."""
    return hasattr(os, "sched_getscheduler") and os.sched_getscheduler(0) in (os.SCHED_FIFO, os.SCHED_RR)


def _row(blocks: Sequence[Block], kind: str) -> Row:
    mine = [block for block in blocks if block.kind == kind]
    late_ms, swaps = 1000 * _latencies(blocks, kind), sum(block.swaps for block in mine)
    return {
        "stream": kind,
        "swaps": swaps,
        "frames": len(late_ms),
        "dropped": sum(block.dropped for block in mine),
        "p50_ms": float(np.median(late_ms)),
        "p99_ms": float(np.quantile(late_ms, 0.99)),
        "longest_ms": float(late_ms.max()),
        "max_gap_ms": 1000 * max(block.gap_s for block in mine),
        "usual_max_gap_ms": 1000 * float(np.median([block.gap_s for block in mine])),
        "ms_a_swap": 1000 * sum(block.seconds for block in mine) / swaps if swaps else None,
    }


def _latencies(blocks: Sequence[Block], kind: str) -> npt.NDArray[np.float64]:
    return np.concatenate([block.latencies_s for block in blocks if block.kind == kind])


class Device:
    """The daemon's serving thread and its workshop, on a state folder with two generations, under a stream of frames
    that goes on until `close`."""

    def __init__(self, folder: Path, spec: NetSpec = SPEC) -> None:
        key = SigningKey.generate()
        self._models = ModelStore(folder)
        for generation in GENERATIONS:
            made = bundle_of_half_a_million(
                folder / f"made {generation}", Config().training.quantise, key=key, seed=generation, spec=spec
            )
            self._models.import_bundle(made, [signing.public_key_hex(key)])
        self._models.promote(GENERATIONS[0])
        self._inference = Inference(self._classifier(GENERATIONS[0]), self._told, self._failed)
        self._events: queue.SimpleQueue[ev.Event] = queue.SimpleQueue()
        self._store = SampleStore(folder / "samples.db")
        self._workshop = self._open_workshop(folder, key)
        self._times_s = array("d")
        self._error: Exception | None = None
        self._todo: Callable[[], None] | None = None
        self._closing = threading.Event()
        self._feeder = threading.Thread(target=self._feed, name="stream", daemon=True)
        self._inference.start()
        self._feeder.start()

    def _open_workshop(self, folder: Path, key: SigningKey) -> Workshop:
        """As the daemon does it; nobody is asked anything, so its teacher client has nowhere to publish."""
        jobs = JobFolders(folder / "jobs")
        teacher = TeacherClient(
            jobs,
            wire.Topics("understudy", "home", "cam"),
            lambda message, key: False,
            lambda key: None,
            teachers=folder / "teachers",
            trusted=(),
            answered=lambda job_id: None,
            refused=lambda job_id, why: None,
            now_utc=time.time,
            limit_bytes=lambda: wire.MAX_MESSAGE_BYTES,
        )
        return Workshop(
            Config(),
            self._models,
            self._store,
            jobs,
            teacher,
            self._inference,
            Judgements(folder / "judged.json"),
            key,
            self._events.put,
            time.monotonic,
        )

    def close(self) -> None:
        self._closing.set()
        self._feeder.join()
        self._inference.close()
        self._store.close()

    def block(self, kind: str, swaps: int = 0, *, seconds: float = 0.0) -> Block:
        """So many swaps of that kind, or only `seconds` of the stream. Raises SwapError."""
        swap = self._promote if kind == OURS else self._stop_and_load
        self._inference.await_lull(SERVED_WITHIN_S)  # what waited in the block before is none of this one's
        first, dropped, began_s = self._noted(), self._inference.counters().dropped, time.monotonic()
        for _ in range(swaps):
            swap()
        self._closing.wait(seconds)
        if self._error is not None:
            raise SwapError(f"a frame was not served: {self._error}") from self._error
        return Block(
            kind,
            swaps,
            time.monotonic() - began_s,
            self._inference.counters().dropped - dropped,
            np.array(self._times_s[first : self._noted()]).reshape(-1, 2),
        )

    def _noted(self) -> int:
        """Numbers in `_times_s` that are of whole frames."""
        return len(self._times_s) // 2 * 2

    def _promote(self) -> None:
        active = self._models.active()
        assert active is not None
        self._workshop.carry_out(do.Promote(_other_than(active[0])))
        event = self._events.get_nowait()
        if not isinstance(event, ev.Promoted):
            raise SwapError(f"a generation was not promoted: {event}")

    def _stop_and_load(self) -> None:
        done = threading.Event()

        def load() -> None:
            self._inference.swap(self._classifier(_other_than(self._inference.current.generation)))
            done.set()

        self._todo = load
        if not done.wait(LOADED_WITHIN_S):
            raise SwapError("the serving thread did not load a model")

    def _classifier(self, generation: int) -> Classifier:
        return Classifier(self._models.load(generation), generation)

    # ------------------------------------------------------------------------------------------------ the stream

    def _feed(self) -> None:
        pictures = images(1, 0)
        began_s = time.monotonic()
        number = 0
        while not self._closing.wait(max(0.0, began_s + number * INTERVAL_S - time.monotonic())):
            picture = pictures[number % len(pictures)]
            self._inference.offer(Frame("0" * 64, "stream", picture, time.monotonic()))
            number += 1

    def _told(self, frame: Frame, verdict: Verdict) -> None:
        self._times_s.extend((frame.at, time.monotonic()))
        todo, self._todo = self._todo, None
        if todo is not None:
            todo()

    def _failed(self, frame: Frame, error: Exception) -> None:
        self._error = error


def _other_than(generation: int) -> int:
    return sum(GENERATIONS) - generation
