"""Takes a history apart into objects, has each searched for an order, and says readably which has none, and why."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

from chaos.checkers import Violation
from chaos.checkers.linearizability import Call, Model, check, smallest_part
from chaos.history import Operation

SHOWN_CALLS = 12
MOST_EXPLAINED = 20  # finding the smallest part takes many searches

NameIt = Callable[[list[Call], list[Call]], str]


class Object(NamedTuple):
    """One object of a history: what it is called, how it behaves, what was done to it."""

    name: str
    model: Model
    calls: list[Call]
    narrowed: Callable[[list[Call]], list[Call]] = list  # to a part of the object that is wrong by itself


class Judgement(NamedTuple):
    """What has no order, and what could not be decided."""

    violations: list[Violation]
    undecided: list[str]


def judge_objects(checker: str, objects: Iterable[Object], name_it: NameIt) -> Judgement:
    """Searches each object. `name_it(part, calls)` names what is wrong, from the smallest part that shows it."""
    found = Judgement([], [])
    for one in objects:
        verdict = check(one.model, one.calls)
        if verdict.linearizable:
            continue
        calls = one.narrowed(one.calls) if len(found.violations) < MOST_EXPLAINED else []
        if verdict.linearizable is None and check(one.model, calls).linearizable is not False:
            found.undecided.append(f"{checker}: {one.name}: not decided in {verdict.steps} steps")
            continue
        part = smallest_part(one.model, calls)
        found.violations.append(Violation(checker, "", _text(one, part, name_it(part, one.calls))))
    return found


def joined(judgements: Iterable[Judgement]) -> Judgement:
    """All of them as one."""
    found = Judgement([], [])
    for one in judgements:
        found.violations.extend(one.violations)
        found.undecided.extend(one.undecided)
    return found


def _text(one: Object, part: list[Call], name: str) -> str:
    lines = [f"{name}: {one.name}: no order of the operations gives these answers"]
    lines += [f"  {call.label}" for call in part[:SHOWN_CALLS]]
    if len(part) > SHOWN_CALLS:
        lines.append(f"  and {len(part) - SHOWN_CALLS} more")
    others = len(one.calls) - len(part)
    if part and others:
        lines.append(f"  (wherever the other {others} operations on it are put)")
    return "\n".join(lines)


def contradiction(_: list[Call], __: list[Call]) -> str:
    """The plain name."""
    return "not linearizable"


def call_of(one: Operation, asked: tuple[object, ...], result: object) -> Call:
    """The operation as a call; one of unknown outcome is open."""
    call = Call(asked, result, one.began_s, one.ended_s, str(one))
    return call if one.acknowledged or result is False else call.left_open()
