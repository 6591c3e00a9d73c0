"""Delivery status notifications: what a sender is told of mail that failed, is late, or arrived where it was asked for.

RFC 3461 (what is asked), RFC 3462/6522 (multipart/report), RFC 3464 (the fields), RFC 6533 (addresses in UTF-8). The
original is given back whole or as its header only, as RET says and as its size allows.
"""

from __future__ import annotations

import textwrap
from datetime import UTC, datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP, SMTPUTF8
from email.utils import formatdate
from hashlib import sha256
from typing import NamedTuple

from actors.queue import Item
from nodes.delivery.plan import EXPIRED, Notice, NoticeKind, Told

MOST_RETURNED_BYTES = 64 * 1024  # of the original; a larger one comes back as its header
MOST_HEADER_BYTES = 32 * 1024

WIDTH = 76

_SUBJECTS: dict[NoticeKind, str] = {
    "failed": "Undelivered mail returned to sender",
    "delayed": "Delayed mail (still being tried)",
    "relayed": "Mail relayed",
    "delivered": "Mail delivered",
}
_OPENINGS: dict[NoticeKind, str] = {
    "failed": "Your message could not be delivered to the recipients below, and is not tried any more.",
    "delayed": "Your message could not be delivered to the recipients below yet. You need not send it again: "
    "it is tried until {until}.",
    "relayed": "Your message was handed to the mail servers of the recipients below. Unless those servers report "
    "that they delivered it, this is all that will be known.",
    "delivered": "Your message was delivered to the recipients below.",
}
_ADVICE = (
    ("5.1.", "Check the address for mistakes, or ask the recipient for the right one by other means."),
    ("5.2.2", "The recipient's mailbox is full: try again when there is room, or write to another address."),
    ("5.3.4", "The message is larger than that server takes: send less at once."),
    ("5.4.7", "The server could not be reached, or did not take it, in all the time that was given: try again later."),
    ("5.4.", "The recipient's domain can not be sent to at present: check its spelling, or tell its administrator."),
    ("5.7.", "That server refuses such mail: tell the administrator of your own mail what it said."),
)
_DOUBT = "At least one attempt ended without an answer, so the message may have been delivered all the same."


class Original(NamedTuple):
    """The message that the notice is about: header lines that we put in front, and the bytes that came."""

    trace: bytes
    data: bytes | None  # None: erased


def notice_message(
    notice: Notice, item: Item, original: Original, *, recipient: str, hostname: str, message_id: str, now_s: float
) -> bytes:
    """The notice as it is sent to `recipient`, with CRLF line ends. `message_id` is its own, without <>."""
    utf8 = item.options.utf8 or not _is_ascii(recipient, *(told.recipient.address for told in notice.recipients))
    report = EmailMessage(policy=SMTPUTF8 if utf8 else SMTP)
    report["From"] = Address("Mail Delivery System", "MAILER-DAEMON", hostname)
    report["To"] = f"<{recipient}>" if utf8 or _is_ascii(recipient) else "undisclosed-recipients:;"
    report["Subject"] = _SUBJECTS[notice.kind]
    report["Date"] = _date(int(now_s * 1000))
    report["Message-ID"] = f"<{message_id}>"
    report["Auto-Submitted"] = "auto-replied"  # RFC 3834 5
    report["MIME-Version"] = "1.0"
    parts = (
        _explanation(notice, item, hostname),
        _status(notice, item, hostname, utf8),
        _returned(notice, item, original, utf8),
    )
    boundary = sha256(b"".join(parts)).hexdigest()[:32]  # what holds it can not have been made to
    encoding = "7bit" if all(map(bytes.isascii, parts)) else "8bit"
    kind = f'multipart/report; report-type="delivery-status";\r\n boundary="{boundary}"'
    fence = f"--{boundary}".encode()
    body = b"".join(b"%b\r\n%b\r\n" % (fence, part) for part in parts) + fence + b"--\r\n"
    return report.as_bytes().rstrip(b"\r\n") + b"\r\n" + _part(kind, encoding, body)


def _explanation(notice: Notice, item: Item, hostname: str) -> bytes:
    lines = [f"This is the mail system at {hostname}.", ""]
    lines += [*textwrap.wrap(_OPENINGS[notice.kind].format(until=_day(notice.until_ms)), WIDTH), ""]
    for told in notice.recipients:
        lines += [f"<{told.recipient.address}>", *_what_happened(told, notice.kind), ""]
    if item.duplicates and notice.kind == "failed":
        lines += [*textwrap.wrap(_DOUBT, WIDTH), ""]
    text = "\r\n".join(lines)
    if text.isascii():
        return _part("text/plain; charset=us-ascii", "7bit", text.encode())
    return _part("text/plain; charset=utf-8", "8bit", text.encode("utf-8", "replace"))


def _what_happened(told: Told, kind: NoticeKind) -> list[str]:
    said = [f"{told.host} said: {told.text}" if told.is_reply else told.text or told.status]
    if told.status == EXPIRED:
        said = [f"Not delivered in the time that there was. The last attempt: {said[0]}"]
    if kind == "failed":
        said += [text for prefix, text in _ADVICE if told.status.startswith(prefix)][:1]
    return [line for one in said for line in _indented(one)]


def _indented(text: str) -> list[str]:
    return textwrap.wrap(_one_line(text), WIDTH, initial_indent="    ", subsequent_indent="    ")


def _status(notice: Notice, item: Item, hostname: str, utf8: bool) -> bytes:
    """RFC 3464 2: a group of fields for the message, one for each recipient; RFC 6533 4 in UTF-8."""
    kind, encoding = ("message/global-delivery-status", "8bit") if utf8 else ("message/delivery-status", "7bit")
    groups = [_message_fields(item, hostname)]
    groups += [_recipient_fields(told, notice, utf8) for told in notice.recipients]
    text = "\r\n\r\n".join("\r\n".join(group) for group in groups)
    return _part(kind, encoding, text.encode("utf-8" if utf8 else "ascii", "replace") + b"\r\n")


def _part(kind: str, encoding: str, content: bytes) -> bytes:
    return f"Content-Type: {kind}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n".encode() + content


def _message_fields(item: Item, hostname: str) -> list[str]:
    envid = [f"Original-Envelope-Id: {_one_line(item.options.envid)}"] if item.options.envid else []
    return [*envid, f"Reporting-MTA: dns; {hostname}", f"Arrival-Date: {_date(item.queued_ms)}"]


def _recipient_fields(told: Told, notice: Notice, utf8: bool) -> list[str]:
    address = told.recipient.address
    kind = "utf-8" if utf8 and not _is_ascii(address) else "rfc822"
    orcpt = told.recipient.options.orcpt
    original = [f"Original-Recipient: {_one_line(orcpt.replace(';', '; ', 1))}"] if orcpt else []
    fields = [
        *original,
        f"Final-Recipient: {kind}; {address}",
        f"Action: {notice.kind}",
        f"Status: {told.status}",
    ]
    if told.host:
        fields.append(f"Remote-MTA: dns; {told.host}")
    if told.is_reply:  # RFC 3464 2.3.6: of the type smtp is what a server said, beginning with its code
        fields.append(f"Diagnostic-Code: smtp; {_one_line(told.text)}")
    elif told.text:
        fields.append(f"Diagnostic-Code: X-mailraft; {_one_line(told.text)}")
    if notice.kind == "delayed":
        fields.append(f"Will-Retry-Until: {_date(notice.until_ms)}")
    return fields


def _returned(notice: Notice, item: Item, original: Original, utf8: bool) -> bytes:
    """The original as it came. RFC 3461 4.3: RET counts for failures; nothing else gives the whole message back, and
    one that required TLS is never given back (RFC 8689 5)."""
    data = original.data
    wanted = notice.kind == "failed" and item.options.ret != "HDRS" and not item.options.require_tls
    if data is not None and wanted and len(data) <= MOST_RETURNED_BYTES:
        content, kinds = original.trace + data, ("message/rfc822", "message/global")
    else:
        content, kinds = _header_of(original.trace + (data or b"")), ("text/rfc822-headers", "message/global-headers")
    return _part(kinds[utf8], "7bit" if content.isascii() else "8bit", content)


def _header_of(message: bytes) -> bytes:
    ends = [at for at in (message.find(b"\r\n\r\n"), message.find(b"\n\n")) if at >= 0]
    return message[: min([*ends, MOST_HEADER_BYTES])] + b"\r\n"


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _is_ascii(*texts: str) -> bool:
    return all(text.isascii() for text in texts)


def _date(at_ms: int) -> str:
    return formatdate(at_ms / 1000).replace("-0000", "+0000")


def _day(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%d %B %Y, %H:%M UTC")
