"""A world small enough for tests: colours as categories, networks of a few thousand weights, signed bundles, jobs.

The networks are random, but their last layer is fitted, so they do know their categories. Torch-free but for `answer`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import safetensors.numpy
from nacl.signing import SigningKey

from agent.adapters.inference import Classifier
from agent.adapters.intake import Frame
from agent.adapters.job_folder import JobFolders
from agent.adapters.sample_store import Sample
from agent.job import Job
from agent.trainer import inputs, selection
from agent.trainer.inputs import Inputs
from transfer import activations, bundle, preprocess, signing, tflite
from transfer.blueprint import weight_shapes
from transfer.bundle import Bundle, Manifest, Pair
from transfer.graph import network_graph
from transfer.head import fit
from transfer.spec import InputSpec, NetSpec, resnet_cifar

Images = npt.NDArray[np.uint8]
Weights = dict[str, npt.NDArray[np.float32]]

SIDE = 16
INPUT = InputSpec(SIDE, SIDE, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
OLD, NEW = ("amber", "teal", "plum"), "lime"
COLOURS = {
    "amber": (230, 150, 20),
    "teal": (20, 150, 150),
    "plum": (120, 20, 100),
    "lime": (120, 250, 40),
    "navy": (10, 20, 90),
    "snow": (250, 250, 250),
}
STUDENT_WIDTHS, TEACHER_WIDTHS = (4, 6, 8), (6, 8, 12)


def images(label: str, count: int, seed: int = 0) -> Images:
    """uint8 [count, SIDE, SIDE, 3] of one category: its colour, lighter or darker, and noise."""
    rng = np.random.default_rng([seed, list(COLOURS).index(label)])
    light = rng.uniform(0.8, 1.0, (count, 1, 1, 1))
    noise = rng.normal(0, 10, (count, SIDE, SIDE, 3))
    pictures: Images = np.clip(light * np.array(COLOURS[label]) + noise, 0, 255).astype(np.uint8)
    return pictures


def mixed(labels: Sequence[str], each: int, seed: int = 0) -> tuple[Images, npt.NDArray[np.int64]]:
    """Images of all `labels`, and their targets int64."""
    return np.concatenate([images(label, each, seed) for label in labels]), np.repeat(np.arange(len(labels)), each)


def sample_ids(pictures: Images) -> tuple[str, ...]:
    return tuple(hashlib.sha256(picture.tobytes()).hexdigest() for picture in pictures)


def ready(job: Path, assigned: Sequence[int] | None = None) -> Inputs:
    """The inputs of a job, to learn from: all samples are of the first new category unless `assigned` says other."""
    read = inputs.read(job)
    found = [read.known] * len(read.images) if assigned is None else assigned
    return selection.settled(read, np.array(found, np.int64))[0]


def frame(image: Images, origin: str = "a.png") -> Frame:
    return Frame(hashlib.sha256(image.tobytes()).hexdigest(), origin, image, 0.0)


def random_weights(spec: NetSpec, seed: int) -> Weights:
    """Weights that keep activations of order 1, with batch norms that are not the identity."""
    rng = np.random.default_rng(seed)
    weights: Weights = {}
    for name, shape in weight_shapes(spec).items():
        if len(shape) > 1:
            array = rng.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))
        elif "bn" in name and name.endswith((".weight", ".running_var")):
            array = rng.uniform(0.7, 1.3, shape)
        else:
            array = rng.standard_normal(shape) / 10
        weights[name] = array.astype(np.float32)
    return weights


def features(spec: NetSpec, weights: Weights, pictures: Images) -> npt.NDArray[np.float32]:
    model = tflite.write(network_graph(spec, weights, SIDE, SIDE))
    return tflite.run(model, preprocess.normalise(pictures, INPUT))[1]


def fitted(spec: NetSpec, labels: Sequence[str], seed: int) -> Weights:
    """Random weights whose linear layer tells `labels` apart (least squares, logits of about 0 and 8)."""
    weights = random_weights(spec, seed)
    pictures, targets = mixed(labels, 40, seed=91)
    inputs = features(spec, weights, pictures)
    design = np.hstack([inputs, np.ones((len(inputs), 1), np.float32)])
    wanted = 8 * np.eye(len(labels))[targets]
    solution = np.linalg.solve(design.T @ design + 1e-3 * np.eye(design.shape[1]), design.T @ wanted)
    weights["linear.weight"] = np.ascontiguousarray(solution[:-1].T, np.float32)
    weights["linear.bias"] = solution[-1].astype(np.float32)
    return weights


@dataclass(frozen=True)
class World:
    """`student` knows OLD, `teacher` NEW too; both bundles are signed with `key`, whose public half is `public`."""

    folder: Path
    key: SigningKey
    student: Path
    teacher: Path
    digest_of_teacher: str
    loaded: dict[str, Classifier] = field(default_factory=dict)

    @property
    def public(self) -> str:
        return signing.public_key_hex(self.key)

    def bundle(self) -> Bundle:
        return bundle.load(self.student, trusted=None)

    def classifier(self, generation: int = 1) -> Classifier:
        """The student, loaded afresh."""
        return Classifier(self.bundle(), generation)

    def altered(self, directory: Path, *, files: dict[str, bytes] | None = None, **changes: Any) -> Path:
        """The student's bundle with other files or manifest fields, signed."""
        student = self.bundle()
        content = {name: student.read(name) for name in student.manifest.files} | (files or {})
        bundle.save(directory, msgspec.structs.replace(student.manifest, **changes, files={}), content, self.key)
        return directory

    def foresighted(self, directory: Path) -> Path:
        """A student that was taught about NEW without being shown it: the category is dormant."""
        student, every = self.bundle(), (*OLD, NEW)
        net = msgspec.structs.replace(student.manifest.net, classes=len(every))
        weights = fitted(net, every, seed=5)
        pictures, targets = mixed(OLD, 60, seed=1)
        statistics = fit(features(net, weights, pictures), targets, OLD)
        statistics = statistics.with_readout(weights["linear.weight"], weights["linear.bias"])
        statistics = statistics.with_quantiles(features(net, weights, mixed(OLD, 100, seed=2)[0]))
        files = {
            bundle.WEIGHTS: safetensors.numpy.save(weights),
            bundle.MODEL: tflite.write(network_graph(net, weights, SIDE, SIDE)),
            bundle.STATISTICS: safetensors.numpy.save(statistics.to_arrays()),
        }
        return self.altered(directory, files=files, net=net, dormant=(NEW,))

    def samples(self, pictures: Images, model: Path | None = None) -> list[Sample]:
        """As the store would hand them out, seen by the student or by the bundle `model`."""
        if str(model) not in self.loaded:
            self.loaded[str(model)] = Classifier(bundle.load(model or self.student, trusted=None), 1)
        verdicts = self.loaded[str(model)].classify(pictures)
        named = zip(sample_ids(pictures), pictures, verdicts, strict=True)
        return [Sample(i, p, v.feature, v.novelty, v.label, 0.0, "", "") for i, p, v in named]

    def job(self, jobs: Path, pictures: Images, *, model: Path | None = None, **changes: Any) -> Path:
        """A job folder about `pictures`, every fourth held out, for the student or another bundle that is to learn.
        `changes`: fields of Job."""
        samples = self.samples(pictures, model)
        job = Job(
            job_id="job-000001",
            categories=(NEW,),
            tier="head",
            sample_ids=tuple(sample.sample_id for sample in samples),
            holdout=tuple(n % 4 == 0 for n in range(len(samples))),
            epochs=3,
            batch_size=16,
            learning_rate=1e-3,
        )
        job = msgspec.structs.replace(job, **changes)
        folders = JobFolders(jobs)
        folders.make(job, samples, model or self.student)
        return folders.path(job.job_id)

    def answer(self, job: Path, rows: slice = slice(None), name: str = "a", **changes: Any) -> Path:
        """Put the teacher's answer about the job's samples into its folder, as the daemon does. Needs torch."""
        from transfer import questions
        from transfer.networks import build

        teacher = bundle.load(self.teacher, trusted=None)
        told = msgspec.json.decode((job / "job.json").read_bytes(), type=Job)
        pictures = safetensors.numpy.load_file(job / "samples.safetensors")["images"]
        asked: dict[str, Any] = {
            "images": pictures[rows],
            "sample_ids": told.sample_ids[rows],
            "views": range(told.views),
            "flip": True,
            "blocks": activations.wanted(self.bundle().manifest.pairs),
        }
        net = build(teacher.manifest.net, teacher.weights())
        path = job / "activations" / f"{name}.safetensors"
        path.write_bytes(questions.answer(net, INPUT, teacher.manifest.labels, teacher.digest, **{**asked, **changes}))
        return path


def make(folder: Path) -> World:
    """Build both bundles in `folder`."""
    key = signing.generate(folder / "key")
    knows = (*OLD, NEW)
    teacher_net = resnet_cifar(8, len(knows), widths=TEACHER_WIDTHS)
    teacher = Manifest(kind="teacher", name="tiny teacher", labels=knows, input=INPUT, net=teacher_net)
    content = {bundle.WEIGHTS: safetensors.numpy.save(fitted(teacher_net, knows, seed=1))}
    bundle.save(folder / "teacher", teacher, content, key)
    digest = bundle.load(folder / "teacher", trusted=None).digest

    net = resnet_cifar(8, len(OLD), widths=STUDENT_WIDTHS)
    weights = fitted(net, OLD, seed=5)
    pictures, targets = mixed(OLD, 60, seed=1)
    statistics = fit(features(net, weights, pictures), targets, OLD)
    statistics = statistics.with_quantiles(features(net, weights, mixed(OLD, 100, seed=2)[0]))
    held_out, truth = mixed(OLD, 10, seed=3)
    pairs = tuple(Pair(group, 0, tuple(range(width))) for group, width in enumerate(STUDENT_WIDTHS))
    student = Manifest(
        kind="student", name="tiny student", labels=OLD, input=INPUT, net=net, pairs=pairs, teacher=digest
    )
    files = {
        bundle.WEIGHTS: safetensors.numpy.save(weights),
        bundle.MODEL: tflite.write(network_graph(net, weights, SIDE, SIDE)),
        bundle.STATISTICS: safetensors.numpy.save(statistics.to_arrays()),
        bundle.HOLDOUT: safetensors.numpy.save({"images": held_out, "targets": truth}),
    }
    bundle.save(folder / "student", student, files, key)
    return World(folder, key, folder / "student", folder / "teacher", digest)
