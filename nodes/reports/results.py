"""What is counted for DMARC reports: one line for each combination that occurs. Plain tuples of MessagePack values."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from actors.verdicts import Mode
    from nodes.verdicts.judge import Arrival, Judgement

MOST_SIGNATURES = 4  # in one line
MOST_TEXT = 253


class DmarcResult(NamedTuple):
    """A row of an aggregate report (RFC 7489 appendix C)."""

    client: str
    disposition: str
    dkim: str
    spf: str
    reason: str  # PolicyOverrideType, "" for none
    comment: str
    header_from: str
    envelope_from: str
    signatures: tuple[tuple[str, str, str], ...]  # domain, selector, result
    spf_domain: str
    spf_scope: str
    spf_result: str


def dmarc_result(judgement: Judgement, arrival: Arrival, mode: Mode) -> DmarcResult:
    """What the author's domain is told of a message; its verdict on DMARC is there."""
    found = judgement.dmarc
    assert found is not None
    reason, comment = _override(judgement, mode)
    signatures = [(one.domain, one.selector, one.result) for one in judgement.signatures if one.domain]
    return DmarcResult(
        arrival.client,
        judgement.disposition if mode == "enforce" else "none",
        "pass" if found.dkim_aligned else "fail",
        "pass" if found.spf_aligned else "fail",
        reason,
        comment,
        found.domain,
        arrival.sender.rpartition("@")[2].lower()[:MOST_TEXT],
        tuple(signatures[:MOST_SIGNATURES]),
        judgement.spf.domain.lower()[:MOST_TEXT],
        "mfrom" if arrival.sender else "helo",
        judgement.spf.result,
    )


def _override(judgement: Judgement, mode: Mode) -> tuple[str, str]:
    found = judgement.dmarc
    if found is None or found.result != "fail":
        return "", ""
    if judgement.trusted_sealer:
        return "local_policy", f"arc=pass, sealed by {judgement.trusted_sealer}"
    if mode == "mark" and found.disposition != "none":
        return "local_policy", "marked only"
    if found.disposition != found.requested:
        return "sampled_out", ""
    return "", ""
