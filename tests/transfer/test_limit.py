from __future__ import annotations

from tiny_networks import SMALL

from transfer.blueprint import macs, parameters
from transfer.limit import Limit


def test_it_limits_parameters_or_the_macs_of_an_image() -> None:
    spec = SMALL["wide"]
    assert Limit(1).cost(spec) == parameters(spec)
    assert Limit(1, (16, 24)).cost(spec) == macs(spec, 16, 24)
    for image in (None, (16, 24)):
        cost = Limit(1, image).cost(spec)
        assert Limit(cost, image).allows(spec) and not Limit(cost - 1, image).allows(spec)


def test_it_says_what_it_is() -> None:
    assert str(Limit(270_000)) == "270,000 parameters"
    assert str(Limit(10_000_000, (32, 32))) == "10,000,000 multiply-accumulates"
