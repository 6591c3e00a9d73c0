"""ARC (RFC 8617): what those through whose hands a message went say that they found, and our own word added to it.

dkimpy knows which chains are legal; which bytes were signed, and whether the signatures hold, is computed as for DKIM.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable
from typing import Any, Literal, NamedTuple

import dkim
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256

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
    parse_key,
    select,
    tags_of,
)

MOST_SETS = 50  # RFC 8617 4.2.1
AAR, AMS, SEAL = b"arc-authentication-results", b"arc-message-signature", b"arc-seal"
_NAMES = (AAR, AMS, SEAL)
_INSTANCE = re.compile(rb"(?:^|[;\s])i[ \t\r\n]{0,9}=[ \t\r\n]{0,9}(\d{1,4})(?![\d])", re.IGNORECASE)
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


def key_names(message: Message) -> list[str]:
    """Where the keys of a chain stand in the DNS; none for a message without one, or with one that is no use."""
    if not is_sealed(message) or _fault(message):
        return []
    names = []
    for one in message.fields:
        if one.name in (AMS, SEAL):
            try:
                names.append(key_name(tags_of(one.value)))
            except Unacceptable:
                return []
    return list(dict.fromkeys(names))


def is_sealed(message: Message) -> bool:
    """Whether there is anything of ARC in it."""
    return any(one.name in _NAMES for one in message.fields)


def judge(message: Message, keys: Keys) -> Chain:
    """Whether the chain of a message holds (RFC 8617 5.2). `keys`: what the DNS says of each of `key_names`."""
    if not is_sealed(message):
        return NO_CHAIN
    fault = _fault(message)
    if fault:
        return Chain("fail", reason=fault)
    try:
        result, sets, reason = _Chain(message, keys).verify(dnsfunc=None)
        seals = tuple(Seal(one["instance"], one["as-domain"].decode(), _results(one["aar-value"])) for one in sets)
    except Exception as error:  # dkimpy on malformed chains
        return Chain("fail", reason=str(error)[:100])
    if result == dkim.CV_Pass:
        return Chain("pass", tuple(sorted(seals)))
    return Chain("fail", reason=str(reason)[:100])


def _fault(message: Message) -> str:
    found = [one for one in message.fields if one.name in _NAMES]
    if len(found) > 3 * MOST_SETS:
        return "more sets than a chain may have"
    if any(len(one.value) > MOST_SIGNATURE_BYTES for one in found):
        return "a field of the chain is too long"
    instances = [_INSTANCE.search(one.value) for one in found]
    if not all(one is not None and 1 <= int(one[1]) <= MOST_SETS for one in instances):
        return "a field of the chain has no instance"
    return ""


def _results(value: bytes) -> bytes:
    """RFC 8617 4.1.1: `i=N;` and then what an Authentication-Results field would say."""
    return value.partition(b";")[2].strip()


class _Chain(dkim.ARC):  # type: ignore[misc]
    """dkimpy's rules for chains over our own signatures; seals are signed in order of instance, wherever they stand."""

    def __init__(self, message: Message, keys: Keys) -> None:
        self._message = message
        self._keys = keys
        self._sets = _sets(message)
        super().__init__(None)
        self.headers = [(one.spelled, one.value) for one in message.fields if one.name in _NAMES]

    def verify_sig(self, sig: Tags, include_headers: list[bytes], sig_header: Any, dnsfunc: Any) -> bool:
        own = Field(sig_header[0].lower().strip(), *sig_header)
        sig[b"c"] = b"relaxed/relaxed"  # RFC 8617 4.1.2
        for name in (b"b", b"bh"):
            sig[name] = re.sub(rb"\s", b"", sig.get(name, b""))
        try:
            if own.name == AMS:
                verify_body(self._message, sig)
                verify_header(self._message, own, sig, include_headers, self._keys)
            else:
                self._verify_seal(own, sig)
        except Unacceptable as fault:
            self.logger.debug(fault.reason)
            return False
        return True

    def _verify_seal(self, own: Field, tags: Tags) -> None:
        records = self._keys[key_name(tags)]
        if isinstance(records, ResolverFailed) or not records:
            raise Unacceptable("fail", "no key")
        digest = header_hash(_sealed(self._sets, int(tags[b"i"])), own, "relaxed")
        check_signature(parse_key(records[0]), tags[b"a"], tags[b"b"], digest)


Sets = dict[int, dict[bytes, Field]]


def _sets(message: Message) -> Sets:
    found: Sets = {}
    for one in message.fields:
        instance = _INSTANCE.search(one.value) if one.name in _NAMES else None
        if instance is not None:
            found.setdefault(int(instance[1]), {})[one.name] = one
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
