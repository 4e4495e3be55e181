from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import torch

from cloud_teacher.compress import compress
from cloud_teacher.datasets import Dataset
from cloud_teacher.distil import Recipe
from cloud_teacher.given_shape import ShapeError, given_shape, student_shape
from cloud_teacher.train import Schedule
from cloud_teacher.zoo import Teacher
from transfer.questions import to_tensor
from transfer.spec import resnet_cifar, resnet_imagenet, vgg16, wide_resnet


def test_shapes_by_name() -> None:
    assert student_shape("resnet20", 7, 32) == resnet_cifar(20, 7)
    assert student_shape("resnet20", 7, 224) == resnet_cifar(20, 7, stem_stride=2)
    assert student_shape("resnet18", 7, 224) == resnet_imagenet(18, 7)
    assert student_shape("wrn-16-2", 7, 32) == wide_resnet(16, 2, 7)
    assert student_shape("vgg16-bn", 7, 32) == vgg16(7, norm=True, hidden=())


def test_shapes_by_file_have_the_teachers_classes(tmp_path: Path) -> None:
    spec = resnet_cifar(8, 3, widths=(4, 6, 8))
    (tmp_path / "net.json").write_bytes(msgspec.json.encode(msgspec.structs.replace(spec, cells=2)))
    assert student_shape(str(tmp_path / "net.json"), 9, 32) == msgspec.structs.replace(spec, classes=9)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("resnet21", "depth 21 is not"),
        ("mobilenet", r"give resnet20 .* or a \.json file"),
        ("absent.json", "cannot be read"),
        ("wrn-11-2", "depth 11 is not"),
    ],
)
def test_what_is_no_shape(text: str, says: str) -> None:
    with pytest.raises(ShapeError, match=says):
        student_shape(text, 10, 32)


def test_a_damaged_file_is_no_shape(tmp_path: Path) -> None:
    (tmp_path / "net.json").write_text('{"stem_width": "wide"}')
    with pytest.raises(ShapeError, match=r"net\.json: .*stem_width"):
        student_shape(str(tmp_path / "net.json"), 10, 32)


def test_a_student_answers_to_what_differs_most_between_images(teacher: Teacher, dataset: Dataset) -> None:
    images = to_tensor(dataset.train_images, teacher.input)
    spec = resnet_cifar(8, 4, widths=(4, 12, 20))
    chosen = given_shape(teacher, spec, images)
    with torch.no_grad():
        outputs = teacher.module(images)
    variances = outputs.blocks[0][-1].mean(dim=(2, 3)).var(dim=0)
    assert sorted(variances.topk(4).indices.tolist()) == list(chosen.out[0])
    assert chosen.out[1] == tuple(range(12))
    assert chosen.out[2] == (), "a narrower block of the teacher answers for none"
    assert chosen.feature == tuple(range(16))


def test_groups_must_be_as_many(teacher: Teacher, dataset: Dataset) -> None:
    with pytest.raises(ShapeError, match="student has 4 groups of blocks and its teacher 3"):
        given_shape(teacher, resnet_imagenet(18, 4), to_tensor(dataset.train_images[:4], teacher.input))


def test_a_student_of_a_given_shape_learns_from_its_teacher(teacher: Teacher, dataset: Dataset, tmp_path: Path) -> None:
    """From chance alone, narrower than its teacher in one group and wider in another."""
    recipe = Recipe(("across", "down", "red"), Schedule(epochs=6, batch_size=16, learning_rate=0.05), views=2)
    shape = resnet_cifar(8, 4, widths=(6, 8, 20))
    made = compress(teacher, dataset, recipe, shape=shape, out_dir=tmp_path / "student")
    assert made.accuracy >= 0.9
    assert [(pair.group, pair.teacher_block, len(pair.channels)) for pair in made.manifest.pairs] == [
        (0, 1, 6),
        (1, 1, 8),
    ]


def test_a_shape_too_large_for_memory_is_refused(tmp_path: Path) -> None:
    groups = [[{"mid": 4096, "out": 4096}] * 2]
    shape = {"stem_width": 4096, "stem_stride": 1, "groups": groups, "classes": 2}
    (tmp_path / "net.json").write_bytes(msgspec.json.encode(shape))
    with pytest.raises(ShapeError, match="more than 268435456 parameters"):
        student_shape(str(tmp_path / "net.json"), 10, 32)
