"""Our reports on TLS to a domain's hosts, as JSON (RFC 8460 4.4)."""

from __future__ import annotations

import datetime
import json
from collections import defaultdict
from typing import Any

from actors.reports import DAY_MS, Collected, Line, Settings
from nodes.delivery.tls_results import TlsResult
from nodes.reports.aggregate import report_id

_MEMBERS = {"receiving-mx-hostname": "host", "receiving-ip": "address", "additional-information": "reason"}


def document(found: Collected, lines: list[Line], settings: Settings) -> bytes:
    """The report, not compressed."""
    begin = found.subject.day * DAY_MS // 1000
    results = [(TlsResult(found.subject.domain, *_tuples(what)), count) for what, count in lines]
    by_policy: defaultdict[tuple[Any, ...], list[tuple[TlsResult, int]]] = defaultdict(list)
    for result, count in results:
        by_policy[result[1:4]].append((result, count))
    report = {
        "organization-name": settings.organisation or settings.sender.rpartition("@")[2],
        "date-range": {"start-datetime": _utc(begin), "end-datetime": _utc(begin + 86_399)},
        "contact-info": settings.sender,
        "report-id": report_id(found, settings),
        "policies": [_policy(those) for _, those in sorted(by_policy.items())],
    }
    return json.dumps(report, indent=1).encode()


def _tuples(what: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(tuple(one) if isinstance(one, list) else one for one in what)


def _policy(results: list[tuple[TlsResult, int]]) -> dict[str, Any]:
    first = results[0][0]
    about: dict[str, Any] = {"policy-type": first.policy_type, "policy-domain": first.domain}
    if first.policy:
        about["policy-string"] = list(first.policy)
    if first.mx_patterns:
        about["mx-host"] = list(first.mx_patterns)
    failed = [(result, count) for result, count in results if result.failure]
    told: dict[str, Any] = {
        "policy": about,
        "summary": {
            "total-successful-session-count": sum(count for result, count in results if not result.failure),
            "total-failure-session-count": sum(count for _, count in failed),
        },
    }
    if failed:
        told["failure-details"] = [_failure(result, count) for result, count in failed]
    return told


def _failure(result: TlsResult, count: int) -> dict[str, Any]:
    members = {member: getattr(result, name) for member, name in _MEMBERS.items() if getattr(result, name)}
    return {"result-type": result.failure, **members, "failed-session-count": count}


def _utc(second: int) -> str:
    return datetime.datetime.fromtimestamp(second, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
