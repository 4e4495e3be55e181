"""The commands that take their time: they read models, write job folders, judge and swap. One thread, in order.

Each ends in events that say what came of it; a command repeated after a crash finds its work done or does it over.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from agent.adapters.cores import apart
from agent.adapters.inference import Classifier, Inference, InferenceError
from agent.adapters.job_folder import JobFolders
from agent.adapters.judge import examine, judge
from agent.adapters.judgements import Judgements, judged
from agent.adapters.model_store import ModelStore, ModelStoreError
from agent.adapters.sample_store import SampleStore
from agent.adapters.teacher_client import TeacherClient, TeacherClientError
from agent.config import Config
from agent.core import commands as do
from agent.core import events as ev
from agent.job import JobError, Tier, labels_of, read_result, write_job
from agent.preparation import Detail, Preparation, Report, verdicts
from transfer.bundle import BundleError

if TYPE_CHECKING:
    from nacl.signing import SigningKey

FIRST_FRAME_WAIT_S = 2.0
MAX_RESCREENED = 5000


class Workshop:
    """`carry_out` returns what is worth telling the operator."""

    def __init__(
        self,
        config: Config,
        models: ModelStore,
        store: SampleStore,
        jobs: JobFolders,
        teacher: TeacherClient,
        inference: Inference,
        judgements: Judgements,
        key: SigningKey,
        put: Callable[[ev.Event], None],
        now: Callable[[], float],
    ) -> None:
        self._config, self._models, self._store, self._jobs = config, models, store, jobs
        self._teacher, self._inference, self._judgements, self._key = teacher, inference, judgements, key
        self._put, self._now = put, now
        self._preparation = Preparation(config.training, store, jobs, now)

    def carry_out(self, command: do.Command) -> list[Report]:
        """Do it. What can go wrong in the world ends in an event; what raises is a defect."""
        # An interpreter's threads, where it has several, would be born with the restriction and keep it.
        beside = self._inference.thread_id if self._config.model.threads == 1 else None
        with apart(beside):
            return self._carry_out(command)

    def _carry_out(self, command: do.Command) -> list[Report]:
        if isinstance(command, do.PrepareJob):
            return self._prepare(command)
        if isinstance(command, do.AskTeacher):
            return self._ask(command)
        if isinstance(command, do.JudgeCandidate):
            return self._judge(command)
        if isinstance(command, do.Promote):
            return self._promote(command)
        if isinstance(command, do.RollBack):
            return self._roll_back(command)
        if isinstance(command, do.CloseJob):
            return self._close(command)
        raise TypeError(f"no work for {type(command).__name__}")

    def failure_of(self, command: do.Command, why: str) -> Iterator[ev.Event]:
        """The event that ends what `command` began, when it could not be carried out."""
        at = self._now()
        if isinstance(command, do.PrepareJob):
            yield ev.JobUnpreparable(at, command.job_id, why)
        elif isinstance(command, do.AskTeacher):
            yield ev.TeacherRefused(at, command.job_id, why)
        elif isinstance(command, do.JudgeCandidate):
            yield ev.CandidateUnusable(at, command.job_id, why)
        elif isinstance(command, do.Promote):
            yield ev.PromotionFailed(at, command.generation, why)
        elif isinstance(command, do.RollBack):
            yield ev.RollbackFailed(at, why)

    def trainable(self, job_id: str, tier: Tier, threads: int) -> Path:
        """The job's folder, with what the core decided since it was made: the tier may have fallen, the threads are
        the device's."""
        job = self._jobs.job(job_id)
        wanted = msgspec.structs.replace(job, tier=tier, threads=threads)
        if wanted != job:
            write_job(self._jobs.path(job_id), wanted)
        return self._jobs.path(job_id)

    # ------------------------------------------------------------------------------------------------ a job

    def _prepare(self, command: do.PrepareJob) -> list[Report]:
        active = self._models.active()
        assert active is not None
        number, folder = active
        event, reports = self._preparation.prepare(command, folder, lambda: self._classifier(number))
        self._put(event)
        return reports

    def count_new(self) -> int:
        """How many samples in the buffer may be of new categories: all that did not come with the label of a known."""
        return self._store.count_besides(self._inference.current.manifest.labels)

    def _classifier(self, generation: int) -> Classifier:
        self._inference.await_lull()  # to read and verify it is work for milliseconds, too
        return Classifier(
            self._models.load(generation),
            generation,
            threads=self._config.model.threads,
            false_alarm_rate=self._config.novelty.false_alarm_rate,
            buffer_share=self._config.novelty.buffer_share,
            pause=self._inference.await_lull,
        )

    def _ask(self, command: do.AskTeacher) -> list[Report]:
        try:
            if self._config.privacy.mode == "teacher_download":
                self._teacher.ask_for_teacher(command.job_id)
            else:
                self._teacher.ask_for_activations(command.job_id)
        except (TeacherClientError, JobError, BundleError, OSError) as error:
            self._put(ev.TeacherRefused(self._now(), command.job_id, str(error)))
        return []

    # ------------------------------------------------------------------------------------------------ a candidate

    def _judge(self, command: do.JudgeCandidate) -> list[Report]:
        folder = self._jobs.path(command.job_id)
        try:
            result = read_result(folder)
            if result is None or not result.ok:
                why = result.reason if result else "the trainer left no result"
                self._put(ev.CandidateUnusable(self._now(), command.job_id, why))
                return []
            job = self._jobs.job(command.job_id)
            generation = self._models.adopt(folder / "candidate", self._key)
            labels, held_out = labels_of(job, result), set(result.held_out)
            judging = [row for row, name in enumerate(job.sample_ids) if name in held_out]
            active = self._models.active()
            assert active is not None
            candidate = self._models.load(generation)
            examine(candidate)
            scores = judge(
                self._models.load(active[0]),
                candidate,
                self._jobs.images(command.job_id)[judging],
                [labels[job.sample_ids[row]] for row in judging],
            )
            learned = [category for category in job.categories if category not in result.left_out]
            judgement = judged(self._classifier(generation), candidate, generation, time.time(), scores, learned)
            self._judgements.add(candidate.digest, judgement)
        except (JobError, BundleError, InferenceError, OSError) as error:
            self._put(ev.CandidateUnusable(self._now(), command.job_id, str(error)))
            return []
        left_out = tuple(result.left_out)
        self._put(ev.CandidateJudged(self._now(), command.job_id, generation, scores, left_out))
        detail = {
            **msgspec.to_builtins(scores),
            "trainer_s": round(result.seconds, 2),
            "refused": len(result.refused),
            "unlabelled": sum(label == "" for label in result.labels) - len(result.refused),
            "left_out": ", ".join(f"{category} ({count})" for category, count in result.left_out.items()),
            "tier": result.tier,
        }
        return [("judged", detail)]

    def _promote(self, command: do.Promote) -> list[Report]:
        active = self._models.active()
        assert active is not None
        began_s = self._now()
        try:
            self._inference.watch_waits()
            classifier = self._classifier(command.generation)
            self._inference.await_lull()
            self._models.promote(command.generation)
        except (BundleError, InferenceError, ModelStoreError, OSError) as error:
            self._put(ev.PromotionFailed(self._now(), command.generation, str(error)))
            return []
        dropped = self._inference.counters().dropped
        self._inference.swap(classifier)
        self._await_first_frame()
        served = self._inference.counters()
        self._put(ev.Promoted(self._now(), command.generation, active[0], classifier.manifest.labels))
        detail: Detail = {
            "generation": command.generation,
            "seconds": round(self._now() - began_s, 3),
            "longest_wait_ms": round(served.longest_wait_s * 1000, 2),
            "dropped_frames": served.dropped - dropped,
        }
        return [("swapped", detail)]

    def _await_first_frame(self) -> None:
        """Until the new model has served one frame, so that the report covers the swap; not for ever: none may come."""
        frames, until_at = self._inference.counters().frames, self._now() + FIRST_FRAME_WAIT_S
        while self._inference.counters().frames <= frames and self._now() < until_at:
            time.sleep(0.005)

    def _roll_back(self, command: do.RollBack) -> list[Report]:
        """It serves first and is written down then: a model that fails is not to go on because the card is slow or
        full. That it is owed was durable before."""
        try:
            classifier = self._classifier(command.to)
        except (BundleError, InferenceError, OSError) as error:
            self._put(ev.RollbackFailed(self._now(), str(error)))
            return []
        self._inference.swap(classifier)
        self._inference.await_lull()
        try:
            self._models.roll_back(command.to)
            previous = self._models.previous()
        except (BundleError, ModelStoreError, OSError) as error:
            why = f"generation {command.to} serves, but this cannot be written down: {error}"
            self._put(ev.RollbackFailed(self._now(), why, again=True))
            return []
        labels = classifier.manifest.labels
        self._put(ev.RolledBack(self._now(), command.to, labels, previous[0] if previous else None))
        return []

    # ------------------------------------------------------------------------------------------------ the end

    def _close(self, command: do.CloseJob) -> list[Report]:
        self._teacher.forget(command.job_id)
        try:
            # Closed in a former life already, where there is no folder: rereading the buffer would be for nothing.
            if command.learned and self._jobs.exists(command.job_id):
                self._store.remove(self._taught(command.job_id))
                self._rescreen()
            self._store.release(command.job_id)
        except OSError as error:  # the folder stays: the next start closes the job again
            return [("job_not_closed", {"error": str(error)})]
        self._jobs.remove(command.job_id)
        try:
            if not command.learned:
                self._discard_candidates()
            self._models.collect_garbage(candidates=())
        except OSError as error:
            return [("garbage_not_collected", {"error": str(error)})]
        finally:
            self._put(ev.NovelSampleStored(self._now(), self.count_new()))
        return []

    def _discard_candidates(self) -> None:
        """Generations that came after the active one: of this round, which is to end as if it had not begun."""
        active, previous = self._models.active(), self._models.previous()
        for number in self._models.numbers():
            if active and number > active[0] and (previous is None or number != previous[0]):
                self._models.discard(number)

    def _taught(self, job_id: str) -> tuple[str, ...]:
        """The samples that were learned as something. Those that nobody knew stay: the next trigger may be for them."""
        try:
            result = read_result(self._jobs.path(job_id))
            labels = labels_of(self._jobs.job(job_id), result) if result else {}
            return tuple(name for name, label in labels.items() if label)
        except JobError:
            return ()

    def _rescreen(self) -> None:
        """What the new model knows is no longer novel and need not be kept, unless it came with a label: it waits for
        the round in which that counts."""
        active = self._models.active()
        assert active is not None
        classifier = self._classifier(active[0])
        known = [
            sample.sample_id
            for sample, verdict in verdicts(classifier, self._store.select(MAX_RESCREENED))
            if not verdict.kept and not sample.category
        ]
        self._store.remove(known)
