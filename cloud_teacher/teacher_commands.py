"""What `understudy teacher train | compress | serve` do, given their parsed arguments."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from cloud_teacher.compress import compress as make_student
from cloud_teacher.datasets import Dataset, DatasetError, default_cache
from cloud_teacher.distil import CompressionError, Recipe
from cloud_teacher.fleet_commands import address_of, topics_of
from cloud_teacher.log import logger
from cloud_teacher.progress import Report, standard
from cloud_teacher.recognise import recognise
from cloud_teacher.serve import Service
from cloud_teacher.signals import stop_on_signals
from cloud_teacher.train import Schedule, default_plan, train_teacher
from cloud_teacher.worker import TeacherWorker
from cloud_teacher.zoo import load_teacher, save_teacher, teacher_manifest
from transfer import signing
from transfer.networks import weights_of
from transfer.spec import NetSpec, resnet_cifar

if TYPE_CHECKING:
    from nacl.signing import SigningKey


def train(arguments: argparse.Namespace) -> int:
    report, key, cache = _prepare(arguments)
    dataset = _dataset(arguments, arguments.size, cache, report)
    spec, schedule = default_plan(dataset)
    if arguments.depth:
        spec = resnet_cifar(arguments.depth, len(dataset.labels), spec.stem_stride)
    schedule = _adjusted(schedule, arguments)
    started = time.monotonic()
    net, accuracy = train_teacher(dataset, spec, schedule, threads=arguments.threads, cache_dir=cache, report=report)
    manifest = teacher_manifest(f"{dataset.name}-teacher", dataset.labels, dataset.input, spec, flip=dataset.flip)
    teacher = save_teacher(arguments.out, manifest, weights_of(net), key)
    _finish(
        arguments,
        f"teacher in {arguments.out}: {accuracy:.1%} on {len(dataset.labels)} categories",
        {"accuracy": accuracy, "digest": teacher.digest, "seconds": time.monotonic() - started},
    )
    return 0


def compress(arguments: argparse.Namespace) -> int:
    report, key, cache = _prepare(arguments)
    if arguments.as_teacher_bundle:
        _check_new(arguments.as_teacher_bundle)
    teacher = load_teacher(arguments.teacher)
    dataset = _dataset(arguments, arguments.size or teacher.input.height, cache, report)
    depth, schedule = default_student(dataset, teacher.spec)
    recipe = Recipe(
        known=_known(dataset, arguments),
        schedule=_adjusted(schedule, arguments),
        depth=arguments.blocks or depth,
        threshold=arguments.threshold,
        most_parameters=arguments.parameters,
        views=arguments.views,
        holdout_per_class=arguments.holdout_per_class,
        quantise=arguments.quantise,
    )
    started = time.monotonic()
    made = make_student(teacher, dataset, recipe, out_dir=arguments.out, key=key, cache_dir=cache, report=report)
    if arguments.as_teacher_bundle:
        save_teacher(arguments.as_teacher_bundle, teacher.manifest, weights_of(teacher.net), key)
    _finish(
        arguments,
        f"student in {arguments.out}: {made.accuracy:.1%} on the {len(made.manifest.labels)} categories it knows, "
        f"{made.parameters / 1e6:.3f} M parameters",
        {
            "accuracy": made.accuracy,
            "parameters": made.parameters,
            "digest": made.digest,
            "seconds": time.monotonic() - started,
        },
    )
    return 0


def serve(arguments: argparse.Namespace) -> int:
    stop = stop_on_signals()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    teacher = load_teacher(arguments.teacher)
    worker = TeacherWorker(teacher, teacher.bundle_dir)
    Service(worker, address_of(arguments), topics_of(arguments), logger(arguments.json)).run(stop)
    return 0


def default_student(dataset: Dataset, teacher: NetSpec) -> tuple[int, Schedule]:
    """Blocks a group, and a schedule, that suit the data set on a small machine: seconds for digits, else minutes."""
    deepest = max(len(blocks) for blocks in teacher.groups)
    if dataset.name == "digits":
        return 1, Schedule(epochs=12, batch_size=64, learning_rate=0.1)
    if dataset.name == "cifar10":
        return min(3, deepest), Schedule(epochs=8, batch_size=128, learning_rate=0.1)
    epochs = min(40, max(8, 40_000 // len(dataset.train_images)))
    return min(2, deepest), Schedule(epochs, batch_size=32, learning_rate=0.05)


def _prepare(arguments: argparse.Namespace) -> tuple[Report, SigningKey | None, Path]:
    """What can be wrong without any computing is found before it."""
    _check_new(arguments.out)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    key = signing.load_key(arguments.key) if arguments.key else None
    return standard(arguments.json_progress), key, arguments.cache or default_cache()


def _check_new(directory: Path) -> None:
    if directory.exists():
        raise CompressionError(f"{directory} exists already; bundles are never changed: choose another directory")


def _dataset(arguments: argparse.Namespace, size: int | None, cache: Path, report: Report) -> Dataset:
    dataset = recognise(arguments.data, arguments.data_dir, cache_dir=cache, size=size or 64, report=report)
    for skipped in dataset.skipped[:20]:
        report("skipped", 1, 1, skipped)
    return dataset


def _known(dataset: Dataset, arguments: argparse.Namespace) -> tuple[str, ...]:
    named = tuple(part.strip() for part in (arguments.known or arguments.unknown).split(",") if part.strip())
    strangers = sorted(set(named) - set(dataset.labels))
    if strangers or not named:
        wrong = ", ".join(strangers) or "(none named)"
        raise DatasetError(f"{dataset.name} has no category {wrong}; it has {', '.join(dataset.labels)}")
    return named if arguments.known else tuple(label for label in dataset.labels if label not in named)


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
