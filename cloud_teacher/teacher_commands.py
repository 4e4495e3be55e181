"""What `understudy teacher train | compress | serve` do, given their parsed arguments."""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from cloud_teacher.augmentation import Augmentation, papers
from cloud_teacher.compress import Compressed, check_new
from cloud_teacher.compress import compress as make_student
from cloud_teacher.datasets import Dataset, DatasetError, default_cache
from cloud_teacher.distil import CompressionError, Recipe, features_weight
from cloud_teacher.fleet_commands import address_of, topics_of
from cloud_teacher.given_shape import student_shape
from cloud_teacher.labels import read_labels
from cloud_teacher.log import logger
from cloud_teacher.progress import Report, standard
from cloud_teacher.recognise import recognise
from cloud_teacher.serve import Service
from cloud_teacher.signals import stop_on_signals
from cloud_teacher.train import Schedule, default_plan, train_teacher
from cloud_teacher.unlabelled import unlabelled
from cloud_teacher.without_labels import compress_unlabelled
from cloud_teacher.worker import TeacherWorker
from cloud_teacher.zoo import Teacher, load_teacher, save_teacher, teacher_manifest
from transfer import signing
from transfer.networks import weights_of
from transfer.plan import Depth
from transfer.questions import Widths
from transfer.spec import NetSpec, resnet_cifar

if TYPE_CHECKING:
    from nacl.signing import SigningKey

UNLABELLED_VIEWS = 400_000
"""Views that a student is taught by without labels, if there are enough pictures or 40 epochs of them; not tuned."""


def train(arguments: argparse.Namespace) -> int:
    report, key, cache = _prepare(arguments)
    dataset = _dataset(arguments, arguments.size, cache, report)
    spec, schedule = default_plan(dataset)
    if arguments.depth:
        spec = resnet_cifar(arguments.depth, len(dataset.labels), spec.stem_stride)
    schedule = _adjusted(schedule, arguments)
    started = time.monotonic()
    net, accuracy = train_teacher(
        dataset,
        spec,
        schedule,
        augmentation=_augmentation(arguments, dataset),
        threads=arguments.threads,
        cache_dir=cache,
        report=report,
    )
    manifest = teacher_manifest(f"{dataset.name}-teacher", dataset.labels, dataset.input, spec, flip=dataset.flip)
    teacher = save_teacher(arguments.out, manifest, weights_of(net), key)
    _finish(
        arguments,
        f"teacher in {arguments.out}: {accuracy:.1%} on {len(dataset.labels)} categories{_judged_by(arguments)}",
        {"accuracy": accuracy, "digest": teacher.digest, "seconds": time.monotonic() - started},
    )
    return 0


def compress(arguments: argparse.Namespace) -> int:
    if arguments.unlabelled:
        return _compress_unlabelled(arguments)
    report, key, cache = _prepare(arguments)
    if arguments.as_teacher_bundle:
        check_new(arguments.as_teacher_bundle)
    teacher = _teacher(arguments)
    shape = _shape(arguments, teacher)
    dataset = _dataset(arguments, arguments.size or teacher.input.height, cache, report)
    depth, schedule = default_student(dataset, teacher.widths)
    if shape is not None:
        depth = max(map(len, shape.groups))
    known = _known(dataset.name, dataset.labels, arguments)
    recipe = _recipe(arguments, teacher, known, arguments.blocks or depth, schedule)
    started = time.monotonic()
    made = make_student(
        teacher,
        dataset,
        recipe,
        shape=shape,
        input=dataset.input if arguments.standardise else None,
        out_dir=arguments.out,
        key=key,
        cache_dir=cache,
        report=report,
    )
    said = f"{made.accuracy:.1%} on the {len(made.manifest.labels)} categories it knows{_judged_by(arguments)}"
    _finish_student(arguments, teacher, key, made, said, {"accuracy": made.accuracy}, started)
    return 0


def _compress_unlabelled(arguments: argparse.Namespace) -> int:
    labelled = ("data_dir", "size", "standardise", "validation", "student")
    given = [f"--{name.replace('_', '-')}" for name in labelled if getattr(arguments, name)]
    given += ["--data"] if arguments.data != "auto" else []
    if given:
        raise CompressionError(f"--unlabelled DIR says what the student is taught by: leave out {', '.join(given)}")
    report, key, cache = _prepare(arguments)
    if arguments.as_teacher_bundle:
        check_new(arguments.as_teacher_bundle)
    teacher = _teacher(arguments)
    known = _known("the teacher", teacher.labels, arguments)
    _ = teacher.manifest  # what cannot be pruned is said before the pictures are read
    started = time.monotonic()
    pictures = unlabelled(arguments.unlabelled, teacher.input, report=report)
    schedule = Schedule(max(4, min(40, UNLABELLED_VIEWS // len(pictures))), batch_size=32, learning_rate=0.05)
    depth = arguments.blocks or min(2, max(map(len, teacher.widths)))
    recipe = _recipe(arguments, teacher, known, depth, schedule)
    made = compress_unlabelled(
        teacher, pictures, recipe, out_dir=arguments.out, key=key, cache_dir=cache, report=report
    )
    said = f"says what its teacher says of {made.accuracy:.1%} of pictures that it is sure about"
    _finish_student(arguments, teacher, key, made, said, {"agreement": made.accuracy}, started)
    return 0


def _recipe(
    arguments: argparse.Namespace, teacher: Teacher, known: tuple[str, ...], depth: Depth, schedule: Schedule
) -> Recipe:
    return Recipe(
        known=known,
        schedule=_adjusted(schedule, arguments),
        depth=depth,
        threshold=arguments.threshold,
        most_parameters=arguments.params,
        most_macs=arguments.macs,
        score=arguments.score,
        views=arguments.views,
        holdout_per_class=arguments.holdout_per_class,
        quantise=arguments.quantise,
        inherit=not arguments.from_scratch,
        taught=arguments.taught,
        features_weight=features_weight(teacher.widths, depth),
        mixed=not arguments.unmixed,
        cells=arguments.cells,
    )


def _finish_student(
    arguments: argparse.Namespace,
    teacher: Teacher,
    key: SigningKey | None,
    made: Compressed,
    said: str,
    measured: Mapping[str, float],
    started: float,
) -> None:
    if arguments.as_teacher_bundle:
        save_teacher(arguments.as_teacher_bundle, teacher.manifest, weights_of(teacher.net), key)
    _finish(
        arguments,
        f"student in {arguments.out}: {said}, {made.parameters / 1e6:.3f} M parameters",
        {
            **measured,
            "parameters": made.parameters,
            "digest": made.digest,
            "seconds": time.monotonic() - started,
        },
    )


def serve(arguments: argparse.Namespace) -> int:
    stop = stop_on_signals()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    teacher = _teacher(arguments)
    worker = TeacherWorker(teacher, teacher.bundle_dir)
    Service(worker, address_of(arguments), topics_of(arguments), logger(arguments.json)).run(stop)
    return 0


def default_student(dataset: Dataset, teacher: Widths) -> tuple[int, Schedule]:
    """Blocks a group, and a schedule, that suit the data set on a small machine: seconds for digits, else minutes."""
    deepest = max(map(len, teacher))
    if dataset.name == "digits":
        return 1, Schedule(epochs=12, batch_size=64, learning_rate=0.1)
    if dataset.name in ("cifar10", "cifar100"):
        return min(3, deepest), Schedule(epochs=8, batch_size=128, learning_rate=0.1)
    epochs = min(40, max(8, 40_000 // len(dataset.train_images)))
    return min(2, deepest), Schedule(epochs, batch_size=32, learning_rate=0.05)


def _prepare(arguments: argparse.Namespace) -> tuple[Report, SigningKey | None, Path]:
    """What can be wrong without any computing is found before it."""
    check_new(arguments.out)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    key = signing.load_key(arguments.key) if arguments.key else None
    return standard(arguments.json_progress), key, arguments.cache or default_cache()


def _dataset(arguments: argparse.Namespace, size: int | None, cache: Path, report: Report) -> Dataset:
    dataset = recognise(arguments.data, arguments.data_dir, cache_dir=cache, size=size or 64, report=report)
    for skipped in dataset.skipped[:20]:
        report("skipped", 1, 1, skipped)
    if arguments.standardise:
        dataset = dataset.standardised(per_image=arguments.standardise == "per-image")
    return dataset.validated(_held(arguments.validation), arguments.seed) if arguments.validation else dataset


def _held(text: str) -> int | float:
    """A number of images or, below 1, a share of them."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < math.inf or (value >= 1 and value != int(value)):
        raise DatasetError(f"--validation {text}: give a number of images such as 5000, or a share of them such as 0.1")
    return value if value < 1 else int(value)


def _judged_by(arguments: argparse.Namespace) -> str:
    return " (of validation images)" if arguments.validation else ""


def _augmentation(arguments: argparse.Namespace, dataset: Dataset) -> Augmentation | None:
    """None for the default, so that trainings begun without these options are found again."""
    if arguments.augmentation == "shift" and arguments.cutout is None:
        return None
    chosen = {
        "shift": Augmentation(flip=dataset.flip),
        "paper": papers(dataset.input.height, flip=dataset.flip),
        "none": Augmentation(pad=0, flip=False),
    }[arguments.augmentation]
    return chosen if arguments.cutout is None else replace(chosen, cutout=arguments.cutout)


def _teacher(arguments: argparse.Namespace) -> Teacher:
    labels = read_labels(arguments.labels) if arguments.labels else None
    return load_teacher(arguments.teacher, labels=labels, size=arguments.input_size)


def _shape(arguments: argparse.Namespace, teacher: Teacher) -> NetSpec | None:
    """The student's shape where it is given. What its teacher cannot do is said before the data is read."""
    if arguments.as_teacher_bundle or not arguments.student:
        _ = teacher.manifest
    if not arguments.student:
        return None
    if arguments.blocks:
        raise CompressionError("--student says how many blocks there are: leave --blocks out")
    return student_shape(arguments.student, len(teacher.labels), teacher.input.height)


def _known(where: str, labels: tuple[str, ...], arguments: argparse.Namespace) -> tuple[str, ...]:
    """Those of --known, all but those of --unknown, or all."""
    given = arguments.known if arguments.known is not None else arguments.unknown
    if given is None:
        return labels
    named = tuple(part.strip() for part in given.split(",") if part.strip())
    strangers = sorted(set(named) - set(labels))
    if strangers or not named:
        wrong = ", ".join(strangers) or "(none named)"
        raise DatasetError(f"{where} has no category {wrong}; it has {', '.join(labels)}")
    return named if arguments.known is not None else tuple(label for label in labels if label not in named)


def _adjusted(schedule: Schedule, arguments: argparse.Namespace) -> Schedule:
    """With what was asked for on the command line."""
    asked = {
        "epochs": arguments.epochs,
        "batch_size": arguments.batch_size,
        "learning_rate": arguments.learning_rate,
        "seed": arguments.seed,
    }
    return replace(schedule, **{name: value for name, value in asked.items() if value is not None})


def _finish(arguments: argparse.Namespace, text: str, result: Mapping[str, Any]) -> None:
    if arguments.json_progress:
        line = {"stage": "finished", "done": 1, "total": 1, "detail": text, "result": result}
        print(json.dumps(line), flush=True)
    else:
        print(text)
