"""What EHLO and LHLO offer to whom, and which parameters of MAIL and RCPT follow from it: one table for both.

So a parameter is taken exactly where its extension was announced. Everything depends on the listener's kind and on a
few facts of the session; the answers are few, and kept.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from typing import NamedTuple

from nodes.config.node import NodeConfig
from nodes.smtp import trace
from nodes.smtp.profile import Profile

XCLIENT_ATTRIBUTES = "NAME ADDR PORT PROTO HELO DESTADDR DESTPORT"
RELEASE_STEP_S = 3600  # the latest release that is announced (RFC 4865 4.1) moves on in steps

_MAIL_PARAMETERS = {
    "SIZE": ("SIZE",),
    "8BITMIME": ("BODY",),
    "SMTPUTF8": ("SMTPUTF8",),
    "DSN": ("RET", "ENVID"),
    "DELIVERBY": ("BY",),
    "FUTURERELEASE": ("HOLDFOR", "HOLDUNTIL"),
    "MT-PRIORITY": ("MT-PRIORITY",),
    "REQUIRETLS": ("REQUIRETLS",),
    "AUTH": ("AUTH",),
    "XVERP": ("XVERP",),
}
_RECIPIENT_PARAMETERS = frozenset(("NOTIFY", "ORCPT"))


class Standing(NamedTuple):
    """What of a session decides on the offer."""

    secure: bool = False
    starttls: bool = False
    mechanisms: str = ""  # to log in with, as AUTH lists them; "" offers none
    priority: bool = False  # its MT-PRIORITY is believed
    xclient: bool = False


class Offer(NamedTuple):
    """The reply to EHLO, and the keywords that MAIL and RCPT may carry."""

    reply: bytes = b""
    mail: frozenset[str] = frozenset()
    recipient: frozenset[str] = frozenset()


NOTHING = Offer()  # HELO


class Extensions:
    """The offers of one listener."""

    def __init__(self, config: NodeConfig, profile: Profile) -> None:
        self._config = config
        self._profile = profile
        self._known: dict[Standing, Offer] = {}
        self._step = 0

    def offer(self, standing: Standing) -> Offer:
        """What a session of this standing is offered (RFC 5321 4.1.1.1)."""
        step = int(trace.now_s()) // RELEASE_STEP_S
        if step != self._step:
            self._known.clear()
            self._step = step
        known = self._known.get(standing)
        if known is None:
            known = self._known[standing] = self._render(standing)
        return known

    def _render(self, standing: Standing) -> Offer:
        keywords = list(self._keywords(standing))
        lines = [self._config.node.hostname, *keywords]
        reply = "".join(f"250-{line}\r\n" for line in lines) + "250 HELP\r\n"
        mail = frozenset(word for keyword in keywords for word in _MAIL_PARAMETERS.get(keyword.split()[0], ()))
        # a client that has logged in, and so is offered AUTH no more, may still name the author (RFC 4954 5)
        return Offer(reply.encode("ascii"), mail | {"AUTH"}, _RECIPIENT_PARAMETERS)

    def _keywords(self, standing: Standing) -> Iterable[str]:
        limits, smtp, profile = self._config.limits, self._config.smtp, self._profile
        yield "PIPELINING"
        yield f"SIZE {limits.message_bytes}"
        yield from ("8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES", "CHUNKING", "BINARYMIME", "DSN")
        yield f"LIMITS RCPTMAX={limits.recipients} MAILMAX={smtp.transactions}"
        if not profile.lmtp:
            yield "DELIVERBY"
        if profile.submits:
            yield f"FUTURERELEASE {int(smtp.hold_s)} {self._latest_release()}"
            yield "XVERP"
        if standing.priority or profile.submits:
            yield "MT-PRIORITY"
        if smtp.vrfy:
            yield "VRFY"
        if standing.secure:
            yield "REQUIRETLS"  # RFC 8689 2: never in clear
        if standing.starttls:
            yield "STARTTLS"
        if standing.mechanisms:
            yield f"AUTH {standing.mechanisms}"
        if standing.xclient:
            yield f"XCLIENT {XCLIENT_ATTRIBUTES}"

    def _latest_release(self) -> str:
        latest_s = self._step * RELEASE_STEP_S + self._config.smtp.hold_s
        return datetime.datetime.fromtimestamp(latest_s, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
