"""ENVELOPE, BODY and BODYSTRUCTURE (RFC 3501 7.4.2) of a parsed message, rendered.

Values go out as they stand in the message, unfolded and with RFC 2231's pieces joined, but not decoded; 8-bit text
becomes a literal, as the grammar asks.
"""

from collections.abc import Sequence

from nodes.imap.render import nstring, string
from nodes.mime import header
from nodes.mime.addresses import Address, addresses
from nodes.mime.header import Field
from nodes.mime.parameters import Disposition, MediaType, Parameters, disposition, joined
from nodes.mime.structure import Part

_NIL = b"NIL"
Firsts = dict[bytes, Field]

# Of all the messages inside a message together. What it says becomes twelve times as much, and a second's work.
ADDRESS_FIELDS_BYTES = 1024 * 1024
_ADDRESS_FIELDS = (b"from", b"sender", b"reply-to", b"to", b"cc", b"bcc")


class _Budget:
    """How much of the address fields may still be taken apart for this message."""

    def __init__(self) -> None:
        self.left = ADDRESS_FIELDS_BYTES


def envelope(data: bytes, part: Part) -> bytes:
    """The ENVELOPE of a message; sender and reply-to stand in for themselves with from (7.4.2)."""
    return _envelope(data, part, _Budget())


def _envelope(data: bytes, part: Part, budget: _Budget) -> bytes:
    firsts = _firsts(part)
    lists = {name: _addresses(data, part, name, budget) if name in firsts else _NIL for name in _ADDRESS_FIELDS}
    for name in (b"sender", b"reply-to"):
        if lists[name] == _NIL:
            lists[name] = lists[b"from"]
    pieces = [
        _value(data, firsts, b"date"),
        _value(data, firsts, b"subject"),
        *(lists[name] for name in _ADDRESS_FIELDS),
        _value(data, firsts, b"in-reply-to"),
        _value(data, firsts, b"message-id"),
    ]
    return b"(" + b" ".join(pieces) + b")"


def _firsts(part: Part) -> Firsts:
    """The first field of each name."""
    return {field.name: field for field in reversed(part.fields)}


def _raw(data: bytes, firsts: Firsts, name: bytes) -> bytes | None:
    field = firsts.get(name)
    return None if field is None else header.value_of(data, field)


def _value(data: bytes, firsts: Firsts, name: bytes) -> bytes:
    return nstring(_raw(data, firsts, name))


def _addresses(data: bytes, part: Part, name: bytes, budget: _Budget) -> bytes:
    """Fields beyond the budget are left out whole."""
    found: list[Address] = []
    for field in part.fields:
        if field.name == name:
            value = header.value_of(data, field)
            budget.left -= len(value)
            if budget.left >= 0:
                found.extend(addresses(value))
    if not found:
        return _NIL
    return b"(" + b"".join(b"(" + b" ".join(map(nstring, address)) + b")" for address in found) + b")"


def body_structure(data: bytes, part: Part, extended: bool) -> bytes:
    """BODYSTRUCTURE, or with `extended` false BODY, which has no extension data."""
    return _body_structure(data, part, extended, _Budget())


def _body_structure(data: bytes, part: Part, extended: bool, budget: _Budget) -> bytes:
    firsts = _firsts(part)
    if part.is_multipart:
        children = b"".join(_body_structure(data, child, extended, budget) for child in part.children)
        tail = b" " + string(part.media.subtype)
        if extended:
            tail += b" " + _parameters(part.media.parameters) + _extension(data, firsts)
        return b"(" + children + tail + b")"
    pieces = [string(part.media.type), string(part.media.subtype), *_fields(data, part, firsts)]
    lines = b"%d" % data.count(b"\n", part.body, part.end)
    if part.message is not None:
        inner = part.message
        pieces += [_envelope(data, inner, budget), _body_structure(data, inner, extended, budget), lines]
    elif part.media.type == b"text":
        pieces.append(lines)
    tail = b" " + _value(data, firsts, b"content-md5") + _extension(data, firsts) if extended else b""
    return b"(" + b" ".join(pieces) + tail + b")"


def _fields(data: bytes, part: Part, firsts: Firsts) -> Sequence[bytes]:
    """body-fields"""
    return (
        _parameters(_with_charset(part.media)),
        _value(data, firsts, b"content-id"),
        _value(data, firsts, b"content-description"),
        string(_raw(data, firsts, b"content-transfer-encoding") or b"7bit"),
        b"%d" % (part.end - part.body),
    )


def _with_charset(media: MediaType) -> Parameters:
    """RFC 2046 4.1.2: text that names no charset is in us-ascii; some clients show none without being told."""
    if media.type != b"text" or any(name.partition(b"*")[0] == b"charset" for name, _ in media.parameters):
        return media.parameters
    return (*media.parameters, (b"charset", b"us-ascii"))


def _parameters(pairs: Parameters) -> bytes:
    if not pairs:
        return _NIL
    return b"(" + b" ".join(string(name) + b" " + string(value) for name, value in joined(pairs)) + b")"


def _extension(data: bytes, firsts: Firsts) -> bytes:
    """body-fld-dsp, body-fld-lang and body-fld-loc, each with the blank in front of it."""
    found = disposition(_raw(data, firsts, b"content-disposition"))
    language = _language(_raw(data, firsts, b"content-language"))
    return b" " + b" ".join((_disposition(found), language, _value(data, firsts, b"content-location")))


def _disposition(found: Disposition | None) -> bytes:
    if found is None:
        return _NIL
    return b"(" + string(found.kind) + b" " + _parameters(found.parameters) + b")"


def _language(value: bytes | None) -> bytes:
    tags = [tag.strip() for tag in (value or b"").split(b",") if tag.strip()]
    if not tags:
        return _NIL
    if len(tags) == 1:
        return string(tags[0])
    return b"(" + b" ".join(map(string, tags)) + b")"
