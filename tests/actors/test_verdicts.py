"""The cell's policy on verdicts: choices are kept, bad ones refused, tenants' own modes hold for their mail."""

from __future__ import annotations

import pytest

from actors.errors import NotAllowed, TooLarge
from actors.verdicts import (
    MAX_SEALERS,
    VERDICTS,
    SetTenantMode,
    SetVerdictPolicy,
    VerdictCommand,
    VerdictPolicy,
    decide,
    evolve,
    mode_for,
    policy,
    tenant_modes,
)
from eventlog.record import By, Stamp
from eventlog.views import DictView

STAMP = Stamp(1, 0, 0, bytes(16), By("admin", b"", "test"), "test", 3)
ONE, OTHER = b"1" * 16, b"2" * 16


def after(*commands: VerdictCommand) -> DictView:
    view = DictView(VERDICTS)
    for command in commands:
        for fact in decide(view, command):
            evolve(view, fact, STAMP)
    return view


def test_before_anything_is_set_dmarc_is_enforced_and_nobody_is_trusted() -> None:
    assert policy(after()) == VerdictPolicy("enforce", "accept", "refuse", "ignore", ())


def test_a_choice_that_is_not_named_stays() -> None:
    view = after(SetVerdictPolicy(dmarc="mark", trust=("b.test", "a.test")), SetVerdictPolicy(distrust=("b.test",)))
    assert policy(view) == VerdictPolicy("mark", "accept", "refuse", "ignore", ("a.test",))


def test_what_changes_nothing_is_no_event() -> None:
    assert decide(after(SetVerdictPolicy(dmarc="mark")), SetVerdictPolicy(dmarc="mark")) == ()
    assert decide(after(), SetTenantMode(ONE, "")) == ()


@pytest.mark.parametrize("command", [SetVerdictPolicy(on_temporary="drop"), SetTenantMode(ONE, "drop")])
def test_a_choice_that_there_is_not_is_refused(command: VerdictCommand) -> None:
    with pytest.raises(NotAllowed, match="one of"):
        after(command)


def test_the_sealers_that_are_trusted_are_limited() -> None:
    with pytest.raises(TooLarge):
        after(SetVerdictPolicy(trust=tuple(f"s{one}.test" for one in range(MAX_SEALERS + 1))))


def test_mail_to_several_tenants_is_enforced_only_where_each_enforces() -> None:
    def mode(view: DictView, *tenants: bytes) -> str:
        return mode_for(policy(view), tenant_modes(view), tenants)

    view = after(SetTenantMode(ONE, "mark"))
    assert (mode(view, OTHER), mode(view, ONE), mode(view, ONE, OTHER)) == ("enforce", "mark", "mark")
    assert mode(after(SetVerdictPolicy(dmarc="mark"), SetTenantMode(ONE, "enforce")), ONE) == "enforce"
    assert mode(after(SetTenantMode(ONE, "mark"), SetTenantMode(ONE, "")), ONE) == "enforce"
