"""Asks a teacher that came to the device (privacy mode teacher_download). Torch; the images never leave."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from agent.trainer.inputs import Inputs
from transfer import activations, bundle, questions
from transfer.networks import build

BATCH = 32


def ask(inputs: Inputs, folder: Path, report: Callable[[int, int], None]) -> list[activations.Activations]:
    """The very answers a worker would have sent, rounding on the wire included, so both modes train alike."""
    home = bundle.load(folder, trusted=None)
    net = build(home.manifest.net, home.weights())
    model, ids = inputs.model.manifest, inputs.job.sample_ids
    answers = []
    for at in range(0, len(ids), BATCH):
        report(at, len(ids))
        some = slice(at, at + BATCH)
        payload = questions.answer(
            net,
            home.manifest.input,
            home.manifest.labels,
            home.digest,
            images=inputs.images[some],
            sample_ids=ids[some],
            views=range(inputs.job.views),
            flip=model.flip,
            blocks=activations.wanted(model.pairs),
        )
        answers.append(activations.decode(payload))
    report(len(ids), len(ids))
    return answers
