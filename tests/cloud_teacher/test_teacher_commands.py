"""`understudy teacher train` and `compress` on a small folder of pictures, as a person would call them."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cloud_teacher.__main__ import teacher_main
from cloud_teacher.augmentation import Augmentation
from cloud_teacher.datasets import Dataset
from cloud_teacher.teacher_commands import _augmentation, default_student
from cloud_teacher.zoo import load_teacher
from transfer import bundle, signing
from transfer.spec import resnet_cifar


@pytest.fixture
def pictures(tmp_path: Path, dataset: Dataset) -> Path:
    """The stripes as files in category folders."""
    for index, (image, target) in enumerate(zip(dataset.train_images, dataset.train_targets, strict=True)):
        folder = tmp_path / "pictures" / dataset.labels[target]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{index}.png")
    return tmp_path / "pictures"


def lines(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]


def test_train_then_compress(pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    common = ["--data-dir", str(pictures), "--cache", str(tmp_path / "cache"), "--threads", "1", "--json-progress"]
    train = ["train", *common, "--size", "16", "--depth", "14", "--epochs", "6", "--batch-size", "16"]
    assert teacher_main([*train, "--out", str(tmp_path / "teacher")]) == 0
    told = lines(capsys.readouterr().out)
    assert {line["stage"] for line in told} == {"read photographs", "train teacher", "finished"}
    assert all(0 <= line["done"] <= line["total"] for line in told)  # type: ignore[operator]
    key = signing.generate(tmp_path / "key")
    compress = ["compress", *common, "--teacher", str(tmp_path / "teacher"), "--unknown", "plain", "--epochs", "3"]
    compress += ["--blocks", "1,2,1", "--key", str(tmp_path / "key"), "--holdout-per-class", "4"]
    compress += ["--as-teacher-bundle", str(tmp_path / "signed"), "--out", str(tmp_path / "student")]
    assert teacher_main(compress) == 0
    told = lines(capsys.readouterr().out)
    assert [line["stage"] for line in told if line["done"] == line["total"]][-2:] == ["pack student", "finished"]
    trusted = [signing.public_key_hex(key)]
    student = bundle.load(tmp_path / "student", trusted=trusted)
    signed = bundle.load(tmp_path / "signed", trusted=trusted)
    assert student.manifest.labels == ("across", "down", "red")
    assert [len(blocks) for blocks in student.manifest.net.groups] == [1, 2, 1]
    assert student.manifest.teacher == signed.digest == load_teacher(tmp_path / "teacher").digest
    result = told[-1]["result"]
    assert isinstance(result, dict) and result["digest"] == student.digest
    holdout = student.holdout()
    assert holdout is not None and np.bincount(holdout[1]).tolist() == [4, 4, 4]


def failed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert teacher_main(list(arguments)) == 1
    return capsys.readouterr().err.splitlines()[-1]


def test_mistakes_are_said_before_any_training(
    pictures: Path, bundle_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = ["--data-dir", str(pictures), "--cache", str(tmp_path / "cache"), "--out", str(tmp_path / "out")]
    compress = ["compress", *data, "--teacher", str(bundle_dir)]
    assert "no category zebra; it has across" in failed(capsys, *compress, "--known", "red,zebra")
    assert "2 numbers of blocks for a network of 3 groups" in failed(capsys, *compress, "--blocks", "1,1")
    assert "at least two" in failed(capsys, *compress, "--known", "red")
    assert "exists already" in failed(capsys, "train", "--out", str(tmp_path))
    assert "depth 15" in failed(capsys, "train", *data, "--depth", "15")
    assert "signing key" in failed(capsys, *compress, "--unknown", "red", "--key", str(tmp_path / "absent"))
    assert "is no folder" in failed(
        capsys, "train", "--data-dir", str(tmp_path / "absent"), "--out", str(tmp_path / "o")
    )
    assert "neither a bundle" in failed(capsys, *compress[:-1], str(tmp_path / "absent"), "--unknown", "red")
    assert not (tmp_path / "out").exists()


def test_compress_by_pictures_without_labels(
    pictures: Path, bundle_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The folders' names are read by nobody."""
    compress = ["compress", "--unlabelled", str(pictures), "--teacher", str(bundle_dir), "--unknown", "plain"]
    compress += ["--epochs", "1", "--blocks", "1", "--threads", "1", "--cache", str(tmp_path / "cache")]
    compress += ["--holdout-per-class", "3", "--json-progress", "--out", str(tmp_path / "student")]
    assert teacher_main(compress) == 0
    told = lines(capsys.readouterr().out)
    stages = list(dict.fromkeys(line["stage"] for line in told))
    assert stages == ["read pictures", "ask teacher", "train student", "pack student", "finished"]
    student = bundle.load(tmp_path / "student", trusted=None)
    assert student.manifest.labels == ("across", "down", "red") and student.manifest.dormant == ("plain",)
    result = told[-1]["result"]
    assert isinstance(result, dict) and 0 <= result["agreement"] <= 1 and result["digest"] == student.digest


def test_pictures_without_labels_take_the_place_of_a_data_set(
    pictures: Path, bundle_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    compress = ["compress", "--teacher", str(bundle_dir), "--out", str(tmp_path / "out")]
    compress += ["--unlabelled", str(pictures)]
    said = failed(capsys, *compress, "--data", "folder", "--data-dir", str(pictures), "--validation", "0.1")
    assert "leave out --data-dir, --validation, --data" in said
    assert "the teacher has no category zebra" in failed(capsys, *compress, "--known", "zebra,red")
    assert "is no folder" in failed(capsys, *compress[:-1], str(tmp_path / "absent"))
    assert not (tmp_path / "out").exists()


def test_the_default_student_is_no_deeper_than_its_teacher(dataset: Dataset) -> None:
    for depth in (8, 14, 56):
        blocks, schedule = default_student(dataset, resnet_cifar(depth, 4).widths)
        assert 1 <= blocks <= (depth - 2) // 6 and schedule.epochs > 0


def test_preprocessing_augmentation_and_validation_are_chosen_on_the_command_line(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A student may be standardised in another way than its teacher; nothing looks at the test images."""
    common = ["--data-dir", str(pictures), "--cache", str(tmp_path / "cache"), "--threads", "1", "--epochs", "2"]
    common += ["--batch-size", "16", "--validation", "0.25", "--standardise"]
    train = ["train", *common, "per-image", "--size", "16", "--depth", "8", "--augmentation", "paper", "--cutout", "6"]
    assert teacher_main([*train, "--out", str(tmp_path / "teacher")]) == 0
    assert "of validation images" in capsys.readouterr().out
    teacher = load_teacher(tmp_path / "teacher")
    assert teacher.input.per_image
    compress = ["compress", *common, "dataset", "--teacher", str(tmp_path / "teacher"), "--unknown", "plain"]
    assert teacher_main([*compress, "--student", "resnet8", "--out", str(tmp_path / "student")]) == 0
    student = bundle.load(tmp_path / "student", trusted=None)
    assert not student.manifest.input.per_image and student.manifest.net.widths == ((16,), (32,), (64,))
    assert student.manifest.teacher == teacher.digest


def test_what_is_asked_of_augmentation_is_done(dataset: Dataset) -> None:
    def asked(augmentation: str, cutout: int | None) -> Augmentation | None:
        return _augmentation(argparse.Namespace(augmentation=augmentation, cutout=cutout), dataset)

    assert asked("shift", None) is None
    assert asked("shift", 5) == Augmentation(flip=False, cutout=5)
    assert asked("paper", None) == Augmentation(pad=4, flip=False, cutout=16)
    assert asked("none", None) == Augmentation(pad=0, flip=False)


@pytest.mark.parametrize("held", ["0", "-1", "1.5", "many", "nan", "inf"])
def test_a_validation_part_is_a_number_or_a_share(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], held: str
) -> None:
    train = ["train", "--data-dir", str(pictures), "--cache", str(tmp_path / "cache"), "--out", str(tmp_path / "out")]
    assert "give a number of images" in failed(capsys, *train, f"--validation={held}")


def test_labels_and_size_come_with_published_weights(
    bundle_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "labels.txt").write_text("across\nacross\n")
    compress = ["compress", "--known", "across,down", "--out", str(tmp_path / "out"), "--teacher", str(bundle_dir)]
    assert "are both 'across'" in failed(capsys, *compress, "--labels", str(tmp_path / "labels.txt"))
    assert "says itself what" in failed(capsys, *compress, "--input-size", "64")


def test_a_student_of_all_categories_by_the_labels_alone(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without --known and --unknown it is to know all; what nobody taught it is not dormant in it."""
    made = tmp_path / "teacher"
    common = ["--data-dir", str(pictures), "--size", "16", "--epochs", "1", "--threads", "1", "--cache", str(tmp_path)]
    assert teacher_main(["train", *common, "--depth", "8", "--out", str(made)]) == 0
    student = ["compress", *common, "--teacher", str(made), "--taught", "labels", "--from-scratch"]
    assert teacher_main([*student, "--out", str(tmp_path / "all")]) == 0
    assert teacher_main([*student, "--unknown", "red", "--out", str(tmp_path / "few")]) == 0
    every, few = (bundle.load(tmp_path / name, trusted=None).manifest for name in ("all", "few"))
    assert "red" in every.labels and "red" not in few.labels
    assert every.dormant == few.dormant == () and few.net.classes == len(few.labels)
