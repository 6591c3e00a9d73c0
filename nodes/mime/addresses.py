"""Address lists (RFC 5322 3.4 with its obsolete forms), read tolerantly and in linear time.

What real mail gets wrong still gives something to show: missing brackets, stray commas, unquoted dots and 8-bit names
are kept as they are. Nothing is decoded (encoded words stay) and nothing raises.
"""

import re
from typing import NamedTuple

_QUOTED = rb'(?P<quoted>"(?:[^"\\]|\\.)*")|'
_OTHERS = (
    rb"(?P<space>\s+)|(?P<literal>\[[^\[\]]*\])|(?P<special>[<>,;:@])"
    rb'|(?P<word>[^\s"(),:;<>@\[\]\\]+)|(?P<open>\()|(?P<other>.)'
)
_TOKEN = re.compile(_QUOTED + _OTHERS, re.DOTALL)
_TOKEN_WITHOUT_QUOTES = re.compile(_OTHERS, re.DOTALL)
_COMMENT_STEP = re.compile(rb"[()]|\\.", re.DOTALL)
_ESCAPE = re.compile(rb"\\(.)", re.DOTALL)


class Address(NamedTuple):
    """RFC 3501 7.4.2: an address, or a group's begin (`mailbox` is its name, `host` None) or end (both None)."""

    name: bytes | None
    route: bytes | None
    mailbox: bytes | None
    host: bytes | None


class _Token(NamedTuple):
    kind: str  # "word", "quoted", "literal", "special", "comment", "space"
    text: bytes


# One address as nearly all are written: nothing to unescape, one blank between words, no comment, no route. No group is
# repeated possessively: Python 3.11.0 to 3.11.4 keep what the try that failed has read (gh-106052).
_WORD = rb"""[^\s"(),:;<>@\[\]\\]++"""
_PLAIN = re.compile(
    rb"""[ \t]*+(?:(?:"([^"\\\s]++(?: [^"\\\s]++)*)"|(W(?: W)*))? ?<(W)@(W)>|(W)@(W))[ \t]*+(?:,|\Z)""".replace(
        b"W", _WORD
    )
)


def addresses(value: bytes) -> list[Address]:
    """The addresses of a field's value, in order, group begins and ends among them."""
    found: list[Address] = []
    at = 0
    while at < len(value):
        plain = _PLAIN.match(value, at)
        if plain is None:
            return _addresses(value)
        quoted, words, mailbox, host, bare, bare_host = plain.groups()
        found.append(Address(quoted or words, None, mailbox or bare, host or bare_host))
        at = plain.end()
    return found


def _addresses(value: bytes) -> list[Address]:
    """Whatever it looks like."""
    found: list[Address] = []
    tokens: list[_Token] = []
    in_group = in_angle = False
    for token in _tokens(value):
        mark = token.text if token.kind == "special" else b""
        if mark == b"<":
            in_angle = True
        elif mark == b">":
            in_angle = False
        if in_angle or mark not in (b",", b";", b":"):
            tokens.append(token)
            continue
        if mark == b":" and not in_group:
            in_group = True
            found.append(Address(None, None, _phrase(tokens) or b"", None))
        else:
            found.extend(_one(tokens))
            if mark == b";" and in_group:
                in_group = False
                found.append(Address(None, None, None, None))
        tokens = []
    found.extend(_one(tokens))
    if in_group:
        found.append(Address(None, None, None, None))
    return found


def _tokens(value: bytes) -> list[_Token]:
    tokens: list[_Token] = []
    at = 0
    token = _TOKEN
    while at < len(value):
        found = token.match(value, at)
        assert found is not None  # the last alternative takes any byte
        kind = found.lastgroup or "other"
        at = found.end()
        if kind == "open":
            end = _comment_end(value, at)
            tokens.append(_Token("comment", _ESCAPE.sub(rb"\1", value[at : end - 1]).strip()))
            at = end
        elif kind == "quoted":
            tokens.append(_Token("quoted", _ESCAPE.sub(rb"\1", found[0][1:-1])))
        elif kind == "other":
            if found[0] == b'"':
                token = _TOKEN_WITHOUT_QUOTES  # this quote is never closed: do not look for its end again
            tokens.append(_Token("word", found[0]))
        else:
            tokens.append(_Token(kind, found[0]))
    return tokens


def _comment_end(value: bytes, at: int) -> int:
    depth = 1
    for step in _COMMENT_STEP.finditer(value, at):
        if step[0] == b"(":
            depth += 1
        elif step[0] == b")":
            depth -= 1
            if depth == 0:
                return step.end()
    return len(value) + 1


def _phrase(tokens: list[_Token]) -> bytes | None:
    """The words with single blanks between them."""
    words = [b" " if t.kind == "space" else t.text for t in tokens if t.kind != "comment"]
    text = b"".join(words).strip()
    return re.sub(rb" {2,}", b" ", text) or None


def _one(tokens: list[_Token]) -> list[Address]:
    opened = next((i for i, t in enumerate(tokens) if t == ("special", b"<")), None)
    if opened is not None:
        inner = tokens[opened + 1 :]
        closed = next((i for i, t in enumerate(inner) if t == ("special", b">")), len(inner))
        route, mailbox, host = _specification(inner[:closed])
        name = _phrase(tokens[:opened]) or _comment(tokens)
    else:
        route, mailbox, host = _specification(tokens)
        name = _comment(tokens)
    if mailbox is None and host is None:
        return []
    return [Address(name, route, mailbox or b"", host or b"")]


def _comment(tokens: list[_Token]) -> bytes | None:
    return next((t.text for t in tokens if t.kind == "comment" and t.text), None)


def _specification(tokens: list[_Token]) -> tuple[bytes | None, bytes | None, bytes | None]:
    """(route, mailbox, host) of an addr-spec, with an obsolete source route in front of it perhaps."""
    parts = [t for t in tokens if t.kind not in ("space", "comment")]
    route = None
    if parts and parts[0] == ("special", b"@"):
        colon = next((i for i, t in enumerate(parts) if t == ("special", b":")), None)
        if colon is not None:
            route = b"".join(t.text for t in parts[:colon])
            parts = parts[colon + 1 :]
    if not parts:
        return route, None, None
    last_at = max((i for i, t in enumerate(parts) if t == ("special", b"@")), default=None)
    if last_at is None:
        blanks_kept = [t for t in tokens if t.kind != "comment" and t != ("special", b"<")]
        return route, _phrase(blanks_kept), None
    mailbox = b"".join(t.text for t in parts[:last_at])
    return route, mailbox, b"".join(t.text for t in parts[last_at + 1 :])
