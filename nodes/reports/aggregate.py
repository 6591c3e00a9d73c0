"""Our aggregate reports on DMARC, as XML (RFC 7489 7.2, appendix C)."""

from __future__ import annotations

import gzip
import re
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from actors.reports import DAY_MS, Collected, Line, Settings
from nodes.reports.results import DmarcResult

_UNPRINTABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def report_id(found: Collected, settings: Settings) -> str:
    """The same whoever makes it."""
    return f"{found.first_ms}.{found.subject.domain}.{settings.sender.rpartition('@')[2]}"


def xml(found: Collected, lines: list[Line], settings: Settings) -> bytes:
    """The report, not compressed."""
    feedback = Element("feedback")
    _add(feedback, "version", "1.0")
    metadata = SubElement(feedback, "report_metadata")
    _add(metadata, "org_name", settings.organisation or settings.sender.rpartition("@")[2])
    _add(metadata, "email", settings.sender)
    _add(metadata, "report_id", report_id(found, settings))
    dates = SubElement(metadata, "date_range")
    _add(dates, "begin", found.subject.day * DAY_MS // 1000)
    _add(dates, "end", (found.subject.day + 1) * DAY_MS // 1000 - 1)
    if found.left_out:
        _add(metadata, "error", f"{found.left_out} messages are left out: too many different results")
    published = SubElement(feedback, "policy_published")
    names = ("adkim", "aspf", "p", "sp", "pct", "fo")
    for name, value in zip(("domain", *names), (found.subject.domain, *found.policy)):
        _add(published, name, value)
    for what, count in sorted(lines, key=lambda line: -line[1]):
        _record(feedback, DmarcResult(*what), count)
    ElementTree.indent(feedback)
    return bytes(ElementTree.tostring(feedback, encoding="utf-8", xml_declaration=True))


def _record(feedback: Element, result: DmarcResult, count: int) -> None:
    record = SubElement(feedback, "record")
    row = SubElement(record, "row")
    _add(row, "source_ip", result.client)
    _add(row, "count", count)
    evaluated = SubElement(row, "policy_evaluated")
    _add(evaluated, "disposition", result.disposition)
    _add(evaluated, "dkim", result.dkim)
    _add(evaluated, "spf", result.spf)
    if result.reason:
        reason = SubElement(evaluated, "reason")
        _add(reason, "type", result.reason)
        _add(reason, "comment", result.comment)
    identifiers = SubElement(record, "identifiers")
    if result.envelope_from:
        _add(identifiers, "envelope_from", result.envelope_from)
    _add(identifiers, "header_from", result.header_from)
    _auth_results(SubElement(record, "auth_results"), result)


def _auth_results(parent: Element, result: DmarcResult) -> None:
    for domain, selector, outcome in result.signatures:
        signature = SubElement(parent, "dkim")
        _add(signature, "domain", domain)
        _add(signature, "selector", selector)
        _add(signature, "result", outcome)
    spf = SubElement(parent, "spf")
    _add(spf, "domain", result.spf_domain)
    _add(spf, "scope", result.spf_scope)
    _add(spf, "result", result.spf_result)


def _add(parent: Element, name: str, value: Any) -> None:
    SubElement(parent, name).text = _UNPRINTABLE.sub("?", str(value))


def compressed(data: bytes) -> bytes:
    """gzip, the same bytes each time."""
    return gzip.compress(data, mtime=0)
