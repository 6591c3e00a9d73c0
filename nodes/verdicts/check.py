"""Judges mail before it is taken, says what was found in front of it, and does what DMARC asks (RFC 7489 6.3).

Nothing of it can lose mail: where the DNS does not answer, a verdict is a temperror, and policy says whether that mail
is taken or put off.
"""

from __future__ import annotations

import ipaddress
import random
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import structlog

from actors import verdicts
from actors.verdicts import VERDICTS, Mode, VerdictPolicy
from nodes.followed import Followed
from nodes.reports.results import dmarc_result
from nodes.smtp.checks import JUNK, Check, Incoming
from nodes.smtp.replies import Refused, reply
from nodes.verdicts import authentication_results
from nodes.verdicts.judge import Arrival, Judgement, Limits, as_values, findings, judge
from nodes.verdicts.spf import Remembered

if TYPE_CHECKING:
    from eventlog.log import EventLog
    from nodes.config.node import NodeConfig
    from nodes.metrics import Metrics
    from nodes.reports.collector import Collector
    from nodes.smtp.session import Envelope, Session
    from nodes.verdicts.lookups import Lookup

_log = structlog.get_logger("mailraft.verdicts")

MOST_CLAIM_BYTES = 8192  # of forged fields, kept in the event

DMARC_REJECT = reply(
    550, "5.7.26", "The author's domain asks that mail which fails DMARC is rejected", error="dmarc_failed"
)  # RFC 7372 3.2
DMARC_LATER = reply(
    451,
    "4.7.26",
    "The DNS can not say at the moment whether the author's domain sent this, try later",
    error="dmarc_unknown",
)
AMBIGUOUS_AUTHOR = reply(
    550, "5.7.26", "The message has more than one From field or too many authors' domains", error="bad_message"
)


class VerdictCheck(Check):
    """SPF, DKIM, ARC and DMARC, for mail from elsewhere."""

    def __init__(
        self, config: NodeConfig, log: EventLog, resolver: Lookup, metrics: Metrics, reports: Collector
    ) -> None:
        self._resolver = resolver
        self._metrics = metrics
        self._reports = reports
        self.reload(config)
        self._rules = Followed(log, VERDICTS, lambda view: (verdicts.policy(view), verdicts.tenant_modes(view)))
        self._remembered = Remembered()

    def reload(self, config: NodeConfig) -> None:
        """From now on by this."""
        self._judge_all = config.verdicts.judge == "always"
        self._authserv_id = config.verdicts.authserv_id or config.node.hostname
        self._limits = Limits(config.verdicts.signatures, config.verdicts.timeout_s)

    def wants(self, session: Session, envelope: Envelope, incoming: Incoming) -> bool:
        """Whether it comes from another server."""
        if session.profile.kind != "smtp" or session.account is not None or not session.client:
            return False
        return self._judge_all or not _is_loopback(session.client)

    async def message(self, session: Session, envelope: Envelope, incoming: Incoming) -> None:
        """Raises Refused."""
        arrival = Arrival(_address(session.client), session.host_name or "", envelope.mail_from or "", incoming.data)
        policy, mode = self._policy(envelope)
        try:
            judgement = await judge(
                self._resolver, arrival, policy, self._limits, random.randrange(100), self._remembered
            )
        except (
            Exception
        ):  # a fault of ours, or of a library's: the mail is neither lost, nor put off for ever, nor trusted
            _log.exception("mail could not be judged", code="check_failed")
            self._metrics.judged("error")
            incoming.folder = JUNK
            incoming.verdicts["error"] = True
            return
        values = as_values(judgement, arrival)
        self._tell(incoming, judgement, arrival, values)
        incoming.verdicts.update(values)
        self._metrics.judged(judgement.dmarc.result if judgement.dmarc else "none")
        if judgement.dmarc is not None and judgement.dmarc.policy is not None:
            self._reports.count_dmarc(judgement.dmarc.policy, dmarc_result(judgement, arrival, mode))
        if mode == "enforce":
            _enforce(policy, judgement, incoming)

    def _policy(self, envelope: Envelope) -> tuple[VerdictPolicy, Mode]:
        policy, modes = self._rules.value
        tenants = set(envelope.tenants)
        return policy, verdicts.mode_for(policy, modes, tenants)

    def _tell(self, incoming: Incoming, judgement: Judgement, arrival: Arrival, values: dict[str, Any]) -> None:
        """Our field goes on top; those that claim to be ours go (RFC 8601 5), and stand in the event instead."""
        incoming.lines.insert(0, authentication_results.write(self._authserv_id, findings(judgement, arrival)))
        kept, claims = authentication_results.without_claims(incoming.data, self._authserv_id)
        if claims:
            incoming.data = kept
            values["removed"] = b"".join(claims)[:MOST_CLAIM_BYTES].decode("utf-8", "replace")


def _address(client: str) -> str:
    """Without a zone; an IPv4 address that came over IPv6 is itself."""
    bare = client.partition("%")[0]
    try:
        mapped = ipaddress.IPv6Address(bare).ipv4_mapped if ":" in bare else None
    except ValueError:
        return bare
    return str(mapped) if mapped is not None else bare


@lru_cache(4096)
def _is_loopback(client: str) -> bool:
    try:
        return ipaddress.ip_address(_address(client)).is_loopback
    except ValueError:
        return False


def _enforce(policy: VerdictPolicy, judgement: Judgement, incoming: Incoming) -> None:
    """Raises Refused."""
    if judgement.authors.is_ambiguous and policy.ambiguous_author == "refuse":
        raise Refused(AMBIGUOUS_AUTHOR)
    found = judgement.dmarc
    if found is None:
        return
    might_be_rejected = found.result == "temperror" and (found.policy is None or found.disposition == "reject")
    if might_be_rejected and policy.on_temporary == "defer":
        raise Refused(DMARC_LATER)
    if judgement.disposition == "reject":
        raise Refused(DMARC_REJECT)
    if judgement.disposition == "quarantine":
        incoming.folder = JUNK
