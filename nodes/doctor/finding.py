"""What was found: an area, how it is, what was seen, and what would mend it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple

Status = Literal["ok", "note", "warning", "error"]
WORST: tuple[Status, ...] = ("error", "warning", "note", "ok")


class Finding(NamedTuple):
    """`records`: lines of a zone file that would mend it."""

    area: str  # "MX", "SPF", "DKIM", "DMARC", "MTA-STS", "TLS-RPT", "DANE", "reverse DNS", "port"
    status: Status
    text: str
    advice: str = ""
    records: tuple[str, ...] = ()


def worst(findings: Iterable[Finding]) -> Status:
    """The worst status among them; "ok" of none."""
    found = {one.status for one in findings}
    return next((status for status in WORST if status in found), "ok")
