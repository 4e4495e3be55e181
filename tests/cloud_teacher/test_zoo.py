from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from cloud_teacher.cifar import LABELS as CIFAR10
from cloud_teacher.cifar import read_batch
from cloud_teacher.datasets import Dataset
from cloud_teacher.zoo import Teacher, TeacherError, load_teacher, save_teacher
from transfer import bundle, signing
from transfer.networks import Network, weights_of
from transfer.questions import Question
from transfer.spec import NetSpec, resnet_cifar, resnet_imagenet, vgg16
from transfer.wire import BlockWanted

NARROW_RESNET18 = resnet_imagenet(18, 5, widths=(4, 4, 6, 8))
NARROW_VGG16 = vgg16(5, norm=True, hidden=(8, 8), widths=(4, 4, 6, 6, 8))


def test_a_teacher_is_the_same_after_saving_and_loading(teacher: Teacher, bundle_dir: Path, dataset: Dataset) -> None:
    loaded = load_teacher(bundle_dir)
    assert (loaded.labels, loaded.digest, loaded.bundle_dir) == (teacher.labels, teacher.digest, bundle_dir)
    assert np.allclose(loaded.logits(dataset.test_images[:4]), teacher.logits(dataset.test_images[:4]), atol=1e-5)
    assert loaded.accuracy(dataset.test_images, dataset.test_targets) >= 0.9


def test_the_digest_does_not_depend_on_who_signs(teacher: Teacher, tmp_path: Path) -> None:
    key = signing.generate(tmp_path / "key")
    signed = save_teacher(tmp_path / "signed", teacher.manifest, weights_of(teacher.net), key)
    assert signed.digest == teacher.digest
    assert bundle.load(tmp_path / "signed", trusted=[signing.public_key_hex(key)]).manifest.kind == "teacher"


def published(path: Path, classes: int = 10) -> Path:
    torch.manual_seed(0)
    state = {f"module.{name}": value for name, value in Network(resnet_cifar(8, classes)).state_dict().items()}
    torch.save({"state_dict": state}, path)
    return path


def test_published_weights_have_the_digest_of_the_bundle_they_make(tmp_path: Path) -> None:
    teacher = load_teacher(published(tmp_path / "resnet8.th"))
    assert teacher.labels == CIFAR10 and teacher.bundle_dir is None
    saved = save_teacher(tmp_path / "bundle", teacher.manifest, weights_of(teacher.net), None)
    assert saved.digest == teacher.digest


def test_names_and_size_are_given_to_published_weights(tmp_path: Path) -> None:
    path, names = published(tmp_path / "resnet8.pth", 3), ("x", "y", "z")
    teacher = load_teacher(path, labels=names)
    assert (teacher.labels, teacher.input.height, teacher.widths) == (names, 32, ((16,), (32,), (64,)))
    assert load_teacher(path, labels=names, size=48).input.width == 48
    with pytest.raises(TeacherError, match="3 categories, but there are 2 labels"):
        load_teacher(path, labels=("x", "y"))


@pytest.mark.parametrize("spec", [NARROW_RESNET18, NARROW_VGG16], ids=["resnet18", "vgg16"])
def test_torchvisions_weights_take_photographs(tmp_path: Path, spec: NetSpec) -> None:
    torch.manual_seed(0)
    torch.save(Network(spec).state_dict(), tmp_path / "weights.pth")
    with pytest.raises(TeacherError, match="give --labels"):
        load_teacher(tmp_path / "weights.pth")
    names = tuple("abcde")
    teacher = load_teacher(tmp_path / "weights.pth", labels=names)
    assert (teacher.input.height, teacher.input.mean) == (224, (0.485, 0.456, 0.406))
    small = load_teacher(tmp_path / "weights.pth", labels=names, size=64)
    question = Question(np.zeros((1, 64, 64, 3), np.uint8), ("a",), blocks=(BlockWanted(3, 1, (0, 5)),))
    answer = small.answer([question])[0]
    assert answer.logits.shape == (1, 1, 5) and answer.maps[3].shape[2] == 2


def test_what_is_no_teacher_is_refused(tmp_path: Path, teacher: Teacher) -> None:
    with pytest.raises(TeacherError, match="neither a bundle directory nor"):
        load_teacher(tmp_path / "absent.th")
    (tmp_path / "text.th").write_text("no weights")
    with pytest.raises(TeacherError, match=r"text\.th"):
        load_teacher(tmp_path / "text.th")
    with pytest.raises(TeacherError, match="100 categories, whose names are not in the file: give --labels"):
        load_teacher(published(tmp_path / "cifar100.th", 100))
    with pytest.raises(TeacherError, match="says itself what its labels"):
        load_teacher(tmp_path, labels=("a", "b"))
    (tmp_path / "dir").mkdir()
    with pytest.raises(bundle.BundleError, match=r"manifest\.json"):
        load_teacher(tmp_path / "dir")


def test_answers_carry_the_teachers_name_and_labels(teacher: Teacher, dataset: Dataset) -> None:
    question = Question(dataset.test_images[:2], ("a", "b"), (0, 1), False, (BlockWanted(2, 1, (0, 3)),))
    answer = teacher.answer([question])[0]
    assert (answer.labels, answer.teacher) == (teacher.labels, teacher.digest)
    assert answer.maps[2].shape == (2, 2, 2, 2, 2)


def test_the_published_resnet20_knows_cifar10(shared_dir: Path) -> None:
    teacher = load_teacher(shared_dir / "teachers" / "resnet20-12fca82f.th")
    images, targets = read_batch(shared_dir / "data" / "cifar-10-batches-py" / "test_batch")
    assert teacher.accuracy(images[:300], targets[:300]) >= 0.88
