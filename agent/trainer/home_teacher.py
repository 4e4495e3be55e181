"""Asks a teacher that came to the device (privacy mode teacher_download). Torch; the images never leave."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from agent.job import JobError
from agent.trainer.inputs import Inputs
from transfer import activations, bundle, questions
from transfer.networks import build

BATCH = 32


def ask(inputs: Inputs, folder: Path, report: Callable[[int, int], None]) -> list[activations.Activations]:
    """The very answers a worker would have sent, rounding on the wire included, so both modes train alike.

    Raises BundleError, and JobError where this teacher cannot be asked about these samples.
    """
    home = bundle.load(folder, trusted=None)
    model, ids = inputs.model.manifest, inputs.job.sample_ids
    if inputs.images.shape[1:3] != (home.manifest.input.height, home.manifest.input.width):
        raise JobError(f"{folder}: the teacher takes images of another size than the model")
    net = build(home.manifest.net, home.weights())
    answers = []
    for at in range(0, len(ids), BATCH):
        report(at, len(ids))
        some = slice(at, at + BATCH)
        try:
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
        except questions.QuestionError as error:
            raise JobError(f"{folder}: {error}") from None
        answers.append(activations.decode(payload))
    report(len(ids), len(ids))
    return answers
