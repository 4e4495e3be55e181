"""The whole way of a network that this project knows nothing of: loaded by its YAML file, asked, distilled from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

import cloud_teacher.examples
from cloud_teacher.__main__ import teacher_main
from cloud_teacher.compress import compress
from cloud_teacher.datasets import Dataset
from cloud_teacher.distil import Recipe
from cloud_teacher.examples.efficientnet_lite0 import efficientnet_lite0
from cloud_teacher.given_shape import student_shape
from cloud_teacher.train import Schedule
from cloud_teacher.worker import TeacherWorker
from cloud_teacher.zoo import Teacher, TeacherError, load_teacher
from transfer import activations, bundle, wire
from transfer.preprocess import encode_png
from transfer.questions import Question
from transfer.wire import BlockWanted

SIDE = 64
EXAMPLE = Path(cloud_teacher.examples.__file__).parent / "efficientnet_lite0.yaml"


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example's own file beside random weights, for smaller images."""
    folder = tmp_path_factory.mktemp("example")
    torch.manual_seed(0)
    net = efficientnet_lite0(10)
    with torch.no_grad():  # batch norms that fit the weights: else what comes out at the end is next to nothing
        for _ in range(20):
            net(torch.randn(8, 3, SIDE, SIDE))
    torch.save(net.state_dict(), folder / "efficientnet_lite0.pt")
    content = yaml.safe_load(EXAMPLE.read_text())
    content["input"] = {"height": SIDE, "width": SIDE}
    (folder / "teacher.yaml").write_text(yaml.safe_dump(content))
    return folder / "teacher.yaml"


@pytest.fixture(scope="module")
def teacher(described: Path) -> Teacher:
    return load_teacher(described)


def photographs(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, SIDE, SIDE, 3), np.uint8)


def test_it_is_the_published_network() -> None:
    """4,652,008 parameters with a thousand categories."""
    assert sum(parameter.numel() for parameter in efficientnet_lite0().parameters()) == 4_652_008


def test_its_groups_are_those_of_the_file(teacher: Teacher) -> None:
    assert teacher.widths == ((40, 40), (80, 80, 80, 112, 112, 112), (192, 192, 192, 192, 320))
    assert (teacher.feature_width, len(teacher.labels)) == (320, 10)
    with torch.no_grad():
        blocks = teacher.module(torch.zeros(1, 3, SIDE, SIDE)).blocks
    assert [group[0].shape[-1] for group in blocks] == [8, 4, 2]


def test_it_answers_questions(teacher: Teacher) -> None:
    pictures = photographs(2, 0)
    answer = teacher.answer([Question(pictures, ("a", "b"), (0, 1), True, (BlockWanted(2, 4, (0, 319)),))])[0]
    assert answer.logits.shape == (2, 2, 10) and answer.maps[2].shape == (2, 2, 2, 2, 2)
    assert np.allclose(answer.logits[:, 0], teacher.logits(pictures), atol=1e-5)


def test_a_worker_serves_it_but_cannot_hand_it_out(teacher: Teacher) -> None:
    worker = TeacherWorker(teacher, teacher.bundle_dir)
    asked = {"request_id": "r", "reply_topic": "u/home/d/teacher/rsp", "expires_utc": 10.0, "teacher": teacher.digest}
    png = encode_png(photographs(1, 1)[0])
    blocks = (BlockWanted(0, 1, (39,)),)
    request = wire.ActivationRequest(**asked, sample_ids=("0" * 64,), images=(png,), blocks=blocks)
    message = wire.decode_reply(worker.answer(request)[0])
    assert isinstance(message, wire.Chunk)
    assert activations.decode(message.data).labels == teacher.labels
    message = wire.decode_reply(worker.answer(wire.BundleRequest(**asked))[0])
    assert isinstance(message, wire.Refusal) and message.code == "no_bundle"


def test_a_student_of_a_given_shape_is_distilled_from_it(teacher: Teacher, tmp_path: Path) -> None:
    labels, targets = teacher.labels[:3], np.repeat(np.arange(3), 10)
    images = photographs(30, 2)
    data = Dataset("noise", labels, images, targets, images[:6], targets[:6], teacher.input, flip=True)
    recipe = Recipe(labels[:2], Schedule(epochs=1, batch_size=8), views=1, holdout_per_class=2)
    shape = student_shape("resnet8", 10, SIDE)
    made = compress(teacher, data, recipe, shape=shape, out_dir=tmp_path / "student")
    assert (made.manifest.teacher, made.manifest.labels) == (teacher.digest, labels[:2])
    assert [(pair.group, pair.teacher_block, len(pair.channels)) for pair in made.manifest.pairs] == [
        (0, 1, 16),
        (1, 5, 32),
        (2, 4, 64),
    ]
    assert bundle.load(tmp_path / "student", trusted=None).manifest.net.groups == shape.groups
    question = Question(images[:1], ("a",), blocks=activations.wanted(made.manifest.pairs))
    assert teacher.answer([question])[0].maps[2].shape[2] == 64


def test_it_can_neither_be_pruned_nor_packed(
    teacher: Teacher, described: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(TeacherError, match="neither be pruned nor packed"):
        _ = teacher.spec
    command = ["compress", "--teacher", str(described), "--known", "tench,church", "--out", str(tmp_path / "out")]
    for more in ([], ["--student", "resnet20", "--as-teacher-bundle", str(tmp_path / "teacher")]):
        assert teacher_main([*command, *more]) == 1
        assert "can neither be pruned nor packed" in capsys.readouterr().err
    assert teacher_main([*command, "--student", "resnet20", "--blocks", "1"]) == 1
    assert "leave --blocks out" in capsys.readouterr().err
    assert teacher_main([*command, "--student", "resnet21"]) == 1
    assert "depth 21" in capsys.readouterr().err
