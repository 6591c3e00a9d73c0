"""DKIM (RFC 6376, RFC 8301, RFC 8463): which domains have signed a message, and whether their signatures hold."""

from __future__ import annotations

import base64
from typing import Literal, NamedTuple

from dkim import validate_signature_fields

from nodes.resolver import ResolverFailed
from nodes.verdicts.signed import (
    Canonical,
    Field,
    Message,
    Tags,
    Unacceptable,
    check_signature,
    header_hash,
    key_name,
    names_of,
    parse_key,
    select,
    tags_of,
    validated,
)

Result = Literal["pass", "fail", "policy", "neutral", "temperror", "permerror"]  # RFC 8601 2.7.1, none left out
Keys = dict[str, list[bytes] | ResolverFailed]  # what the DNS said, by key_name
ALGORITHMS = (b"rsa-sha256", b"ed25519-sha256")  # RFC 8301 3.1: not rsa-sha1
MOST_LENGTH = 10**12

_CANONICAL: dict[bytes, Canonical] = {b"simple": "simple", b"relaxed": "relaxed"}


class Signature(NamedTuple):
    """The judgement of one signature; `beginning` is of its b=, which tells signatures apart (RFC 6008)."""

    result: Result
    domain: str = ""
    selector: str = ""
    algorithm: str = ""
    identity: str = ""
    beginning: str = ""
    reason: str = ""
    is_testing: bool = False


class Candidate(NamedTuple):
    """A signature field, and its tags or why they are no use."""

    field: Field
    tags: Tags | None
    fault: Unacceptable | None


def candidates(message: Message, most: int) -> list[Candidate]:
    """The signatures to judge: the topmost `most`, as whoever signed last stands first."""
    return [_candidate(one) for one in message.named(b"dkim-signature")[:most]]


def _candidate(field: Field) -> Candidate:
    try:
        tags = tags_of(field.value)
        validated(validate_signature_fields, tags)
        key_name(tags)
    except Unacceptable as fault:
        return Candidate(field, None, fault)
    return Candidate(field, tags, None)


def judge(message: Message, candidate: Candidate, keys: Keys, *, accept_length: bool) -> Signature:
    """Whether the signature holds. With `accept_length` false, one that leaves out a part of the body is "policy"."""
    tags = candidate.tags
    if tags is None:
        assert candidate.fault is not None
        return Signature(candidate.fault.result, reason=candidate.fault.reason)
    found = Signature(
        "pass",
        _text(tags, b"d").lower(),
        _text(tags, b"s"),
        _text(tags, b"a"),
        _text(tags, b"i"),
        _text(tags, b"b")[:8],
    )
    try:
        return found._replace(is_testing=_verify(message, candidate.field, tags, keys, accept_length))
    except Unacceptable as fault:
        return found._replace(result=fault.result, reason=fault.reason)


def _verify(message: Message, field: Field, tags: Tags, keys: Keys, accept_length: bool) -> bool:
    """Whether the key is one that is only being tried (t=y). Raises Unacceptable."""
    if b"from" not in names_of(tags):
        raise Unacceptable("permerror", "From is not signed")
    if tags[b"a"] not in ALGORITHMS:
        raise Unacceptable("policy", f"{_text(tags, b'a')} is not accepted")
    verify_body(message, tags, accept_length)
    return verify_header(message, field, tags, names_of(tags), keys)


def verify_body(message: Message, tags: Tags, accept_length: bool = True) -> None:
    """Raises Unacceptable where the body is not the one that was signed (RFC 6376 6.1.3)."""
    _, canonical = canonical_forms(tags)
    length = int(tags[b"l"]) if tags.get(b"l", b"").isdigit() else None
    if length is not None and length > MOST_LENGTH:
        raise Unacceptable("permerror", "l= is beyond any message")
    digest, size = message.body_hash(canonical, length)
    if length is not None and length > size:
        raise Unacceptable("permerror", "l= is more than the body has")
    if base64.b64encode(digest) != tags[b"bh"]:
        raise Unacceptable("fail", "the body was changed")
    if length is not None and length < size and not accept_length:
        raise Unacceptable("policy", "a part of the body is not signed")


def verify_header(message: Message, field: Field, tags: Tags, names: list[bytes], keys: Keys) -> bool:
    """Whether the key is one that is only being tried. Raises Unacceptable where the signature does not hold."""
    records = keys[key_name(tags)]
    if isinstance(records, ResolverFailed):
        raise Unacceptable("temperror", "no answer about the key")
    if not records:
        raise Unacceptable("permerror", "there is no key")
    key = parse_key(records[0])
    if key.is_strict and b"i" in tags and tags[b"i"].rpartition(b"@")[2].lower() != tags[b"d"].lower():
        raise Unacceptable("permerror", "i= is of a subdomain, which the key does not allow")
    if b"from" in names:
        names = [*names, b"from"]  # RFC 6376 8.15: one that was added would be shown instead
    canonical, _ = canonical_forms(tags)
    check_signature(key, tags[b"a"], tags[b"b"], header_hash(select(message, names), field, canonical))
    return key.is_testing


def canonical_forms(tags: Tags) -> tuple[Canonical, Canonical]:
    """Of header and body. Raises Unacceptable."""
    header, _, body = tags.get(b"c", b"simple").partition(b"/")
    try:
        return _CANONICAL[header], _CANONICAL[body or b"simple"]
    except KeyError:
        raise Unacceptable("permerror", "c= is unknown") from None


def _text(tags: Tags, name: bytes) -> str:
    return tags.get(name, b"").decode("utf-8", "replace")
