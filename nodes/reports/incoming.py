"""What others report to us, understood: DMARC aggregates (RFC 7489 appendix C), TLS reports (RFC 8460), abuse
reports of feedback loops (RFC 5965). Nothing in them is trusted; what is kept of one is bounded.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterable
from typing import Any, NamedTuple
from xml.etree.ElementTree import Element, ParseError

import msgpack
from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from nodes.mime.header import fields
from nodes.reports.attachments import Unreadable, leaves, unpacked

MOST_ROWS = 500
MOST_TAGS = 1_000_000  # of XML; what it takes in memory goes by them
MOST_TEXT = 320
MOST_CONTENT_BYTES = 192 * 1024
_YEAR_10000_S = 253_402_300_800

_ARF_FIELDS = (  # RFC 5965 3.1, 3.2, RFC 6591 3.1
    "feedback-type", "user-agent", "version", "arrival-date", "source-ip", "original-mail-from", "original-rcpt-to",
    "reported-domain", "reported-uri", "reporting-mta", "authentication-results", "incidents", "auth-failure",
    "identity-alignment", "delivery-result", "dkim-domain", "spf-dns",
)  # fmt: skip
_ORIGINALS = ((b"message", b"rfc822"), (b"text", b"rfc822-headers"))


class Understood(NamedTuple):
    """A report: what identifies it, and its content as MessagePack values."""

    kind: str  # "dmarc", "tls", "arf"
    organisation: str
    report_id: str
    domain: str
    begin_s: int
    end_s: int
    content: dict[str, Any]

    def packed(self) -> bytes:
        """The content within MOST_CONTENT_BYTES; rows that do not fit are left out."""
        content = dict(self.content)
        while len(packed := msgpack.packb(content)) > MOST_CONTENT_BYTES and content.get("rows"):
            content["rows"] = content["rows"][: len(content["rows"]) // 2]
        return bytes(packed)


def understand(data: bytes) -> Understood:
    """The report that a message carries. Raises Unreadable. Takes a while for a large one: not for the event loop."""
    found = [(part, content) for part, content in leaves(data)]
    for part, content in found:
        if part.media[:2] == (b"message", b"feedback-report"):
            return _feedback(content, [one for other, one in found if other.media[:2] in _ORIGINALS])
    for part, content in found:
        if part.media.type == b"text" and part.media.subtype in (b"plain", b"html"):
            continue
        document = unpacked(content).lstrip(b"\xef\xbb\xbf \t\r\n")
        if document.startswith(b"<"):
            return _aggregate(document)
        if document.startswith(b"{"):
            return _tls(document)
    raise Unreadable("it has no report attached")


# DMARC


def _aggregate(document: bytes) -> Understood:
    if document.count(b"<") > MOST_TAGS:
        raise Unreadable("the XML has more tags than a report needs")
    try:
        root = fromstring(document, forbid_dtd=True)
    except (ParseError, DefusedXmlException, ValueError, RecursionError) as error:
        raise Unreadable(f"the XML can not be read: {type(error).__name__}") from None
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2] if isinstance(element.tag, str) else ""
    metadata, published = root.find("report_metadata"), root.find("policy_published")
    if root.tag != "feedback" or metadata is None or published is None:
        raise Unreadable("it is no aggregate report")
    records = root.findall("record")
    rows = [_row(one) for one in records]
    policy = {name: _text(published, name) for name in ("p", "sp", "adkim", "aspf", "pct", "fo")}
    content = {
        "email": _text(metadata, "email"),
        "policy": {name: value for name, value in policy.items() if value},
        "messages": sum(row["count"] for row in rows),
        "passed": sum(row["count"] for row in rows if "pass" in (row["dkim"], row["spf"])),
        "records": len(records),
        "rows": sorted(rows, key=lambda row: -row["count"])[:MOST_ROWS],
    }
    span = (_second(_text(metadata, "date_range/begin")), _second(_text(metadata, "date_range/end")))
    domain = _text(published, "domain").lower()
    return Understood("dmarc", _text(metadata, "org_name"), _text(metadata, "report_id"), domain, *span, content)


def _row(record: Element) -> dict[str, Any]:
    evaluated = "row/policy_evaluated/"
    return {
        "source_ip": _text(record, "row/source_ip"),
        "count": _count(_text(record, "row/count")),
        "disposition": _text(record, evaluated + "disposition"),
        "dkim": _text(record, evaluated + "dkim").lower(),
        "spf": _text(record, evaluated + "spf").lower(),
        "reason": _text(record, evaluated + "reason/type"),
        "header_from": _text(record, "identifiers/header_from").lower(),
        "dkim_domain": _text(record, "auth_results/dkim/domain").lower(),
        "spf_domain": _text(record, "auth_results/spf/domain").lower(),
    }


def _text(element: Element, path: str) -> str:
    return (element.findtext(path) or "").strip()[:MOST_TEXT]


def _count(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 13 else 0


def _second(text: str) -> int:
    return min(_count(text.partition(".")[0]), _YEAR_10000_S)


# TLS


def _tls(document: bytes) -> Understood:
    try:
        report = json.loads(document)
    except (ValueError, RecursionError):
        raise Unreadable("the JSON can not be read") from None
    policies = [one for one in _list(report, "policies") if isinstance(one, dict)]
    if not isinstance(report, dict) or not policies:
        raise Unreadable("it is no TLS report")
    rows = [row for one in policies for row in _failures(one)]
    summaries = [_dict(one, "summary") for one in policies]
    domain = _string(_dict(policies[0], "policy"), "policy-domain").lower()
    content = {
        "contact": _string(report, "contact-info"),
        "policies": [_policy(one) for one in policies[:20]],
        "succeeded": sum(_number(one, "total-successful-session-count") for one in summaries),
        "failed": sum(_number(one, "total-failure-session-count") for one in summaries),
        "rows": rows[:MOST_ROWS],
    }
    dates = _dict(report, "date-range")
    span = (_moment(_string(dates, "start-datetime")), _moment(_string(dates, "end-datetime")))
    return Understood("tls", _string(report, "organization-name"), _string(report, "report-id"), domain, *span, content)


def _policy(one: dict[str, Any]) -> dict[str, str]:
    policy = _dict(one, "policy")
    return {"type": _string(policy, "policy-type"), "domain": _string(policy, "policy-domain")}


def _failures(one: dict[str, Any]) -> Iterable[dict[str, Any]]:
    for failure in _list(one, "failure-details")[:MOST_ROWS]:
        if isinstance(failure, dict):
            yield {
                "result": _string(failure, "result-type"),
                "count": _number(failure, "failed-session-count"),
                "sending_ip": _string(failure, "sending-mta-ip"),
                "receiving_host": _string(failure, "receiving-mx-hostname"),
                "receiving_ip": _string(failure, "receiving-ip"),
                "reason": _string(failure, "failure-reason-code"),
            }


def _dict(value: Any, name: str) -> dict[str, Any]:
    found = value.get(name) if isinstance(value, dict) else None
    return found if isinstance(found, dict) else {}


def _list(value: Any, name: str) -> list[Any]:
    found = value.get(name) if isinstance(value, dict) else None
    return found if isinstance(found, list) else []


def _string(value: dict[str, Any], name: str) -> str:
    found = value.get(name)
    return _sound(found)[:MOST_TEXT] if isinstance(found, str) else ""


def _sound(text: str) -> str:
    """JSON can hold halves of characters, which no other text can."""
    return text.encode("utf-8", "replace").decode()


def _number(value: dict[str, Any], name: str) -> int:
    found = value.get(name)
    return found if isinstance(found, int) and not isinstance(found, bool) and 0 <= found < 10**12 else 0


def _moment(text: str) -> int:
    try:
        return max(0, int(datetime.datetime.fromisoformat(text).timestamp()))
    except (ValueError, OverflowError):
        return 0


# Feedback loops


def _feedback(content: bytes, originals: list[bytes]) -> Understood:
    found = _fields(content, _ARF_FIELDS)
    if "feedback-type" not in found:
        raise Unreadable("it is no feedback report")
    about = _fields(originals[0], ("message-id", "from", "subject", "date")) if originals else {}
    arrived = found.get("arrival-date", "")
    reporter = found.get("reporting-mta", "").rpartition(";")[2].strip() or found.get("user-agent", "")
    domain = found.get("reported-domain", "").lower()
    identity = about.get("message-id", "") + found.get("original-rcpt-to", "") + arrived
    return Understood("arf", reporter, identity[:MOST_TEXT], domain, 0, 0, {"feedback": found, "message": about})


def _fields(content: bytes, names: Iterable[str]) -> dict[str, str]:
    """Of a field that occurs twice, the first."""
    wanted = set(names)
    found: dict[str, str] = {}
    for one in fields(content, 0, min(len(content), 64 * 1024)):
        name = one.name.decode("ascii", "replace")
        if name in wanted and name not in found:
            value = content[one.value : one.end].decode("utf-8", "replace")
            found[name] = " ".join(value.split())[:MOST_TEXT]
    return found
