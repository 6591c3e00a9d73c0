"""What redaction means to the actors: which fields of which events can be redacted, and what is put in their place.

A field that can be redacted decides nothing in `evolve`: whatever stands in it, the same rows come and go, and guards
hold alike. So a refold of the rewritten log differs from the first fold only in what those rows say, until the fact
that came with the redaction writes each of them again, in the same words both times.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from hashlib import sha256
from typing import Any

from actors.kind import Fact
from eventlog.custody import Fields
from eventlog.record import STREAM_ID_BYTES, digest_of

# Frozen: its digest stands in tables, and a message that shows it is known by that. A new text is one more digest.
PLACEHOLDER = (
    b"From: mailraft <redacted@redacted.invalid>\r\n"
    b"Subject: [redacted]\r\n"
    b"MIME-Version: 1.0\r\n"
    b"Content-Type: text/plain; charset=us-ascii\r\n"
    b"\r\n"
    b"This message was redacted by an administrator. Its content has been erased.\r\n"
)
PLACEHOLDER_DIGEST = digest_of(PLACEHOLDER)

_BLANKS: tuple[tuple[type, Any], ...] = ((str, ""), (bytes, b""), (list, ()), (tuple, ()))


def is_redacted(digest: bytes) -> bool:
    """Whether a message with this body is one whose content was redacted."""
    return digest == PLACEHOLDER_DIGEST


def redacted_id(message_id: bytes) -> bytes:
    """The id of what is left of a message: another one, because a client must not take it for what it has kept."""
    return sha256(b"redacted" + message_id).digest()[:STREAM_ID_BYTES]


def places(fact: Fact, values: Mapping[str, Any]) -> Fields:
    """Fields of a fact by their place in its data, with the values that they get."""
    names = [field.name for field in fields(fact)]  # type: ignore[arg-type]
    return tuple((names.index(name), value) for name, value in values.items())


def blank(fact: Fact) -> Fields:
    """The fact's redactable fields, each to be replaced by the empty value of its type.

    Those that are empty are left out: an event of an earlier version does not have those that its type grew since.
    """
    values = {name: getattr(fact, name) for name in type(fact).REDACTABLE}
    return places(fact, {name: _blank(value) for name, value in values.items() if value != _blank(value)})


def _blank(value: Any) -> Any:
    return next((empty for type_, empty in _BLANKS if isinstance(value, type_)), None)
