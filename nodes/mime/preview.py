"""The first words of a message, for a list of messages (RFC 8970 3): decoded, without markup, on one line.

Made of the first part that is shown as text, plain before HTML in one alternative because senders write it first. Lossy
by design and bounded: little of a part is looked at, however large it is.
"""

import html
import re

from nodes.mime import header
from nodes.mime.parameters import disposition, parameter
from nodes.mime.structure import Part
from nodes.mime.text import decode_charset, leaf_parts, transfer_decoded

PREVIEW_CHARACTERS = 200  # RFC 8970 3.1 recommends it, and allows 256
LOOKED_AT_BYTES = 48 * 1024

_HIDDEN = re.compile(r"<!--.*?(?:-->|\Z)|<(style|script|head|title)\b.*?(?:</\1\s*>|\Z)", re.I | re.S)
_TAG = re.compile(r"<[^<>]*>?")
_QUOTED = re.compile(r"^>.*$", re.M)
_BLANK = re.compile(r"[\s\x00-\x1f\x7f\u200b-\u200f\ufeff\u034f\u00ad]+")


def preview(data: bytes, root: Part) -> str:
    """At most PREVIEW_CHARACTERS; empty where the message has no text."""
    for part in leaf_parts(root):
        if part.media.type == b"text" and not _is_attached(data, part):
            text = _text(data, part)
            if text:
                return text
    return ""


def _is_attached(data: bytes, part: Part) -> bool:
    found = disposition(header.first(data, part.fields, b"content-disposition"))
    return found is not None and found.kind == b"attachment"


def _text(data: bytes, part: Part) -> str:
    raw = data[part.body : min(part.end, part.body + LOOKED_AT_BYTES)]
    encoding = header.first(data, part.fields, b"content-transfer-encoding")
    text = decode_charset(transfer_decoded(raw, encoding), parameter(part.media.parameters, b"charset"))
    if part.media.subtype == b"html":
        text = html.unescape(_TAG.sub(" ", _HIDDEN.sub(" ", text)))
    else:
        text = _QUOTED.sub("", text)
    return _BLANK.sub(" ", text).strip()[:PREVIEW_CHARACTERS].rstrip()
