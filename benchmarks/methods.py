"""Every way of learning on a device that the tables compare, by its name in their rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from agent.job import Tier
from benchmarks import rounds
from benchmarks.baselines import fitnet, independent, joint, lwf, paper, rilod
from benchmarks.baselines.choice import Choice, chosen, grid
from benchmarks.baselines.gradient import GradientLearner, MakeLoss, Moving
from benchmarks.baselines.latent_replay import LatentReplay
from benchmarks.baselines.ncm import NearestMean
from benchmarks.baselines.slda import StreamingLda
from benchmarks.baselines.start import of_student, of_teacher
from benchmarks.learner import Learner
from benchmarks.setting import Setting
from benchmarks.students import Knowing, Student

VERSION = 1
"""To be raised when a baseline changes: its results are then measured again."""

Begin = Callable[[Setting, Student, int, Choice], Learner]
"""From the student, a seed and hyper-parameters to what learns on the device."""


@dataclass(frozen=True)
class Method:
    """begin: see Begin. note: what a reader of its row must know. tried: the hyper-parameters to choose from; a method
    without any ignores its Choice. knowing: the teachers with which it makes sense. code: what its results depend on
    besides student, images and choice."""

    name: str
    begin: Begin
    note: str = ""
    tried: Sequence[Choice] = ()
    knowing: tuple[Knowing, ...] = ("T10", "T9")
    code: Callable[[Setting], tuple[object, ...]] = lambda setting: (VERSION,)


def knows_all(setting: Setting, student: Student) -> bool:
    """Whether the student's teacher knows every category."""
    return set(setting.dataset.labels) <= set(student.teacher.labels)


def _round(name: str, tier: Tier, note: str = "") -> Method:
    def code(setting: Setting) -> tuple[object, ...]:
        return rounds.code(), rounds.make_job("new", ("sample",) * 4, tier, 0, 1)

    def begin(setting: Setting, student: Student, seed: int, choice: Choice) -> Learner:
        return rounds.DeviceRounds(setting, student, seed, tier)

    return Method(name, begin, note, code=code)


def _steps(name: str, loss: MakeLoss, *, distils: bool, moving: Moving = "all", note: str = "") -> Method:
    def begin(setting: Setting, student: Student, seed: int, choice: Choice) -> Learner:
        return GradientLearner(of_student(student), student.teacher, seed, choice, loss, moving=moving)

    return Method(name, begin, note, tried=grid(distils=distils))


def _paper() -> Method:
    def begin(setting: Setting, student: Student, seed: int, choice: Choice) -> Learner:
        loss = paper.loss(student.bundle.manifest.pairs)
        return GradientLearner(of_student(student), student.teacher, seed, choice, loss, moving="last")

    return Method("paper", begin, "J1 + Jb + J3 alone", tried=grid(distils=True))


def _rilod_teacher(setting: Setting, student: Student, seed: int, choice: Choice) -> Learner:
    return GradientLearner(of_teacher(student), student.teacher, seed, choice, rilod.loss)


def _joint(setting: Setting, student: Student, seed: int, choice: Choice) -> Learner:
    """By whether anybody knows all categories."""
    learner = joint.JointT10 if knows_all(setting, student) else joint.JointT9
    return learner(setting, student, seed)


_UNCOMPRESSED = "on the uncompressed network of the old categories"
_STORED = "keeps int8 latents of old images, at most 1 MiB: stored data"
_BOUND = "upper bound: every training image of every category, all at once"
_ALL = (
    _round("default", rounds.default_tier(), f"the shipped configuration: tier {rounds.default_tier()}"),
    _round("head", "head"),
    _round("sparse", "sparse"),
    _round("transfer", "transfer"),
    _steps("independent", independent.loss, distils=False, note="no knowledge transfer"),
    _paper(),
    _steps("fitnet-hints", fitnet.loss(logits=False), distils=False),
    _steps("fitnet-hints-logits", fitnet.loss(logits=True), distils=True),
    _steps("rilod", rilod.loss, distils=True),
    Method("rilod-teacher", _rilod_teacher, _UNCOMPRESSED, tried=grid(distils=True), knowing=("T9",)),
    _steps("lwf", lwf.loss, distils=True),
    Method("ncm", lambda setting, student, seed, choice: NearestMean(setting, student), "frozen features"),
    Method("slda", lambda setting, student, seed, choice: StreamingLda(setting, student), "frozen features"),
    Method("latent-replay", LatentReplay, _STORED, tried=grid(distils=False)),
    Method("joint", _joint, _BOUND, code=lambda setting: (VERSION, joint.of_all(setting, 0), setting.plan.joint)),
)
METHODS = {method.name: method for method in _ALL}


def learner(setting: Setting, name: str, knowing: Knowing, student: Student, seed: int) -> Learner:
    """The method at its start, with the hyper-parameters that were chosen for it."""
    method = METHODS[name]
    return method.begin(setting, student, seed, chosen(setting, name, knowing, method.tried))


def matters(setting: Setting, name: str, knowing: Knowing) -> tuple[object, ...]:
    """What the method's results depend on besides student and images, for `Cell.matters`."""
    method = METHODS[name]
    return (*method.code(setting), chosen(setting, name, knowing, method.tried))
