"""What was found: an area, how it is, what was seen, and what would mend it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple

Status = Literal["ok", "note", "warning", "error"]
WORST: tuple[Status, ...] = ("error", "warning", "note", "ok")


class PutAt(NamedTuple):
    """A file that would mend it, and where it has to be."""

    where: str
    text: str


class Finding(NamedTuple):
    """`records`: lines of a zone file that would mend it; `files`: what has to be on a web server."""

    area: str  # "MX", "SPF", "DKIM", "DMARC", "MTA-STS", "TLS-RPT", "DANE", "reverse DNS", "port"
    status: Status
    text: str
    advice: str = ""
    records: tuple[str, ...] = ()
    files: tuple[PutAt, ...] = ()


def worst(findings: Iterable[Finding]) -> Status:
    """The worst status among them; "ok" of none."""
    found = {one.status for one in findings}
    return next((status for status in WORST if status in found), "ok")
