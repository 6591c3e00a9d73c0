"""Authentication-Results (RFC 8601): the field that tells mail readers what was found, written and read.

Reading is for two questions only: what a sealer of an ARC chain says it found, and whether an arriving message claims
to have been judged by us. It takes linear time whatever comes.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from nodes.mime.header import fields, header_end

FIELD = b"authentication-results"
MOST_VALUE = 256
MOST_READ_BYTES = 16 * 1024

_CLAIM = re.compile(rb"^authentication-results[ \t]*:", re.IGNORECASE | re.MULTILINE)
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`{|}~@/-]+")
_STEP = re.compile(rb'\\.|["()]', re.DOTALL)
_BLANKS = re.compile(rb"\s+")
_UNPRINTABLE = re.compile(r"[^\x21-\x7e]")


class Finding(NamedTuple):
    """What one method found: `properties` as ("smtp.mailfrom", "alice@example.test")."""

    method: str
    result: str
    properties: tuple[tuple[str, str], ...] = ()
    comment: str = ""
    reason: str = ""


def write(authserv_id: str, findings: list[Finding]) -> bytes:
    """The field, folded, with its CRLF. Whatever a sender could have chosen is quoted."""
    told = [_finding(one) for one in findings] or ["none"]
    return f"Authentication-Results: {authserv_id};\r\n\t{value_of(told)}\r\n".encode()


def value_of(told: list[str]) -> str:
    """Findings as they follow the authserv-id."""
    return ";\r\n\t".join(told)


def _finding(one: Finding) -> str:
    parts = [f"{one.method}={one.result}"]
    if one.comment:
        parts.append(f"({_comment(one.comment)})")
    if one.reason:
        parts.append(f"reason={_quoted(one.reason)}")
    parts += [f"{name}={_value(value)}" for name, value in one.properties if value]
    return "\r\n\t ".join([" ".join(parts[:2]), *parts[2:]])


def _comment(text: str) -> str:
    return re.sub(r"[^ a-zA-Z0-9.,:=/_-]", "_", text)[:MOST_VALUE]


def _quoted(text: str) -> str:
    printable = re.sub(r"[^\x20-\x7e]", "?", text)[:MOST_VALUE]
    return '"' + printable.replace("\\", "\\\\").replace('"', '\\"') + '"'


@lru_cache(4096)
def _value(text: str) -> str:
    """RFC 8601 2.2: a token, a domain or an address stands bare; what is anything else is quoted."""
    text = _UNPRINTABLE.sub("?", text)[:MOST_VALUE]
    return text if _TOKEN.fullmatch(text) else _quoted(text)


def read(value: bytes) -> tuple[str, list[Finding]]:
    """The authserv-id in lower case, and the findings without comments; what can not be understood is left out."""
    head, *rest = _plain(value[:MOST_READ_BYTES]).split(b";")
    words = head.split()
    authserv_id = words[0].strip(b'"').decode("utf-8", "replace").lower() if words else ""
    return authserv_id, [found for part in rest if (found := _read_finding(part)) is not None]


def _read_finding(part: bytes) -> Finding | None:
    words = _BLANKS.sub(b" ", part).replace(b" =", b"=").replace(b"= ", b"=").decode("utf-8", "replace").split()
    pairs = [(name.lower(), value.strip('"')) for name, equals, value in (w.partition("=") for w in words) if equals]
    if not pairs:
        return None
    (method, result), *properties = pairs
    return Finding(method.partition("/")[0], result.lower(), tuple(properties))


def _plain(value: bytes) -> bytes:
    """Without comments, which may nest; semicolons in quotes no longer separate."""
    kept: list[bytes] = []
    depth, is_quoted, at = 0, False, 0
    for step in _STEP.finditer(value):
        if depth == 0:
            text = value[at : step.start()]
            kept.append(text.replace(b";", b",") if is_quoted else text)
        mark, at = step[0], step.end()
        if mark == b'"' and depth == 0:
            is_quoted = not is_quoted
        elif mark == b"(" and not is_quoted:
            depth += 1
        elif mark == b")" and depth and not is_quoted:
            depth -= 1
    if depth == 0:
        kept.append(value[at:])
    return b" ".join(kept) if kept else b""


def without_claims(data: bytes, authserv_id: str) -> tuple[bytes, list[bytes]]:
    """The message without fields that claim to be ours (RFC 8601 5), and those fields. Mostly there are none."""
    end = header_end(data, 0, len(data))
    if _CLAIM.search(data, 0, end) is None:  # at a third of the cost of taking all fields apart
        return data, []
    found = [one for one in fields(data, 0, end) if one.name == FIELD]
    claims = [one for one in found if read(data[one.value : one.end])[0] == authserv_id.lower()]
    if not claims:
        return data, []
    kept, at = [], 0
    for one in claims:
        kept.append(data[at : one.start])
        at = one.end
    return b"".join([*kept, data[at:]]), [data[one.start : one.end] for one in claims]
