"""Greylisting (RFC 6647): a server that is not known is asked to come again, which few that send spam do.

A client's network, the sender and the recipient together are known from the first attempt after the delay on; a
network that has come again for several of them is asked no more. All nodes know what one of them has seen
(nodes/policy/marks.py), so that it does not matter where a server comes again, nor whether that node is the same.
"""

from __future__ import annotations

import ipaddress
import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from actors.tenant_policy import ON
from nodes.config.policy import PolicySection
from nodes.failures import key_of
from nodes.policy.clients import Address, is_postmaster, stranger
from nodes.policy.marks import Marks
from nodes.policy.tenants import PolicyOf
from nodes.smtp.checks import Check
from nodes.smtp.replies import Refused, reply
from nodes.tls.trust import Trust

if TYPE_CHECKING:
    from nodes.metrics import Metrics
    from nodes.policy.dnsbl import ListCheck
    from nodes.policy.sharing import Shared
    from nodes.smtp.session import Envelope, Session

NETWORK_BITS = {4: 24, 6: 64}  # large senders come again from another address of the same network
KNOWN_AGAIN_S = 3600.0  # how often what is known already is told to the others again


class Greylisting(Check):
    """Puts off mail of clients that are not known yet; clients of allowlists never."""

    def __init__(
        self,
        config: PolicySection,
        policy_of: PolicyOf,
        metrics: Metrics,
        lists: ListCheck | None = None,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._policy_of = policy_of
        self._metrics = metrics
        most = config.greylist_entries
        self.waiting = Marks(config.greylist_delay_s + config.greylist_wait_s, most, now_s)
        self.known = Marks(config.greylist_keep_s, most, now_s)
        self.networks = Marks(config.greylist_keep_s, most, now_s)
        self.reload(config, lists)

    def reload(self, config: PolicySection, lists: ListCheck | None) -> None:
        """From now on by this; who is known stays so."""
        self._lists = lists
        self._exempt = Trust(config.exempt)
        self._longest_s = max(config.greylist_delay_s, config.greylist_wait_s / 2)
        self._known_networks = config.greylist_known_after
        self.waiting.keep(config.greylist_delay_s + config.greylist_wait_s, config.greylist_entries)
        for marks in (self.known, self.networks):
            marks.keep(config.greylist_keep_s, config.greylist_entries)

    @property
    def shared(self) -> dict[str, Shared]:
        """What the nodes tell each other, by topic."""
        return {
            "greylist waiting": self.waiting,
            "greylist known": self.known,
            "greylist networks": self.networks,
        }

    def concerns(self, session: Session, envelope: Envelope) -> bool:
        return self._policy_of(envelope.tenant).greylisting == ON

    async def recipient(self, session: Session, envelope: Envelope, address: str, local: bool) -> None:
        """Raises Refused."""
        client = stranger(session, self._exempt)
        if client is None or is_postmaster(address):
            return
        policy = self._policy_of(envelope.tenant)
        if self._lists is not None and (await self._lists.standing(session, client)).is_allowed(policy):
            return
        left_s = self.left_s(client, envelope.mail_from or "", address, policy.greylist_delay_s)
        if left_s > 0:
            self._metrics.policy_refused("greylist")
            raise Refused(_come_again(left_s))

    def left_s(self, client: Address, sender: str, recipient: str, delay_s: float) -> float:
        """An attempt is made; gives how long its like is put off still, 0: not at all.

        A tenant's delay that would outlast what is remembered of the first attempt counts as the longest there is.
        """
        delay_s = min(delay_s, self._longest_s)
        name = network_name(client)
        network, attempt = key_of("network", name), key_of("attempt", name, sender.casefold(), recipient.casefold())
        seen = self.networks.get(network)
        if seen is not None and seen.times >= self._known_networks:
            self._keep(self.networks, network)
            return 0.0
        if self.known.get(attempt) is not None:
            self._keep(self.known, attempt)
            return 0.0
        age_s = self.waiting.age_s(attempt)
        if age_s is None:
            self.waiting.note(attempt)
            return delay_s
        if age_s >= delay_s:
            self.known.note(attempt)
            self.networks.note(network)
            return 0.0
        return delay_s - age_s

    def _keep(self, marks: Marks, key: bytes) -> None:
        quiet_s = marks.quiet_s(key)
        if quiet_s is not None and quiet_s > KNOWN_AGAIN_S:
            marks.note(key)


def network_name(client: Address) -> str:
    """The network that a client is known by."""
    return str(ipaddress.ip_network((client, NETWORK_BITS[client.version]), strict=False))


def _come_again(left_s: float) -> bytes:
    return reply(
        451, "4.7.1", f"Greylisted: not known here yet, come again in {math.ceil(left_s)} seconds", error="greylisted"
    )
