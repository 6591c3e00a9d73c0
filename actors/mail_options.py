"""What a sender may ask for with MAIL and RCPT, as it stands in events: parameters of ESMTP extensions, checked before.

Plain tuples of MessagePack values; fields are only ever added at the end, with defaults.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

BodyType = Literal["7BIT", "8BITMIME", "BINARYMIME"]


class MailOptions(NamedTuple):
    """Of a message. Times are milliseconds since 1970; 0 stands for "not asked for"."""

    body: BodyType = "7BIT"  # RFC 6152, RFC 3030
    utf8: bool = False  # RFC 6531
    require_tls: bool = False  # RFC 8689
    ret: Literal["", "FULL", "HDRS"] = ""  # RFC 3461 4.3
    envid: str = ""  # RFC 3461 4.4, decoded from xtext
    priority: int = 0  # RFC 6710: -9 to 9
    hold_until_ms: int = 0  # RFC 4865
    deliver_by_ms: int = 0  # RFC 2852
    by_mode: Literal["", "R", "N"] = ""  # RFC 2852: return it, or notify
    by_trace: bool = False  # RFC 2852: tell of each relay
    verp: bool = False  # an envelope sender for each recipient, so that what comes back says for whom it was


class RecipientOptions(NamedTuple):
    """Of one recipient."""

    notify: tuple[str, ...] = ()  # RFC 3461 4.1: NEVER alone, or any of SUCCESS, FAILURE, DELAY; () if not said
    orcpt: str = ""  # RFC 3461 4.2: type;address, decoded from xtext


NO_OPTIONS = MailOptions()
NO_RECIPIENT_OPTIONS = RecipientOptions()
