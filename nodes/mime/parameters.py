"""Content-Type, Content-Disposition and their parameters (RFC 2045 5.1, RFC 2183), read tolerantly.

Accepts what real mail holds: blanks in unquoted values, comments, a quote that is never closed. RFC 2231 pieces
(`name*0*`) are handed out as they stand; joining them is the reader's affair.
"""

import re
from typing import NamedTuple

# Linear on any input: what may repeat after a `;` never holds a `;`, and only the last quote can stay open.
_PARAMETER = re.compile(rb';\s*([^\s=;"()]+)[ \t]*=[ \t]*("(?:[^"\\]|\\.)*"|[^;]*)', re.DOTALL)
_COMMENT = re.compile(rb"\([^()]*\)")
_ESCAPE = re.compile(rb"\\(.)", re.DOTALL)
_MEDIA_TYPE = re.compile(rb"\s*([^\s/;()]+)\s*/\s*([^\s/;()]+)")
_PIECE = re.compile(rb"([^*]+)\*(\d{1,3})(\*?)")
_TOKEN = re.compile(rb"\s*([^\s;()]+)")

PARAMETERS_LIMIT = 200
_LEADING_COMMENTS_LIMIT = 8

Parameters = tuple[tuple[bytes, bytes], ...]


class MediaType(NamedTuple):
    """`type` and `subtype` in lower case; parameter names in lower case, values as they were."""

    type: bytes
    subtype: bytes
    parameters: Parameters


class Disposition(NamedTuple):
    kind: bytes
    parameters: Parameters


def media_type(value: bytes | None) -> MediaType | None:
    """None for a missing or unreadable Content-Type: the caller knows the default (RFC 2045 5.2, RFC 2046 5.1.5)."""
    if value is None:
        return None
    found = _MEDIA_TYPE.match(_without_leading_comments(value))
    if found is None:
        return None
    return MediaType(found[1].lower(), found[2].lower(), parameters(value))


def disposition(value: bytes | None) -> Disposition | None:
    """The disposition in lower case with its parameters; None where there is none."""
    if value is None:
        return None
    found = _TOKEN.match(_without_leading_comments(value))
    return Disposition(found[1].lower(), parameters(value)) if found else None


def parameters(value: bytes) -> Parameters:
    """`; name=value` pairs in order, at most PARAMETERS_LIMIT of them."""
    pairs = []
    for found in _PARAMETER.finditer(value):
        pairs.append((found[1].lower(), _parameter_value(found[2])))
        if len(pairs) >= PARAMETERS_LIMIT:
            break
    return tuple(pairs)


def parameter(pairs: Parameters, name: bytes) -> bytes | None:
    """The first parameter called `name` (lower case); an RFC 2231 value in pieces is put together undecoded."""
    for key, value in pairs:
        if key == name:
            return value
    pieces = sorted(
        (int(key[len(name) + 1 :].rstrip(b"*")), value)
        for key, value in pairs
        if key.startswith(name + b"*") and key[len(name) + 1 :].rstrip(b"*").isdigit() and len(key) < len(name) + 6
    )
    return b"".join(value for _, value in pieces) if pieces else None


def joined(pairs: Parameters) -> Parameters:
    """RFC 2231 3: pieces as one value where the first stood, called `name*` (4.1) where one of them is encoded.

    Pieces of which one is missing stay as they are.
    """
    pieces: dict[bytes, dict[int, tuple[bool, bytes]]] = {}
    for name, value in pairs:
        if found := _PIECE.fullmatch(name):
            pieces.setdefault(found[1], {}).setdefault(int(found[2]), (bool(found[3]), value))
    whole = {name: _whole(name, found) for name, found in pieces.items() if max(found) == len(found) - 1}
    result = [whole.get(piece[1], pair) if (piece := _PIECE.fullmatch(pair[0])) else pair for pair in pairs]
    return tuple(dict.fromkeys(result)) if whole else pairs


def _whole(name: bytes, pieces: dict[int, tuple[bool, bytes]]) -> tuple[bytes, bytes]:
    in_order = [piece for _, piece in sorted(pieces.items())]
    if not any(encoded for encoded, _ in in_order):
        return name, b"".join(value for _, value in in_order)
    return name + b"*", b"".join(value if encoded else value.replace(b"%", b"%25") for encoded, value in in_order)


def _parameter_value(raw: bytes) -> bytes:
    if raw[:1] == b'"':
        inner = raw[1:-1] if len(raw) > 1 and raw[-1:] == b'"' else raw[1:]
        return _ESCAPE.sub(rb"\1", inner)
    if b"(" in raw:
        raw = _COMMENT.sub(b"", raw)
    return raw.strip(b" \t\r\n")


def _without_leading_comments(value: bytes) -> bytes:
    for _ in range(_LEADING_COMMENTS_LIMIT):
        value = value.lstrip()
        if value[:1] != b"(":
            break
        value = _COMMENT.sub(b"", value, count=1)
    return value
