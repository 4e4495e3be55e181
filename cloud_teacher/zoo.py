"""Teachers: loaded from a bundle or from published weights, asked for logits and block maps."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import safetensors.numpy
import torch

from cloud_teacher.cifar import INPUT as CIFAR10_INPUT
from cloud_teacher.cifar import LABELS as CIFAR10_LABELS
from transfer import bundle
from transfer.activations import Activations
from transfer.bundle import Manifest
from transfer.networks import ResNet, WeightsError, build, load_published
from transfer.questions import Question, ask
from transfer.spec import InputSpec, NetSpec

if TYPE_CHECKING:
    from nacl.signing import SigningKey

Images = npt.NDArray[np.uint8]
CHECKPOINT_SUFFIXES = (".th", ".pth", ".pt")


class TeacherError(ValueError):
    """A teacher that cannot be loaded; the message says why."""


@dataclass(frozen=True, eq=False)
class Teacher:
    """A network that knows `labels`. `digest` names it wherever it is referred to: the digest of its bundle."""

    net: ResNet
    manifest: Manifest
    digest: str
    bundle_dir: Path | None = None

    @property
    def labels(self) -> tuple[str, ...]:
        return self.manifest.labels

    @property
    def input(self) -> InputSpec:
        return self.manifest.input

    @property
    def spec(self) -> NetSpec:
        return self.net.spec

    def logits(self, images: Images) -> npt.NDArray[np.float32]:
        """[n, C] of images uint8 [n, h, w, 3], as they are."""
        return self.answer([Question(images, [""] * len(images))])[0].logits[:, 0]

    def accuracy(self, images: Images, targets: npt.NDArray[np.int64]) -> float:
        return float((self.logits(images).argmax(axis=1) == targets).mean())

    def answer(self, questions: Sequence[Question]) -> list[Activations]:
        """Raises QuestionError; see `transfer.questions.ask`."""
        return ask(self.net, self.labels, self.digest, self.input, questions)


def fast(net: ResNet) -> ResNet:
    """The same network, laid out as CPUs convolve fastest."""
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return net


def load_teacher(path: Path) -> Teacher:
    """A teacher from a bundle directory of kind teacher, or from published CIFAR-10 weights (.th).

    Raises TeacherError, or BundleError for a damaged bundle.
    """
    if path.is_dir():
        return _from_bundle(path)
    if path.suffix not in CHECKPOINT_SUFFIXES or not path.is_file():
        raise TeacherError(f"{path} is neither a bundle directory nor a file of published weights (.th)")
    try:
        spec, weights = load_published(path)
    except WeightsError as error:
        raise TeacherError(str(error)) from error
    if spec.classes != len(CIFAR10_LABELS):
        raise TeacherError(f"{path} decides between {spec.classes} categories; published weights are of CIFAR-10's ten")
    manifest = teacher_manifest("published-cifar10", CIFAR10_LABELS, CIFAR10_INPUT, spec, flip=True)
    # Its digest is that of the bundle it would make, so that a student finds its teacher in either form.
    with tempfile.TemporaryDirectory() as temporary:
        return replace(save_teacher(Path(temporary) / "teacher", manifest, weights, None), bundle_dir=None)


def _from_bundle(path: Path) -> Teacher:
    loaded = bundle.load(path, trusted=None)
    if loaded.manifest.kind != "teacher":
        raise TeacherError(f"{path} is the bundle of a {loaded.manifest.kind}, not of a teacher")
    return Teacher(fast(build(loaded.manifest.net, loaded.weights())), loaded.manifest, loaded.digest, path)


def teacher_manifest(name: str, labels: Sequence[str], input: InputSpec, spec: NetSpec, *, flip: bool) -> Manifest:
    return Manifest(kind="teacher", name=name, labels=tuple(labels), input=input, net=spec, flip=flip)


def save_teacher(
    out_dir: Path, manifest: Manifest, weights: Mapping[str, npt.NDArray[np.float32]], key: SigningKey | None
) -> Teacher:
    """Write the teacher's bundle. The same teacher always gets the same digest, whoever signs it."""
    contiguous = {name: np.ascontiguousarray(array) for name, array in weights.items()}
    bundle.save(out_dir, manifest, {bundle.WEIGHTS: safetensors.numpy.save(contiguous)}, key)
    return _from_bundle(out_dir)
