"""Asking a teacher about images: what goes in, and what is kept of the blocks' maps. The same code in the cloud and,
where the teacher came to the device, in the trainer. Torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from transfer.activations import POOL, Activations, encode
from transfer.losses import pooled
from transfer.networks import Network, Outputs
from transfer.preprocess import normalise
from transfer.spec import InputSpec
from transfer.views import view
from transfer.wire import BlockWanted

Images = npt.NDArray[np.uint8]
BATCH_IMAGES = 128

Widths = Sequence[Sequence[int]]
"""Per group, the channels of its blocks' maps (`NetSpec.widths`)."""


class QuestionError(ValueError):
    """A question that this teacher cannot answer; the message says why."""


@dataclass(frozen=True, eq=False)
class Question:
    """images uint8 [n, h, w, 3] of the teacher's size, named by sample_ids; answered for every one of `views`."""

    images: Images
    sample_ids: Sequence[str]
    views: Sequence[int] = (0,)
    flip: bool = True
    blocks: Sequence[BlockWanted] = ()
    pool: int = POOL

    def pictures(self) -> list[Images]:
        """The n * views pictures [h, w, 3], image-major."""
        named = zip(self.images, self.sample_ids, strict=True)
        return [view(image, name, index, flip=self.flip) for image, name in named for index in self.views]


def check(widths: Widths, question: Question) -> None:
    """Raises QuestionError if it asks for a block or channel that there is not, or for two blocks of one group."""
    if len({wanted.group for wanted in question.blocks}) != len(question.blocks):
        raise QuestionError("only one block of each group can be asked for")
    for wanted in question.blocks:
        if wanted.group >= len(widths) or wanted.block >= len(widths[wanted.group]):
            raise QuestionError(f"the teacher has no block {wanted.block} in group {wanted.group}")
        width, channels = widths[wanted.group][wanted.block], wanted.channels
        if not channels or len(set(channels)) != len(channels) or max(channels) >= width:
            raise QuestionError(
                f"group {wanted.group}, block {wanted.block}: channels must be distinct and below {width}"
            )


@torch.no_grad()
def ask(
    net: Callable[[Tensor], Outputs],
    widths: Widths,
    labels: Sequence[str],
    digest: str,
    input: InputSpec,
    questions: Sequence[Question],
) -> list[Activations]:
    """Several questions at once: their pictures share batches, so many small ones cost as much as one large.

    `net` is any teacher's, in evaluation mode, `widths` the channels of its blocks' maps. Only what was asked for is
    kept of each batch; memory does not grow with the network. Raises QuestionError.
    """
    for question in questions:
        check(widths, question)
    open_answers = [_Answer(question) for question in questions]
    pictures = [(answer, picture) for answer in open_answers for picture in answer.question.pictures()]
    for start in range(0, len(pictures), BATCH_IMAGES):
        batch = pictures[start : start + BATCH_IMAGES]
        outputs = net(to_tensor(np.stack([picture for _, picture in batch]), input))
        for answer in open_answers:
            rows = [row for row, (owner, _) in enumerate(batch) if owner is answer]
            if not rows:
                continue
            span = slice(rows[0], rows[-1] + 1)
            answer.logits.append(outputs.logits[span])
            for wanted in answer.question.blocks:
                maps = outputs.blocks[wanted.group][wanted.block][span]
                kept, residual = reduced(maps, wanted.channels, answer.question.pool)
                answer.maps[wanted.group].append(kept)
                answer.residuals[wanted.group].append(residual)
    return [answer.finished(tuple(labels), digest) for answer in open_answers]


class _Answer:
    def __init__(self, question: Question) -> None:
        self.question = question
        self.logits: list[Tensor] = []
        self.maps: dict[int, list[Tensor]] = {wanted.group: [] for wanted in question.blocks}
        self.residuals: dict[int, list[Tensor]] = {wanted.group: [] for wanted in question.blocks}

    def finished(self, labels: tuple[str, ...], digest: str) -> Activations:
        lead = (len(self.question.images), len(self.question.views))

        def whole(parts: list[Tensor]) -> npt.NDArray[np.float32]:
            joined = torch.cat(parts)
            return np.asarray(joined.reshape(*lead, *joined.shape[1:]).numpy(), np.float32)

        return Activations(
            sample_ids=tuple(self.question.sample_ids),
            labels=labels,
            teacher=digest,
            logits=whole(self.logits),
            maps={group: whole(parts) for group, parts in self.maps.items()},
            residuals={group: whole(parts) for group, parts in self.residuals.items()},
        )


def answer(
    net: Network,
    input: InputSpec,
    labels: Sequence[str],
    digest: str,
    *,
    images: npt.NDArray[np.uint8],
    sample_ids: Sequence[str],
    views: Sequence[int],
    flip: bool,
    blocks: Sequence[BlockWanted],
    pool: int = POOL,
) -> bytes:
    """Ask `net` about images uint8 [n, h, w, 3]: the very bytes a worker would send."""
    question = Question(images, sample_ids, views, flip, blocks, pool)
    return encode(ask(net, net.spec.widths, labels, digest, input, [question])[0])


def reduced(maps: Tensor, channels: Sequence[int], pool: int) -> tuple[Tensor, Tensor]:
    """Of a block's maps [n, C, h, w]: the kept channels pooled [n, K, p, p], and the energy [n] of the others."""
    small = pooled(maps, pool)
    others = torch.ones(maps.shape[1], dtype=torch.bool)
    others[list(channels)] = False
    return small[:, list(channels)], small[:, others].square().sum(dim=(1, 2, 3))


def to_tensor(images: Images, spec: InputSpec) -> Tensor:
    """uint8 [n, h, w, 3] to the normalised [n, 3, h, w] that a network takes, channels last in memory."""
    return torch.from_numpy(normalise(images, spec)).permute(0, 3, 1, 2)
