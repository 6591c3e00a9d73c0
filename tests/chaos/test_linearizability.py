"""The search says what a dumb oracle says, which tries every order, over thousands of small histories of all kinds."""

import itertools
import random
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

from chaos.checkers.life import Life
from chaos.checkers.linearizability import OPEN, Call, Model, check, smallest_part
from chaos.checkers.models import Register, Set, set_of

HISTORIES = 1500
Draw = Callable[[random.Random], tuple[Any, Callable[[random.Random], Any]]]


def oracle(model: Model, calls: Iterable[Call]) -> bool:
    """Every subset of the open calls, in every order that time allows."""
    calls = list(calls)
    closed = [call for call in calls if not call.is_open]
    unknown = [call for call in calls if call.is_open]
    for count in range(len(unknown) + 1):
        for some in itertools.combinations(unknown, count):
            if any(fits(model, order) for order in itertools.permutations([*closed, *some])):
                return True
    return False


def fits(model: Model, order: tuple[Call, ...]) -> bool:
    latest_s = -1.0
    state = model.initial()
    for call in order:
        if call.ended_s < latest_s:
            return False  # it ended before one in front of it began
        latest_s = max(latest_s, call.began_s)
        legal, state = model.step(state, call.asked, call.result)
        if not legal:
            return False
    return True


def register_call(rng: random.Random) -> tuple[Any, Any]:
    value = rng.randrange(3)
    return rng.choice(
        [
            (("write", value), True),
            (("read",), (rng.choice([None, 0, 1, 2]),)),
            (("is", value), rng.random() < 0.5),
            (("cas", rng.choice([None, 0, 1]), value), rng.random() < 0.6),
        ]
    )


def set_call(rng: random.Random) -> tuple[Any, Any]:
    element = rng.randrange(2)
    return rng.choice(
        [
            (("add", element), True),
            (("remove", element), True),
            (("read",), rng.randrange(4)),
            (("has", element), rng.random() < 0.5),
        ]
    )


def life_call(rng: random.Random) -> tuple[Any, Any]:
    folder, other = rng.sample("AB", 2)
    flags = frozenset(rng.sample(["\\Deleted", "x"], rng.randrange(3)))
    shown = frozenset({(folder, flags)}) if rng.random() < 0.7 else frozenset()
    return rng.choice(
        [
            (("add", folder, flags), True),
            (("store", folder, rng.choice(["add", "remove", "replace"]), flags), True),
            (("expunge", folder), True),
            (("move", folder, other), True),
            (("copy", folder, other), True),
            (("read",), shown),
            (("read", folder), (rng.choice([None, flags]),)),
        ]
    )


def random_history(
    rng: random.Random, draw: Callable[[random.Random], tuple[Any, Any]], open_share: float = 0.2
) -> list[Call]:
    """Two to six calls at moments that often coincide; results at random, so most are not linearizable."""
    calls = []
    for number in range(rng.randint(2, 6)):
        asked, result = draw(rng)
        began_s = float(rng.randrange(8))
        call = Call(asked, result, began_s, began_s + rng.randrange(5), f"call {number}")
        calls.append(call.left_open() if rng.random() < open_share else call)
    return calls


def true_history(rng: random.Random, model: Model, draw: Callable[[random.Random], tuple[Any, Any]]) -> list[Call]:
    """Calls with the results that some order gave, so it is linearizable; nobody learned some of them."""
    state = model.initial()
    calls = []
    for number in range(rng.randint(2, 6)):
        asked, result = draw(rng)
        legal, after = model.step(state, asked, result)
        if not legal:
            continue
        state = after
        moment_s = number * 2.0
        call = Call(asked, result, moment_s - rng.randrange(4), moment_s + rng.randrange(4))
        calls.append(call.left_open() if rng.random() < 0.2 and not model.is_read(asked) else call)
    return calls


MODELS = [(Register(), register_call), (Set(), set_call), (Life(), life_call)]


@pytest.mark.parametrize(("model", "draw"), MODELS, ids=["register", "set", "message"])
def test_the_search_agrees_with_the_oracle_on_histories_of_every_kind(model: Model, draw: Any) -> None:
    rng = random.Random(1)
    verdicts = []
    for _ in range(HISTORIES):
        calls = random_history(rng, draw)
        expected = oracle(model, calls)
        assert check(model, calls).linearizable is expected, calls
        verdicts.append(expected)
    assert min(verdicts.count(True), verdicts.count(False)) > HISTORIES // 10


@pytest.mark.parametrize(("model", "draw"), MODELS, ids=["register", "set", "message"])
def test_the_search_agrees_with_the_oracle_where_most_outcomes_are_unknown(model: Model, draw: Any) -> None:
    rng = random.Random(5)
    verdicts = []
    for _ in range(HISTORIES // 2):
        calls = random_history(rng, draw, open_share=0.6)
        expected = oracle(model, calls)
        assert check(model, calls).linearizable is expected, calls
        verdicts.append(expected)
    assert min(verdicts.count(True), verdicts.count(False)) > HISTORIES // 50


@pytest.mark.parametrize(("model", "draw"), MODELS, ids=["register", "set", "message"])
def test_a_history_that_some_order_made_is_linearizable(model: Model, draw: Any) -> None:
    rng = random.Random(2)
    for _ in range(HISTORIES):
        calls = true_history(rng, model, draw)
        assert check(model, calls).linearizable is True, calls
        assert oracle(model, calls)


@pytest.mark.parametrize(("model", "draw"), MODELS, ids=["register", "set", "message"])
def test_the_smallest_part_shows_it_and_nothing_in_it_can_be_spared(model: Model, draw: Any) -> None:
    rng = random.Random(3)
    for _ in range(HISTORIES // 3):
        calls = random_history(rng, draw)
        if check(model, calls).linearizable:
            continue
        part = smallest_part(model, calls)
        opened = [call if call in part else call.left_open() for call in calls if not is_spare_read(model, call, part)]
        assert not oracle(model, opened)
        for spared in part:
            assert oracle(model, list(without(model, opened, spared))), (part, spared)


def is_spare_read(model: Model, call: Call, part: list[Call]) -> bool:
    return model.is_read(call.asked) and call not in part


def without(model: Model, calls: list[Call], spared: Call) -> Iterator[Call]:
    for call in calls:
        if call is not spared:
            yield call
        elif not model.is_read(call.asked):
            yield call.left_open()


def test_a_search_that_takes_too_long_says_that_it_does_not_know() -> None:
    adds = [Call(("add", number), True, 0.0, 10.0) for number in range(12)]
    reads = [Call(("read",), set_of([number]), 1.0, 9.0) for number in range(2)]
    assert check(Set(), [*adds, *reads]).linearizable is False
    assert check(Set(), [*adds, *reads], most_steps=50).linearizable is None


def test_many_writes_at_once_are_no_burden_where_reads_tell_which_came_first() -> None:
    """What an outage leaves behind: a hundred adds under way, while reads see them come one by one."""
    adds = [Call(("add", number), True, 0.0, 1000.0) for number in range(100)]
    order = random.Random(4).sample(range(100), 100)
    reads = [Call(("read",), set_of(order[: count * 5]), float(count), count + 0.5) for count in range(1, 20)]
    verdict = check(Set(), [*adds, *reads])
    assert verdict.linearizable is True
    assert verdict.steps < 1000


def test_an_open_write_may_take_effect_late_or_never() -> None:
    late = Call(("write", 1), None, 0.0, OPEN)
    assert check(Register(), [late, Call(("read",), (None,), 1.0, 2.0), Call(("read",), (1,), 3.0, 4.0)]).linearizable
    assert check(Register(), [late, Call(("read",), (None,), 1.0, 2.0)]).linearizable
    seen_too_early = [Call(("read",), (1,), -2.0, -1.0), late]
    assert check(Register(), seen_too_early).linearizable is False


def life_of_a_message_during_an_outage() -> list[Call]:
    """From a run of one-way-partition: to one node's clients, what others asked of other nodes is open."""
    none: frozenset[str] = frozenset()
    own = [
        Call(("add", "INBOX", none), True, 2.6, 2.7),
        Call(("store", "INBOX", "replace", frozenset({"w192"})), True, 3.1, 3.2),
        Call(("store", "INBOX", "remove", frozenset({"$Red", "\\Seen"})), True, 6.2, 6.3),
    ]
    others = [
        (2.9, ("store", "INBOX", "remove", frozenset({"$Red", "$Blue"}))),
        (4.7, ("copy", "INBOX", "Sent")),
        (5.6, ("store", "Sent", "remove", frozenset({"\\Seen"}))),
        (5.7, ("store", "Sent", "replace", frozenset({"w346"}))),
        (5.8, ("store", "Sent", "add", frozenset({"\\Flagged", "\\Seen"}))),
        (6.80, ("store", "Sent", "add", frozenset({"\\Deleted"}))),
        (6.81, ("expunge", "Sent")),
        (8.2, ("move", "INBOX", "Archive")),
        (8.3, ("store", "INBOX", "add", frozenset({"$Blue"}))),
        (10.0, ("store", "INBOX", "replace", frozenset({"w601"}))),
        (10.90, ("store", "Archive", "add", frozenset({"\\Deleted"}))),
        (10.91, ("expunge", "Archive")),
    ]
    held = frozenset({("INBOX", frozenset({"w192"}))})
    reads = [
        Call(("read", "INBOX"), (frozenset({"w192"}),), 3.3, 3.4),
        Call(("read",), held, 4.3, 4.4),
        Call(("read",), held, 7.3, 7.4),
        Call(("read",), none, 9.7, 11.5),
        Call(("read", "Archive"), (None,), 10.4, 10.5),
        Call(("read",), none, 45.2, 45.2),
    ]
    return own + [Call(asked, None, began_s, OPEN) for began_s, asked in others] + reads


def test_open_writes_of_an_outage_are_no_burden() -> None:
    """They took 100,000 steps and more when all orders of them were tried."""
    verdict = check(Life(), life_of_a_message_during_an_outage())
    assert verdict.linearizable is True
    assert verdict.steps < 1000


def test_what_came_back_is_found_among_open_writes() -> None:
    back = Call(("read",), frozenset({("INBOX", frozenset({"w999"}))}), 46.0, 46.1)
    verdict = check(Life(), [*life_of_a_message_during_an_outage(), back])
    assert verdict.linearizable is False
    assert verdict.steps < 5000
