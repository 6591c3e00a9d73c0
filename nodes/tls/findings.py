"""What a node's certificates look like to an operator: what expires, what is not stapled, what could not be ordered."""

from __future__ import annotations

import datetime
from collections.abc import Sequence

from cryptography import x509

from actors.acme import Managed
from actors.certificates import Stored
from nodes.doctor.finding import Finding, Status

SOON, VERY_SOON = datetime.timedelta(days=30), datetime.timedelta(days=7)
RENEW = "mailraft cluster renew DIR, or mailraft cluster rotate-certificates DIR"
ROTATE = "mailraft cluster rotate-ca DIR"
GRANT = "mailraft region grant NAME --out FILE, and in the other cell: mailraft region follow --grant FILE"


def of_expiry(area: str, names: Sequence[str], end: datetime.datetime, now: datetime.datetime, advice: str) -> Finding:
    """How long a certificate lasts."""
    shown = ", ".join(names) or "it"
    day = end.date().isoformat()
    if end <= now:
        return Finding(area, "error", f"{shown}: has expired on {day}", advice)
    status: Status = "error" if end - now <= VERY_SOON else "warning" if end - now <= SOON else "ok"
    return Finding(area, status, f"{shown}: valid until {day}", advice if status != "ok" else "")


def of_authorities(trusted: Sequence[x509.Certificate], now: datetime.datetime) -> list[Finding]:
    """The cell's own in force, which comes first; and that another is trusted beside it, which ought to end."""
    in_force, *beside = trusted
    found = [of_expiry("authority", (), in_force.not_valid_after_utc, now, ROTATE)]
    for one in beside:
        until = f"until it is retired, or until {one.not_valid_after_utc.date().isoformat()}"
        text = f"another authority is trusted beside the one in force, {until}"
        found.append(Finding("authority", "note", text, f"{ROTATE} --status, then {ROTATE} goes on to the end"))
    return found


def of_stored(stored: Sequence[Stored], now: datetime.datetime) -> list[Finding]:
    """Of each certificate of the log."""
    found = []
    for one in stored:
        end = datetime.datetime.fromtimestamp(one.not_after_ms / 1000, datetime.UTC)
        short = datetime.timedelta(milliseconds=one.not_after_ms - one.not_before_ms) < 2 * SOON
        if one.source == "acme" and short and end - now > VERY_SOON:
            found.append(Finding("log", "ok", f"{', '.join(one.names)}: valid until {end.date().isoformat()}"))
            continue
        advice = "mailraft certificate orders" if one.source == "acme" else "mailraft certificate add CHAIN KEY"
        found.append(of_expiry("log", one.names, end, now, advice))
    return found


def of_orders(kept: Sequence[Managed]) -> list[Finding]:
    """Of each certificate that orders itself, where the last order failed."""
    return [
        Finding(
            "ACME",
            "warning" if one.fingerprint else "error",
            f"{', '.join(one.names)}: {one.problem} ({one.failures} times)",
            "mend it, then mailraft certificate renew NAME",
        )
        for one in kept
        if one.failures
    ]
