from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from cloud_teacher.answer_cache import AnswerCache


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abcdefgh"), st.integers(0, 60))))
def test_it_never_holds_more_than_it_may_and_never_answers_wrongly(steps: list[tuple[str, int]]) -> None:
    cache, given_out = AnswerCache(100), dict[str, bytes]()
    for key, size in steps:
        if cache.get(key) is None:
            given_out[key] = key.encode() * size
            cache.put(key, given_out[key])
        held = {name: answer for name in given_out if (answer := cache.get(name)) is not None}
        assert sum(map(len, held.values())) <= 100
        assert all(answer == given_out[name] for name, answer in held.items())


def test_the_longest_unused_goes_first() -> None:
    cache = AnswerCache(3)
    for key in "abc":
        cache.put(key, b"x")
    assert cache.get("a") == b"x"
    cache.put("d", b"y")
    assert cache.get("b") is None and cache.get("a") == b"x"


def test_an_answer_larger_than_all_of_it_is_not_kept() -> None:
    cache = AnswerCache(3)
    cache.put("a", b"x")
    cache.put("b", b"four")
    assert cache.get("b") is None and cache.get("a") == b"x"
