"""Teachers: loaded from a bundle, from published weights or from a description of any torch module, and asked for
logits and block maps."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import numpy.typing as npt
import safetensors.numpy
import torch
from torch import nn

from cloud_teacher import description
from cloud_teacher.cifar import INPUT as CIFAR10_INPUT
from cloud_teacher.cifar import LABELS as CIFAR10_LABELS
from cloud_teacher.datasets import IMAGENET_MEAN, IMAGENET_STD
from transfer import bundle
from transfer.activations import Activations
from transfer.bundle import Manifest
from transfer.networks import Network, WeightsError, build, load_published
from transfer.questions import Question, ask
from transfer.spec import InputSpec, NetSpec

if TYPE_CHECKING:
    from nacl.signing import SigningKey

Images = npt.NDArray[np.uint8]
CHECKPOINT_SUFFIXES = (".th", ".pth", ".pt")
CIFAR_FAMILIES = ("resnet", "wide")
PHOTOGRAPH_SIDE = 224


class TeacherError(ValueError):
    """A teacher that cannot be loaded; the message says why."""


@dataclass(frozen=True, eq=False)
class Teacher:
    """A network that knows `labels`: one of our own, or any torch module that answers like one.

    module: takes normalised images NCHW, gives `transfer.networks.Outputs`. digest: names it wherever it is referred
    to; that of its bundle, if it has one. widths: per group, the channels of its blocks' maps. known_as: the manifest
    of one of our own networks; of others only what stands above is known.
    """

    module: nn.Module
    digest: str
    labels: tuple[str, ...]
    input: InputSpec
    flip: bool
    widths: tuple[tuple[int, ...], ...]
    feature_width: int
    known_as: Manifest | None = None
    bundle_dir: Path | None = None

    @property
    def manifest(self) -> Manifest:
        """Raises TeacherError for a network that is not our own."""
        if self.known_as is None:
            raise TeacherError(
                "this teacher is a network that only its YAML file describes: it can answer questions and teach a "
                "student of a given shape (compress --student), but it can neither be pruned nor packed as a bundle"
            )
        return self.known_as

    @property
    def spec(self) -> NetSpec:
        """Raises TeacherError for a network that is not our own."""
        return self.manifest.net

    @property
    def net(self) -> Network:
        """Raises TeacherError for a network that is not our own."""
        _ = self.manifest
        assert isinstance(self.module, Network)
        return self.module

    def logits(self, images: Images) -> npt.NDArray[np.float32]:
        """[n, C] of images uint8 [n, h, w, 3], as they are."""
        return self.answer([Question(images, [""] * len(images))])[0].logits[:, 0]

    def accuracy(self, images: Images, targets: npt.NDArray[np.int64]) -> float:
        return float((self.logits(images).argmax(axis=1) == targets).mean())

    def answer(self, questions: Sequence[Question]) -> list[Activations]:
        """Raises QuestionError; see `transfer.questions.ask`."""
        return ask(self.module, self.widths, self.labels, self.digest, self.input, questions)


AnyNetwork = TypeVar("AnyNetwork", bound=nn.Module)


def fast(net: AnyNetwork) -> AnyNetwork:
    """The same network, laid out as CPUs convolve fastest."""
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return net


def load_teacher(path: Path, *, labels: Sequence[str] | None = None, size: int | None = None) -> Teacher:
    """A teacher from a bundle directory of kind teacher, from published weights (.th, .pth), or from a YAML file that
    describes any torch module (`cloud_teacher.description`).

    labels, size: of published weights, what is not in their file: the names of their categories (by default
    CIFAR-10's) and the side of the images in pixels (by default 32 for networks of CIFAR's type, else 224).

    Raises TeacherError, AdapterError for what is wrong in a YAML file, or BundleError for a damaged bundle.
    """
    is_file = path.is_file()
    if is_file and path.suffix in CHECKPOINT_SUFFIXES:
        return _published(path, labels, size)
    if labels is not None or size is not None:
        raise TeacherError(f"{path} says itself what its labels and images are; those are for published weights")
    if path.is_dir():
        return _from_bundle(path)
    if is_file and path.suffix in description.SUFFIXES:
        return _from_description(path)
    raise TeacherError(
        f"{path} is neither a bundle directory nor a file of published weights ({', '.join(CHECKPOINT_SUFFIXES)}), nor "
        "a YAML file that describes a network"
    )


def _published(path: Path, labels: Sequence[str] | None, size: int | None) -> Teacher:
    try:
        spec, weights = load_published(path)
    except WeightsError as error:
        raise TeacherError(str(error)) from error
    of_cifar = spec.family in CIFAR_FAMILIES
    name = f"published-{spec.family}"
    if labels is None:
        if not of_cifar or spec.classes != len(CIFAR10_LABELS):
            raise TeacherError(
                f"{path} decides between {spec.classes} categories, whose names are not in the file: give --labels "
                "FILE, one name a line, in the order of the logits"
            )
        name, labels = "published-cifar10", CIFAR10_LABELS
    if len(labels) != spec.classes:
        raise TeacherError(f"{path} decides between {spec.classes} categories, but there are {len(labels)} labels")
    side = size or (CIFAR10_INPUT.height if of_cifar else PHOTOGRAPH_SIDE)
    # Both kinds of published networks were trained with ImageNet's mean and deviation.
    manifest = teacher_manifest(name, labels, InputSpec(side, side, IMAGENET_MEAN, IMAGENET_STD), spec, flip=True)
    # Its digest is that of the bundle it would make, so that a student finds its teacher in either form.
    with tempfile.TemporaryDirectory() as temporary:
        return replace(save_teacher(Path(temporary) / "teacher", manifest, weights, None), bundle_dir=None)


def _from_description(path: Path) -> Teacher:
    found = description.load_described(path)
    return Teacher(
        fast(found.net), found.digest, found.labels, found.input, found.flip, found.widths, found.feature_width
    )


def _from_bundle(path: Path) -> Teacher:
    loaded = bundle.load(path, trusted=None)
    manifest = loaded.manifest
    if manifest.kind != "teacher":
        raise TeacherError(f"{path} is the bundle of a {manifest.kind}, not of a teacher")
    net = fast(build(manifest.net, loaded.weights()))
    return Teacher(
        module=net,
        digest=loaded.digest,
        labels=manifest.labels,
        input=manifest.input,
        flip=manifest.flip,
        widths=manifest.net.widths,
        feature_width=manifest.net.feature_width,
        known_as=manifest,
        bundle_dir=path,
    )


def teacher_manifest(name: str, labels: Sequence[str], input: InputSpec, spec: NetSpec, *, flip: bool) -> Manifest:
    return Manifest(kind="teacher", name=name, labels=tuple(labels), input=input, net=spec, flip=flip)


def save_teacher(
    out_dir: Path, manifest: Manifest, weights: Mapping[str, npt.NDArray[np.float32]], key: SigningKey | None
) -> Teacher:
    """Write the teacher's bundle. The same teacher always gets the same digest, whoever signs it."""
    contiguous = {name: np.ascontiguousarray(array) for name, array in weights.items()}
    bundle.save(out_dir, manifest, {bundle.WEIGHTS: safetensors.numpy.save(contiguous)}, key)
    return _from_bundle(out_dir)
