"""What an operator changes has an order too: who holds a name, what a quota is, which password opens.

A name is a compare-and-set register: adding an account or an alias claims it if nobody holds it, deleting releases it
if it is held as that; a refusal because it was taken, or was not there, tells as much as a success. Only reads that are
not marked stale count. Refusals for other reasons tell nothing and are left out.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from chaos.checkers.linearizability import Call
from chaos.checkers.models import Register
from chaos.checkers.objects import Judgement, Object, call_of, contradiction, judge_objects
from chaos.history import Operation, Outcome

WRONG_PASSWORD = "AUTHENTICATIONFAILED"
AS_MADE = 0  # the number of the password that the vault was made with


def check_names(operations: Iterable[Operation]) -> Judgement:
    """All names, the quota, and the password as the final log-ins show it."""
    operations = list(operations)
    objects = [
        Object("the vault's quota", Register(None), list(_quota_calls(operations))),
        Object("the vault's password", Register(AS_MADE), list(_password_calls(operations))),
    ]
    for name in _names(operations):
        objects.append(Object(f"name {name}", Register(None), list(_name_calls(operations, name))))
    return judge_objects("linearizability of names", objects, contradiction)


_CLAIMS: dict[str, tuple[Any, ...]] = {
    "account-add": ("cas", None, "account"),
    "alias-add": ("cas", None, "alias"),
    "account-delete": ("cas", "account", None),
    "alias-delete": ("cas", "alias", None),
}
_TELLING = {"conflict": "add", "not_found": "delete"}  # the refusal that means that the name stood in the way


def _names(operations: list[Operation]) -> list[str]:
    return sorted({one.subject for one in operations if one.action in _CLAIMS})


def _name_calls(operations: list[Operation], name: str) -> Iterator[Call]:
    for one in operations:
        if one.action in _CLAIMS and one.subject == name:
            if one.may_have_happened:
                yield call_of(one, _CLAIMS[one.action], True)
            elif one.action.endswith(_TELLING.get(str(one.result.get("category")), "?")):
                yield call_of(one, _CLAIMS[one.action], False)
        elif one.action in ("accounts", "aliases") and one.acknowledged and not one.result["stale"]:
            kind = "account" if one.action == "accounts" else "alias"
            yield call_of(one, ("is", kind), name in one.result["names"])


def _quota_calls(operations: list[Operation]) -> Iterator[Call]:
    for one in operations:
        if one.action == "quota" and one.may_have_happened:
            yield call_of(one, ("write", one.asked["value"]), True)
        elif one.action == "accounts" and one.acknowledged and not one.result["stale"]:
            yield call_of(one, ("read",), (one.result["quota"],))


def _password_calls(operations: list[Operation]) -> Iterator[Call]:
    for one in operations:
        if one.action == "password" and one.may_have_happened:
            yield call_of(one, ("write", one.asked["value"]), True)
        elif one.action == "log-in" and "value" in one.asked and _tells(one):
            yield call_of(one, ("is", one.asked["value"]), one.acknowledged)


def _tells(one: Operation) -> bool:
    """Whether the password was looked at: a log-in is refused for other reasons too."""
    return one.acknowledged or (one.outcome is Outcome.REFUSED and WRONG_PASSWORD in one.reply)
