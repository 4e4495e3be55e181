from __future__ import annotations

import numpy as np
import pytest
import torch

from transfer.activations import encode
from transfer.losses import pooled
from transfer.networks import Network
from transfer.questions import BATCH_IMAGES, Question, QuestionError, answer, ask, check, to_tensor
from transfer.spec import InputSpec, resnet_cifar
from transfer.views import view
from transfer.wire import BlockWanted

torch.set_num_threads(1)

SPEC = InputSpec(16, 16, (0.4, 0.5, 0.6), (0.2, 0.2, 0.2))


@pytest.fixture(scope="module")
def net() -> Network:
    torch.manual_seed(0)
    return Network(resnet_cifar(14, 3)).eval()


def pictures(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, 16, 16, 3), np.uint8)


def test_answers_are_what_the_network_says_of_each_view(net: Network) -> None:
    images, names, channels = pictures(3), ("a", "b", "c"), (7, 0, 30)
    question = Question(images, names, (0, 2), True, (BlockWanted(1, 1, channels),), 2)
    answer = ask(net, net.spec.widths, ("x", "y", "z"), "d", SPEC, [question])[0]
    with torch.no_grad():
        one = net(to_tensor(view(images[1], "b", 2)[None], SPEC))
    assert np.allclose(answer.logits[1, 1], one.logits[0].numpy(), atol=1e-4)
    small = pooled(one.blocks[1][1], 2)[0].numpy()
    assert np.allclose(answer.maps[1][1, 1], small[list(channels)], atol=1e-4)
    others = np.delete(small, channels, axis=0)
    assert answer.residuals[1][1, 1] == pytest.approx(np.square(others).sum(), rel=1e-3)


def test_questions_together_are_answered_as_if_alone(net: Network) -> None:
    questions = [
        Question(pictures(3), ("a", "b", "c"), (0, 1), False, (BlockWanted(0, 0, (1, 2)),)),
        Question(pictures(BATCH_IMAGES, 1), ["n"] * BATCH_IMAGES),
        Question(pictures(2, 2), ("d", "e"), (4,), True, (BlockWanted(2, 1, (3,)), BlockWanted(0, 1, (0,)))),
    ]
    together = ask(net, net.spec.widths, "xyz", "d", SPEC, questions)
    for question, found in zip(questions, together, strict=True):
        alone = ask(net, net.spec.widths, "xyz", "d", SPEC, [question])[0]
        assert found.sample_ids == tuple(question.sample_ids)
        assert np.allclose(found.logits, alone.logits, atol=1e-4)
        assert {g: maps.shape for g, maps in found.maps.items()} == {g: m.shape for g, m in alone.maps.items()}
        for group in alone.maps:
            assert np.allclose(found.maps[group], alone.maps[group], atol=1e-4)
            assert np.allclose(found.residuals[group], alone.residuals[group], rtol=1e-3)


@pytest.mark.parametrize(
    "blocks",
    [
        (BlockWanted(3, 0, (0,)),),
        (BlockWanted(0, 2, (0,)),),
        (BlockWanted(0, 0, ()),),
        (BlockWanted(0, 0, (16,)),),
        (BlockWanted(0, 0, (1, 1)),),
        (BlockWanted(0, 0, (1,)), BlockWanted(0, 1, (1,))),
    ],
)
def test_a_question_about_what_is_not_there_is_refused(net: Network, blocks: tuple[BlockWanted, ...]) -> None:
    with pytest.raises(QuestionError):
        check(net.spec.widths, Question(pictures(1), ("a",), blocks=blocks))


def test_at_home_the_answer_is_the_bytes_a_worker_would_send(net: Network) -> None:
    images, ids, blocks = pictures(2), ("a" * 64, "b" * 64), (BlockWanted(1, 0, (0, 5)),)
    data = answer(
        net, SPEC, ("x", "y", "z"), "d", images=images, sample_ids=ids, views=(0, 3), flip=True, blocks=blocks
    )
    question = Question(images, ids, (0, 3), True, blocks)
    assert data == encode(ask(net, net.spec.widths, ("x", "y", "z"), "d", SPEC, [question])[0])
