"""A workshop on real stores, in the tiny world."""

from __future__ import annotations

import queue
from pathlib import Path

import numpy as np
from tiny_world import NEW, World, images, sample_ids

from agent.adapters.inference import Inference
from agent.adapters.job_folder import JobFolders
from agent.adapters.judgements import Judgements
from agent.adapters.model_store import ModelStore
from agent.adapters.sample_store import SampleStore
from agent.adapters.teacher_client import TeacherClient
from agent.config import Config
from agent.core import commands as do
from agent.core import events as ev
from agent.job import write_result
from agent.trainer.__main__ import run
from agent.workshop import Workshop
from transfer import wire

JOB = "job-000001"
PREPARE = do.PrepareJob(JOB, (NEW,), 40, "head")
LIME = images(NEW, 40, seed=4)


class Shop:
    """A workshop as the daemon makes it, on a state folder with one generation."""

    def __init__(self, world: World, folder: Path, config: Config) -> None:
        self.world, self.folder = world, folder
        self.events: queue.Queue[ev.Event] = queue.Queue()
        self.sent: list[wire.AnyMessage] = []
        self.models = ModelStore(folder)
        self.models.promote(self.models.import_bundle(world.student, [world.public]))
        self.store = SampleStore(folder / "samples.db")
        self.jobs = JobFolders(folder / "jobs")
        self.inference = Inference(world.classifier(1), lambda f, v: None, lambda f, e: None)
        self.inference.start()
        self.teacher = TeacherClient(
            self.jobs,
            wire.Topics("understudy", "home", "cam"),
            self._publish,
            lambda key: None,
            teachers=folder / "teachers",
            trusted=(world.public,),
            answered=lambda job_id: self.events.put(ev.TeacherAnswered(0.0, job_id)),
            refused=lambda job_id, why: self.events.put(ev.TeacherRefused(0.0, job_id, why)),
            now_utc=lambda: 1000.0,
            limit_bytes=lambda: 120_000,
        )
        self.workshop = Workshop(
            config,
            self.models,
            self.store,
            self.jobs,
            self.teacher,
            self.inference,
            Judgements(folder / "judged.json"),
            world.key,
            self.events.put,
            lambda: 0.0,
        )

    def _publish(self, message: wire.AnyMessage, key: str) -> bool:
        self.sent.append(message)
        return True

    def buffer(self, pictures: np.ndarray, category: str = "") -> tuple[str, ...]:
        """Put images into the sample store, as the recorder does with what is novel or came with a label."""
        for sample in self.world.samples(pictures):
            assert self.store.add(sample.sample_id, sample.image, sample.feature, 0.0, "teal", 0.0, category)
        return sample_ids(pictures)

    def __call__(self, command: do.Command) -> ev.Event:
        """Carry it out; the one event that came of it."""
        self.reports = self.workshop.carry_out(command)
        event = self.events.get_nowait()
        assert self.events.empty()
        return event

    def trained(self) -> Path:
        """A round up to where the trainer has finished."""
        self.buffer(LIME)
        assert isinstance(self(PREPARE), ev.JobPrepared)
        folder = self.jobs.path(JOB)
        result = run(folder)
        assert result.ok
        write_result(folder, result)
        return folder

    @property
    def active(self) -> int:
        found = self.models.active()
        assert found is not None
        return found[0]
