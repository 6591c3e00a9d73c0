"""SCRAM-SHA-256 and SCRAM-SHA-256-PLUS (RFC 5802, RFC 7677), the server's side, without I/O.

The client proves that it knows a password, and learns that the server does; nobody who listens, and nobody who stands
in between with another certificate (-PLUS: RFC 5056), can use what was said. One salt serves all passwords of an
account, so that a proof is tried against each of them. Nothing here tells whether an account exists: for one that does
not, the keeper of the verifiers gives a salt that never changes, and a key that nothing matches.
"""

from __future__ import annotations

import base64
import hmac
import os
import re
from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import NamedTuple

from actors.passwords import ScramKey, ScramKeys
from nodes.logins.sasl import Challenge, Done, Failed, Malformed, Proof, Step, decode_response, text

NONCE_BYTES = 18
MOST_NONCE = 1024  # characters that the client may choose
_HEADER = re.compile(rb"(?P<flag>n|y|p=(?P<type>[A-Za-z0-9.-]+)),(?:a=(?P<acting_as>[^,]+))?,")
_FIRST = re.compile(rb"n=(?P<name>[^,]+),r=(?P<nonce>[\x21-\x2b\x2d-\x7e]+)(?:,[A-Za-z]=[^,\0]+)*")
_FINAL = re.compile(rb"(?P<bare>c=(?P<binding>[^,]+),r=(?P<nonce>[^,]+)(?:,[A-Za-z]=[^,\0]+)*),p=(?P<proof>[^,]+)")

Find = Callable[[str], ScramKeys]


class _Begun(NamedTuple):
    """What the first message of the client and our answer have settled."""

    header: bytes
    binding_type: str
    login: str
    acting_as: str
    nonce: bytes
    keys: ScramKeys
    messages: bytes  # client-first-message-bare "," server-first-message


class Scram:
    """One exchange. `bindings`: what the channel can be bound to, by type; none where -PLUS is not offered."""

    def __init__(
        self, find: Find, bindings: Mapping[str, bytes], *, plus: bool, entropy: Callable[[int], bytes] = os.urandom
    ) -> None:
        self._find = find
        self._bindings = bindings
        self._plus = plus
        self._entropy = entropy
        self._begun: _Begun | None = None

    def step(self, response: bytes | None) -> Step:
        if response is None:
            return Challenge(b"")
        try:
            return self._first(response) if self._begun is None else self._final(self._begun, response)
        except Malformed as error:
            return Failed(str(error))

    def _first(self, message: bytes) -> Challenge:
        """client-first-message (RFC 5802 7). Raises Malformed."""
        header = _HEADER.match(message)
        first = _FIRST.fullmatch(message, header.end()) if header else None
        if header is None or first is None or len(first["nonce"]) > MOST_NONCE:
            raise Malformed("not the first message of SCRAM")
        binding_type = self._binding_type(header)
        login, acting_as = saslname(first["name"]), saslname(header["acting_as"] or b"")
        keys = self._find(login)
        nonce = first["nonce"] + base64.b64encode(self._entropy(NONCE_BYTES))
        answer = b"r=%b,s=%b,i=%d" % (nonce, base64.b64encode(keys.salt), keys.iterations)
        messages = first[0] + b"," + answer
        self._begun = _Begun(header[0], binding_type, login, acting_as, nonce, keys, messages)
        return Challenge(answer)

    def _binding_type(self, header: re.Match[bytes]) -> str:
        """RFC 5802 6: which binding the client uses; refuses to be talked out of it by whoever stands in between."""
        if self._plus != (header["type"] is not None):
            raise Malformed("the channel binding does not fit the mechanism")
        if header["flag"] == b"y" and self._bindings:
            raise Malformed("channel binding was offered, and somebody hid it from the client")
        binding_type = (header["type"] or b"").decode("ascii")
        if self._plus and binding_type not in self._bindings:
            raise Malformed("this channel binding is not supported")
        return binding_type

    def _final(self, begun: _Begun, message: bytes) -> Done:
        """client-final-message (RFC 5802 7). Raises Malformed."""
        final = _FINAL.fullmatch(message)
        if final is None:
            raise Malformed("not the final message of SCRAM")
        bound = begun.header + (self._bindings[begun.binding_type] if self._plus else b"")
        right_nonce = hmac.compare_digest(final["nonce"], begun.nonce)
        if not right_nonce or not hmac.compare_digest(decode_response(final["binding"]), bound):
            raise Malformed("the nonce or the channel binding is another one")
        said = begun.messages + b"," + final["bare"]
        key = verify(begun.keys, said, decode_response(final["proof"]))
        last = b"v=" + base64.b64encode(hmac.digest(key.server_key, said, "sha256")) if key is not None else b""
        return Done(Proof(begun.login, key, begun.acting_as), last)


def verify(keys: ScramKeys, said: bytes, proof: bytes) -> ScramKey | None:
    """The key that the proof fits (RFC 5802 3); looks at every one."""
    found: ScramKey | None = None
    padded = proof[:32].ljust(32, b"\0")
    for key in keys.candidates:
        mask = hmac.digest(key.stored_key, said, "sha256")
        client_key = bytes(one ^ other for one, other in zip(padded, mask))
        if hmac.compare_digest(sha256(client_key).digest(), key.stored_key) and len(proof) == 32:
            found = key
    return found


def saslname(encoded: bytes) -> str:
    """A name in which =2C stands for a comma and =3D for an equals sign (RFC 5802 5.1). Raises Malformed."""
    if re.search(rb"=(?!2C|3D)", encoded):
        raise Malformed("not a SCRAM name")
    return text(encoded.replace(b"=2C", b",").replace(b"=3D", b"="))
