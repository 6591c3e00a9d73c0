"""What the cell does about verdicts: its policy on DMARC and signatures, whose ARC seals it trusts, and per tenant
whether DMARC is enforced or only marked.

One stream, found by name, written by administrators. Rows: c the cell's policy, t a tenant's mode.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple, assert_never

from actors.errors import NotAllowed, TooLarge
from actors.kind import Command, Fact
from eventlog.record import Stamp, stream_id
from eventlog.views import View

VERDICTS = stream_id("verdicts", "policy")
MAX_SEALERS = 200
CELL_KEY = b"c"

Mode = Literal["enforce", "mark"]
MODES = ("enforce", "mark")


class VerdictPolicy(NamedTuple):
    """Fields are only ever added at the end, with defaults."""

    dmarc: Mode = "enforce"  # reject and quarantine as the author's domain asks, or only say what was found
    on_temporary: Literal["accept", "defer"] = "accept"  # where the DNS did not answer and rejecting might be right
    ambiguous_author: Literal["refuse", "mark"] = "refuse"  # several From fields (RFC 7489 6.6.1)
    partial_signatures: Literal["accept", "ignore"] = "ignore"  # DKIM's l= where it leaves out a part of the body
    sealers: tuple[str, ...] = ()  # domains whose ARC seals are believed (RFC 8617 7.2)


CHOICES = {
    "dmarc": MODES,
    "on_temporary": ("accept", "defer"),
    "ambiguous_author": ("refuse", "mark"),
    "partial_signatures": ("accept", "ignore"),
}


@dataclass(frozen=True, slots=True)
class SetVerdictPolicy(Command):
    """Changes the cell's: "" leaves a choice as it is. Sealers' domains are normalised."""

    dmarc: str = ""
    on_temporary: str = ""
    ambiguous_author: str = ""
    partial_signatures: str = ""
    trust: tuple[str, ...] = ()
    distrust: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SetTenantMode(Command):
    """A tenant's own mode of DMARC; "" is the cell's again."""

    tenant: bytes
    dmarc: str


VerdictCommand = SetVerdictPolicy | SetTenantMode


@dataclass(frozen=True, slots=True)
class VerdictPolicySet(Fact):
    SINCE: ClassVar[int] = 3
    dmarc: str
    on_temporary: str
    ambiguous_author: str
    partial_signatures: str
    sealers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TenantDmarcSet(Fact):
    SINCE: ClassVar[int] = 3
    tenant: bytes
    dmarc: str


VerdictFact = VerdictPolicySet | TenantDmarcSet


def decide(view: View, command: VerdictCommand) -> tuple[VerdictFact, ...]:
    """Raises NotAllowed for a choice that there is not, TooLarge for too many sealers."""
    match command:
        case SetVerdictPolicy():
            return _changed(view, command)
        case SetTenantMode(tenant, mode):
            if mode:
                _check("dmarc", mode)
            before = view.get(b"t" + tenant) or ""
            return () if before == mode else (TenantDmarcSet(tenant, mode),)
        case _:
            assert_never(command)


def _changed(view: View, command: SetVerdictPolicy) -> tuple[VerdictFact, ...]:
    before = VerdictPolicy(*(view.get(CELL_KEY) or ()))
    wanted = {name: getattr(command, name) for name in CHOICES if getattr(command, name)}
    for name, value in wanted.items():
        _check(name, value)
    sealers = (set(before.sealers) | set(command.trust)) - set(command.distrust)
    if len(sealers) > MAX_SEALERS:
        raise TooLarge(f"at most {MAX_SEALERS} sealers")
    after = before._replace(**wanted, sealers=tuple(sorted(sealers)))
    return () if after == before else (VerdictPolicySet(*after),)


def _check(name: str, value: str) -> None:
    if value not in CHOICES[name]:
        raise NotAllowed(f"{name}: one of {', '.join(CHOICES[name])}")


def evolve(view: View, fact: VerdictFact, stamp: Stamp) -> None:
    match fact:
        case VerdictPolicySet():
            wanted = (fact.dmarc, fact.on_temporary, fact.ambiguous_author, fact.partial_signatures)
            view.put(CELL_KEY, (*wanted, fact.sealers))
        case TenantDmarcSet():
            if fact.dmarc:
                view.put(b"t" + fact.tenant, fact.dmarc)
            else:
                view.delete(b"t" + fact.tenant)
        case _:
            assert_never(fact)


def policy(view: View) -> VerdictPolicy:
    """The cell's, or what stands for it before one was set."""
    row = view.peek(CELL_KEY)
    return VerdictPolicy() if row is None else VerdictPolicy(*row)


def tenant_modes(view: View) -> dict[bytes, Mode]:
    """The tenants that have a mode of their own."""
    return {key[1:]: mode for key, mode in view.range(b"t")}


def mode_for(cell: VerdictPolicy, own: Mapping[bytes, Mode], tenants: Iterable[bytes]) -> Mode:
    """What holds for mail to these tenants: enforced if each of them enforces, as one reply is given to all.

    own: the modes of tenants that have one.
    """
    return "enforce" if all(own.get(tenant, cell.dmarc) == "enforce" for tenant in tenants) else "mark"
