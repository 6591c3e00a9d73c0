"""DNS lists of clients (RFC 5782): those that are blocked, and those that are known to be good.

A client is looked up when it names its first recipient and is refused recipient by recipient, so that it reaches the
postmaster. A list that does not answer, or answers that it will not tell, blocks nobody; the resolver keeps answers.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, NamedTuple

from actors.tenant_policy import ON
from nodes.config.policy import PolicySection, split_list
from nodes.policy.clients import Address, is_postmaster, stranger
from nodes.policy.tenants import MailPolicy, PolicyOf
from nodes.resolver import NoAnswer, NoSuchDomain, Resolver, ResolverError
from nodes.smtp.checks import JUNK, Check, Incoming
from nodes.smtp.replies import Refused, reply
from nodes.tls.trust import Trust

if TYPE_CHECKING:
    from nodes.metrics import Metrics
    from nodes.smtp.session import Envelope, Session

NOTE = "dns lists"  # in session.notes

_LISTED = ipaddress.ip_network("127.0.0.0/8")  # RFC 5782 2.1; other answers come from a domain that has been sold
_REFUSED = ipaddress.ip_network("127.255.255.0/24")  # "you ask too often" and the like of Spamhaus and others
_REFUSED_TOO = ipaddress.ip_address("127.0.0.1")  # of URIBL and others; RFC 5782 5: never a listing


class Standing(NamedTuple):
    """What the lists say of one client: the blocklists that name it, their weight; whether an allowlist does."""

    client: str
    blocked_by: tuple[str, ...]
    weight: int
    allowed: bool

    def is_allowed(self, policy: MailPolicy) -> bool:
        return self.allowed and policy.allowlists == ON

    def is_blocked(self, policy: MailPolicy) -> bool:
        heavy = bool(self.blocked_by) and self.weight >= policy.block_weight
        return heavy and policy.blocklists != "ignore" and not self.is_allowed(policy)


class ListCheck(Check):
    """Refuses recipients of clients that are on blocklists and on no allowlist, or sees to it that they get Junk."""

    def __init__(self, config: PolicySection, policy_of: PolicyOf, resolver: Resolver, metrics: Metrics) -> None:
        self._policy_of = policy_of
        self._resolver = resolver
        self._metrics = metrics
        self._exempt = Trust(config.exempt)
        self._blocklists = [split_list(one) for one in config.blocklists]
        self._allowlists = [split_list(one)[0] for one in config.allowlists]
        self._lists_s = config.lists_s

    async def recipient(self, session: Session, envelope: Envelope, address: str, local: bool) -> None:
        """Raises Refused."""
        client = stranger(session, self._exempt)
        if client is None:
            return
        found, policy = await self.standing(session, client), self._policy_of(envelope.tenant)
        if policy.blocklists == "refuse" and found.is_blocked(policy) and not is_postmaster(address):
            self._metrics.policy_refused("blocklist")
            raise Refused(_refusal(client, found.blocked_by))

    async def message(self, session: Session, envelope: Envelope, incoming: Incoming) -> None:
        """Tenants that take such mail get it in Junk."""
        client, found = stranger(session, self._exempt), session.notes.get(NOTE)
        if client is None or found is None or not found.blocked_by:
            return
        for tenant in envelope.tenants:
            if found.is_blocked(self._policy_of(tenant)):
                incoming.folders[tenant] = JUNK

    async def standing(self, session: Session, client: Address) -> Standing:
        """What the lists say of this session's client; they are asked once."""
        found: Standing | None = session.notes.get(NOTE)
        if found is None or found.client != str(client):  # XCLIENT speaks for one client after the other
            found = session.notes[NOTE] = await self._ask(client)
        return found

    async def _ask(self, client: Address) -> Standing:
        allowing, blocking = await asyncio.gather(
            self._naming(client, self._allowlists, _allows),
            self._naming(client, [name for name, _ in self._blocklists], _blocks),
        )
        weight = sum(weight for name, weight in self._blocklists if name in blocking)
        return Standing(str(client), tuple(blocking), weight, bool(allowing))

    async def _naming(self, client: Address, lists: Iterable[str], says: Callable[[str], bool | None]) -> list[str]:
        """The lists that name the client."""
        asked = list(lists)
        answers = await asyncio.gather(*(self._is_on(client, name, says) for name in asked))
        return [name for name, named in zip(asked, answers, strict=True) if named]

    async def _is_on(self, client: Address, name: str, says: Callable[[str], bool | None]) -> bool:
        named: bool | None
        try:
            async with asyncio.timeout(self._lists_s):
                answer = await self._resolver.lookup(f"{reversed_name(client)}.{name}", "A")
            named = _any_of(says(one.address) for one in answer)
        except (NoSuchDomain, NoAnswer):
            named = False
        except (ResolverError, TimeoutError):
            named = None
        self._metrics.dns_list_answered(name, "failed" if named is None else "listed" if named else "not listed")
        return bool(named)


def checks(config: PolicySection, policy_of: PolicyOf, resolver: Resolver, metrics: Metrics) -> tuple[ListCheck, ...]:
    """The check, if there are lists to ask."""
    return (ListCheck(config, policy_of, resolver, metrics),) if config.blocklists or config.allowlists else ()


def reversed_name(client: Address) -> str:
    """What stands before a list's name (RFC 5782 2.1, 2.4): octets, or nibbles of IPv6, the last first."""
    return client.reverse_pointer.removesuffix(".in-addr.arpa").removesuffix(".ip6.arpa")


def _any_of(said: Iterable[bool | None]) -> bool | None:
    """Whether one says yes; None: none says anything."""
    known = [one for one in said if one is not None]
    return any(known) if known else None


def _blocks(answer: str) -> bool | None:
    """Whether an answer names the client; None: the list says something else."""
    address = ipaddress.ip_address(answer)
    return True if address in _LISTED and address not in _REFUSED and address != _REFUSED_TOO else None


def _allows(answer: str) -> bool | None:
    if not _blocks(answer):
        return None
    trust = int(ipaddress.ip_address(answer)) & 0xFF
    return None if trust == 255 else trust > 0


def _refusal(client: Address, lists: tuple[str, ...]) -> bytes:
    named = ", ".join(lists)
    return reply(
        550,
        "5.7.1",
        f"Mail from [{client}] is refused, it is listed by {named}; ask our postmaster why",
        error="blocklisted",
    )
