"""A report as a message (RFC 7489 7.2.1.1, RFC 8460 5.3), small enough for those who want it."""

from __future__ import annotations

import time
from email.headerregistry import Address
from email.message import EmailMessage, MIMEPart
from email.policy import SMTP
from email.utils import formatdate
from typing import NamedTuple

from actors.reports import DAY_MS, Collected, Line, Settings
from nodes.reports import aggregate, tls_report
from nodes.reports.recipients import Recipient


class Report(NamedTuple):
    """The whole message with CRLF line ends, and who gets it: those whose limit it keeps."""

    data: bytes
    recipients: tuple[str, ...]


def make(found: Collected, lines: list[Line], settings: Settings, wanted: list[Recipient]) -> Report:
    """The report of a subject, for `wanted`."""
    kind = found.subject.kind
    document = aggregate.xml if kind == "dmarc" else tls_report.document
    attached = aggregate.compressed(document(found, lines, settings))
    recipients = tuple(one.address for one in wanted if one.most_bytes is None or len(attached) <= one.most_bytes)
    return Report(_message(found, settings, attached, recipients), recipients)


def _message(found: Collected, settings: Settings, attached: bytes, recipients: tuple[str, ...]) -> bytes:
    own, subject = settings.sender.rpartition("@")[2], found.subject
    id_ = aggregate.report_id(found, settings)
    begin = subject.day * DAY_MS // 1000
    message = EmailMessage(policy=SMTP.clone(cte_type="7bit"))
    message["From"] = Address(settings.organisation or own, addr_spec=settings.sender)
    message["To"] = ", ".join(recipients) or "undisclosed-recipients:;"
    message["Date"] = formatdate(time.time())
    message["Message-ID"] = f"<{id_}.{subject.kind}@{own}>"
    message["Subject"] = f"Report Domain: {subject.domain} Submitter: {own} Report-ID: <{id_}>"
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834 5
    name = f"{own}!{subject.domain}!{begin}!{begin + 86_399}"
    if subject.kind == "tls":
        message["TLS-Required"] = "No"  # RFC 8460 3: it arrives though TLS be what it reports on (RFC 8689 5)
        message["TLS-Report-Domain"], message["TLS-Report-Submitter"] = subject.domain, own
        _add_parts(message, subject.domain, attached, "tlsrpt+gzip", f"{name}.json.gz")
        message.set_type("multipart/report")
        message.set_param("report-type", "tlsrpt")
    else:
        _add_parts(message, subject.domain, attached, "gzip", f"{name}.xml.gz")
    return message.as_bytes()


def _add_parts(message: EmailMessage, domain: str, attached: bytes, subtype: str, name: str) -> None:
    text = MIMEPart(policy=message.policy)
    text.set_content(f"This is a report on mail authentication for {domain}, for programs to read.\n")
    report = MIMEPart(policy=message.policy)
    report.set_content(attached, maintype="application", subtype=subtype, filename=name, disposition="attachment")
    message.make_mixed()
    message.attach(text)  # type: ignore[arg-type]
    message.attach(report)  # type: ignore[arg-type]
