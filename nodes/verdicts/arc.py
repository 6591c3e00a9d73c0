"""ARC (RFC 8617): what those through whose hands a message went say that they found, and our own word added to it.

dkimpy says which values tags may have; which bytes were signed, and whether the signatures hold, is computed as for
DKIM.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable
from contextlib import suppress
from typing import Literal, NamedTuple

from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256
from dkim import validate_signature_fields

from nodes.resolver import ResolverFailed
from nodes.verdicts.dkim_signatures import Keys, verify_body, verify_header
from nodes.verdicts.signed import (
    MOST_SIGNATURE_BYTES,
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

MOST_SETS = 50  # RFC 8617 4.2.1
AAR, AMS, SEAL = b"arc-authentication-results", b"arc-message-signature", b"arc-seal"
_NAMES = (AAR, AMS, SEAL)
_OF_RESULTS = re.compile(rb"[ \t\r\n]{0,9}i[ \t\r\n]{0,9}=[ \t\r\n]{0,9}([0-9]{1,2})[ \t\r\n]{0,9};")  # RFC 8617 4.2.1
_NEEDED = {AMS: [b"i", b"a", b"b", b"bh", b"d", b"h", b"s"], SEAL: [b"i", b"a", b"b", b"cv", b"d", b"s"]}
_SIGNED = (
    b"from", b"reply-to", b"subject", b"date", b"message-id", b"to", b"cc", b"mime-version", b"content-type",
    b"content-transfer-encoding", b"in-reply-to", b"references", b"list-id", b"dkim-signature",
)  # fmt: skip


class Seal(NamedTuple):
    """What one of the sealers says: its instance, its domain, its Authentication-Results without `i=`."""

    instance: int
    domain: str
    results: bytes


class Chain(NamedTuple):
    """`result` as RFC 8617 4.4 has it for cv=; `seals` oldest first, of a chain that holds."""

    result: Literal["none", "pass", "fail"]
    seals: tuple[Seal, ...] = ()
    reason: str = ""


NO_CHAIN = Chain("none")


class _Set(NamedTuple):
    """What one sealer added, its tags read."""

    fields: dict[bytes, Field]
    message: Tags
    seal: Tags


def key_names(message: Message) -> list[str]:
    """Where the keys of a chain stand in the DNS; none for a message without one, or with one that is no use."""
    try:
        sets = _chain(message)
        names = [key_name(sets[-1].message)] if sets else []
        return list(dict.fromkeys([*names, *(key_name(one.seal) for one in sets)]))
    except Unacceptable:
        return []


def judge(message: Message, keys: Keys) -> Chain:
    """Whether the chain of a message holds (RFC 8617 5.2). `keys`: what the DNS says of each of `key_names`."""
    try:
        sets = _chain(message)
        if not sets:
            return NO_CHAIN
        _verify_message(message, sets[-1], keys)
        for instance in range(len(sets), 0, -1):
            _verify_seal([one.fields for one in sets[:instance]], sets[instance - 1].seal, keys)
    except Unacceptable as fault:
        return Chain("fail", reason=fault.reason)
    return Chain("pass", tuple(_told(instance, one) for instance, one in enumerate(sets, 1)))


def _told(instance: int, one: _Set) -> Seal:
    """RFC 8617 4.1.1: `i=N;` and then what an Authentication-Results field would say."""
    results = one.fields[AAR].value.partition(b";")[2].strip()
    return Seal(instance, one.seal[b"d"].decode("ascii"), results)


def _chain(message: Message) -> list[_Set]:
    """The sets, oldest first, if they are what a chain may be (RFC 8617 5.2, 1 to 3). Raises Unacceptable."""
    fields = [one for one in message.fields if one.name in _NAMES]
    if len(fields) > 3 * MOST_SETS:
        raise Unacceptable("fail", "more sets than a chain may have")
    found: Sets = {}
    for one in fields:
        if found.setdefault(_instance(one), {}).setdefault(one.name, one) is not one:
            raise Unacceptable("fail", "a field of the chain is there twice")
    if list(range(1, len(found) + 1)) != sorted(found) or any(len(one) < len(_NAMES) for one in found.values()):
        raise Unacceptable("fail", "the chain has a gap")
    return [_set(instance, found[instance]) for instance in sorted(found)]


def _set(instance: int, fields: dict[bytes, Field]) -> _Set:
    """Raises Unacceptable."""
    message, seal = (_tags(fields[name]) for name in (AMS, SEAL))
    if b"from" not in names_of(message) or SEAL in names_of(message):  # RFC 6376 5.4, RFC 8617 4.1.2
        raise Unacceptable("fail", "From is not signed, or a seal is")
    if b"h" in seal:  # RFC 8617 4.1.3
        raise Unacceptable("fail", "a seal has h=")
    if seal[b"cv"] != (b"none" if instance == 1 else b"pass"):
        raise Unacceptable("fail", "the chain has been said to be broken")
    return _Set(fields, message, seal)


def _instance(field: Field) -> int:
    """Raises Unacceptable."""
    if len(field.value) > MOST_SIGNATURE_BYTES:
        raise Unacceptable("fail", "a field of the chain is too long")
    if field.name == AAR:
        found = _OF_RESULTS.match(field.value)
        digits = found[1] if found else b""
    else:
        digits = tags_of(field.value).get(b"i", b"")
    if re.fullmatch(rb"[0-9]{1,2}", digits) is None or not 1 <= int(digits) <= MOST_SETS:
        raise Unacceptable("fail", "a field of the chain has no instance")
    return int(digits)


def _tags(field: Field) -> Tags:
    """Raises Unacceptable."""
    tags = tags_of(field.value)
    validated(validate_signature_fields, tags, _NEEDED[field.name], True)
    key_name(tags)
    return tags


def _verify_message(message: Message, last: _Set, keys: Keys) -> None:
    """RFC 8617 5.2, 4: those of earlier sealers need not hold. Raises Unacceptable."""
    verify_body(message, last.message, accept_length=False)  # what stands behind l= is nobody's word
    tags = {name: value for name, value in last.message.items() if name != b"i"}  # which is no identity here
    verify_header(message, last.fields[AMS], tags, names_of(tags), keys)


def _verify_seal(sets: list[dict[bytes, Field]], tags: Tags, keys: Keys) -> None:
    """Raises Unacceptable where the last of the sets is not sealed over all of them."""
    records = keys[key_name(tags)]
    if isinstance(records, ResolverFailed) or not records:
        raise Unacceptable("fail", "no key")
    digest = header_hash(_sealed(dict(enumerate(sets, 1)), len(sets)), sets[-1][SEAL], "relaxed")
    check_signature(parse_key(records[0]), tags[b"a"], tags[b"b"], digest)


Sets = dict[int, dict[bytes, Field]]


def _sets(message: Message) -> Sets:
    """Whatever can be told to be of a set."""
    found: Sets = {}
    for one in message.fields:
        if one.name in _NAMES:
            with suppress(Unacceptable):
                found.setdefault(_instance(one), {})[one.name] = one
    return found


def _sealed(sets: Sets, instance: int) -> Iterable[Field]:
    """What the seal of an instance covers (RFC 8617 5.1.1)."""
    for one in range(1, instance + 1):
        for name in _NAMES if one < instance else (AAR, AMS):
            if name not in sets.get(one, {}):
                raise Unacceptable("fail", "the chain has a gap")
            yield sets[one][name]


class SealingKey(NamedTuple):
    """RSA, as RFC 8617 4.1.2 knows nothing else."""

    domain: str
    selector: str
    private: RSAPrivateKey


def seal(data: bytes, chain: Chain, results: bytes, key: SealingKey, at_s: int) -> list[bytes]:
    """The set of three lines that goes on top of a forwarded message, newest first (RFC 8617 5.1).

    results: what our Authentication-Results field says of it, from the authserv-id on. `chain`: as it was judged on
    arrival. Nothing for a chain that ended in a failure or is full: it can not be added to.
    """
    message = Message(data)
    sets = _sets(message)
    instance = max(sets, default=0) + 1
    if instance > MOST_SETS or (chain.result == "fail" and _says_failed(sets, instance - 1)):
        return []
    own = sets.setdefault(instance, {})
    own[AAR] = _field("ARC-Authentication-Results", f"i={instance}; ".encode() + results)
    own[AMS] = _signed_message(message, instance, key, at_s)
    tags = f"i={instance}; cv={chain.result}; a=rsa-sha256; {_whose(key, at_s)}; b="
    unsigned = _field("ARC-Seal", tags.encode())
    # RFC 8617 5.1.2: where the chain has failed, its last seal covers its own set alone
    covered = [own[AAR], own[AMS]] if chain.result == "fail" else list(_sealed(sets, instance))
    own[SEAL] = _field("ARC-Seal", tags.encode() + _sign(header_hash(covered, unsigned, "relaxed"), key))
    return [one.spelled + b":" + one.value for one in (own[SEAL], own[AMS], own[AAR])]


def _says_failed(sets: Sets, instance: int) -> bool:
    last = sets.get(instance, {}).get(SEAL)
    return last is not None and re.search(rb"[;\s]cv\s{0,9}=\s{0,9}fail", last.value, re.IGNORECASE) is not None


def _signed_message(message: Message, instance: int, key: SealingKey, at_s: int) -> Field:
    counted = [one.name for one in message.fields if one.name in _SIGNED]
    names = [*counted, b"from"]  # once more than there are: none may be added
    digest, _ = message.body_hash("relaxed")
    tags = (
        f"i={instance}; a=rsa-sha256; c=relaxed/relaxed; {_whose(key, at_s)};\r\n\th=".encode()
        + b":\r\n\t".join(names)
        + b";\r\n\tbh="
        + base64.b64encode(digest)
        + b"; b="
    )
    unsigned = _field("ARC-Message-Signature", tags)
    signature = _sign(header_hash(select(message, names), unsigned, "relaxed"), key)
    return _field("ARC-Message-Signature", tags + signature)


def _whose(key: SealingKey, at_s: int) -> str:
    return f"d={key.domain}; s={key.selector}; t={at_s}"


def _field(name: str, value: bytes) -> Field:
    return Field(name.lower().encode(), name.encode(), b" " + value + b"\r\n")


def _sign(digest: bytes, key: SealingKey) -> bytes:
    encoded = base64.b64encode(key.private.sign(digest, padding.PKCS1v15(), Prehashed(SHA256())))
    return b"".join(b"\r\n\t" + encoded[at : at + 72] for at in range(0, len(encoded), 72))
