"""Passwords: argon2id hashes and SCRAM-SHA-256 verifiers, made and checked away from the event loop.

What is stored can check a password and serve SCRAM (RFC 5802, RFC 7677) but not give the password back. Hashing takes
tens of milliseconds and 19 MiB, so a Pykka threading actor does it, one at a time: that bounds the memory, and the
event loop goes on. A password never leaves this process and is never logged.
"""

from __future__ import annotations

import asyncio
import hmac
import os
import stringprep
import unicodedata
from hashlib import pbkdf2_hmac, sha256
from typing import Any, NamedTuple

import msgpack
import pykka
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from actors.errors import NotAllowed
from actors.loop_actor import ThreadSafeFuture
from actors.turns import Overloaded, Turns

ARGON2_TIME_COST = 2
ARGON2_MEMORY_KIB = 19_456
ARGON2_LANES = 1
SCRAM_ITERATIONS = 10_000  # RFC 7677 4 asks for at least 4096
SCRAM_SALT_BYTES = 16
MAX_PASSWORD_BYTES = 1024

_FORMAT = 1
_hasher = PasswordHasher(ARGON2_TIME_COST, ARGON2_MEMORY_KIB, ARGON2_LANES)
_PROHIBITED = (
    stringprep.in_table_c12,
    stringprep.in_table_c21_c22,
    stringprep.in_table_c3,
    stringprep.in_table_c4,
    stringprep.in_table_c5,
    stringprep.in_table_c6,
    stringprep.in_table_c7,
    stringprep.in_table_c8,
    stringprep.in_table_c9,
)


__all__ = ["Overloaded"]


class ScramVerifier(NamedTuple):
    """RFC 5802 3: enough to check a client's proof, not enough to make one."""

    salt: bytes
    iterations: int
    stored_key: bytes
    server_key: bytes


class ScramKey(NamedTuple):
    """One password's keys; `credential` is what its keeper knows it by."""

    credential: bytes
    stored_key: bytes
    server_key: bytes


class ScramKeys(NamedTuple):
    """What a proof for one account is checked against: its passwords share a salt, so that the client need not know
    beforehand which of them it has."""

    salt: bytes
    iterations: int
    candidates: tuple[ScramKey, ...]


class Verifiers(NamedTuple):
    argon2id: str
    scram: ScramVerifier


def prepare(password: str) -> str:
    """SASLprep (RFC 4013) as for a query. Raises NotAllowed for what it prohibits, the empty and the over-long."""
    mapped = "".join(
        " " if stringprep.in_table_c12(one) else one for one in password if not stringprep.in_table_b1(one)
    )
    prepared = unicodedata.normalize("NFKC", mapped)
    if not prepared or len(prepared.encode("utf-8", "replace")) > MAX_PASSWORD_BYTES:
        raise NotAllowed(f"a password has between 1 and {MAX_PASSWORD_BYTES} octets")
    if any(prohibited(one) for one in prepared for prohibited in _PROHIBITED) or not _direction_is_clear(prepared):
        raise NotAllowed("a password has no control or unassigned characters")
    return prepared


def _direction_is_clear(text: str) -> bool:
    """RFC 3454 6: right-to-left text has no left-to-right characters and begins and ends with its own."""
    right_to_left = [stringprep.in_table_d1(one) for one in text]
    if not any(right_to_left):
        return True
    return right_to_left[0] and right_to_left[-1] and not any(map(stringprep.in_table_d2, text))


def scram_verifier(prepared: str, salt: bytes, iterations: int = SCRAM_ITERATIONS) -> ScramVerifier:
    """StoredKey and ServerKey of a prepared password (RFC 5802 3)."""
    salted = pbkdf2_hmac("sha256", prepared.encode(), salt, iterations)
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    server_key = hmac.digest(salted, b"Server Key", "sha256")
    return ScramVerifier(salt, iterations, sha256(client_key).digest(), server_key)


def make_verifiers(password: str, salt: bytes | None = None, iterations: int = SCRAM_ITERATIONS) -> bytes:
    """Packed Verifiers of a password, slowly; `salt` and `iterations` are those of the account's other passwords.

    Raises NotAllowed for a password that can not be one.
    """
    prepared = prepare(password)
    scram = scram_verifier(prepared, salt or os.urandom(SCRAM_SALT_BYTES), iterations)
    packed: bytes = msgpack.packb((_FORMAT, _hasher.hash(prepared), scram))
    return packed


def read_verifiers(packed: bytes) -> Verifiers:
    """What `make_verifiers` packed. Raises ValueError for anything else."""
    format_, argon2id, scram = msgpack.unpackb(packed, use_list=False)
    if format_ != _FORMAT:
        raise ValueError(f"password verifiers of format {format_}")
    return Verifiers(argon2id, ScramVerifier._make(scram))


def check(password: str, argon2id: str) -> bool:
    """Whether the password matches the argon2id hash, in time that does not depend on the answer."""
    try:
        prepared = prepare(password)
    except NotAllowed:
        prepared = "\0"  # matches nothing, and takes as long to find out
    try:
        return _hasher.verify(argon2id, prepared)
    except (VerificationError, InvalidHashError):
        return False


def find_key(password: str, keys: ScramKeys) -> bytes | None:
    """The credential whose key the password gives: one derivation, then every key is looked at.

    It is for passwords of our own making, which are too long to be guessed by whoever steals what is stored.
    """
    try:
        prepared = prepare(password)
    except NotAllowed:
        prepared = "\0"
    stored_key = scram_verifier(prepared, keys.salt, keys.iterations).stored_key
    found: bytes | None = None
    for key in keys.candidates:
        if hmac.compare_digest(key.stored_key, stored_key):
            found = key.credential
    return found


class _MakeVerifiers(NamedTuple):
    password: str
    salt: bytes | None
    iterations: int


class _DeriveKeys(NamedTuple):
    password: str
    salt: bytes
    iterations: int


class _FindKey(NamedTuple):
    password: str
    keys: ScramKeys


class _Check(NamedTuple):
    password: str
    argon2id: str


class PasswordActor(pykka.ThreadingActor):
    """Hashes and checks, in its own thread."""

    use_daemon_thread = True

    @staticmethod
    def _create_future() -> pykka.Future[Any]:
        return ThreadSafeFuture(asyncio._get_running_loop())

    def on_receive(self, message: Any) -> Any:
        match message:
            case _MakeVerifiers(password, salt, iterations):
                return make_verifiers(password, salt, iterations)
            case _DeriveKeys(password, salt, iterations):
                return scram_verifier(prepare(password), salt, iterations)
            case _FindKey(password, keys):
                return find_key(password, keys)
            case _Check(password, argon2id):
                return check(password, argon2id)
            case _:
                raise TypeError(type(message).__name__)


class Passwords:
    """The event loop's door to the password actor. Use from one event loop; `stop` when done.

    `asker` is the network address that a password comes from ("": from inside): askers have their turns one after
    another, so that nobody waits behind a flood of somebody else's; those that are `known` go first.
    """

    def __init__(self) -> None:
        self._ref = PasswordActor.start()
        self._turns = Turns()
        # Checked against when there is no account or no password, so that both answers take as long.
        self._nobody = _hasher.hash(os.urandom(16).hex())

    async def make(self, password: str, salt: bytes | None = None, iterations: int = SCRAM_ITERATIONS) -> bytes:
        """Packed verifiers of a new password. Raises NotAllowed, Overloaded."""
        verifiers: bytes = await self._ask(_MakeVerifiers(password, salt, iterations), "", True)
        return verifiers

    async def keys(self, password: str, salt: bytes, iterations: int) -> ScramVerifier:
        """The SCRAM keys of a password. Raises NotAllowed, Overloaded."""
        derived: ScramVerifier = await self._ask(_DeriveKeys(password, salt, iterations), "", True)
        return derived

    async def check(self, password: str, argon2id: str | None, asker: str = "", known: bool = False) -> bool:
        """Whether the password is right; None as hash is never right, after the same work. Raises Overloaded."""
        right: bool = await self._ask(_Check(password, argon2id or self._nobody), asker, known)
        return right and argon2id is not None

    async def find(self, password: str, keys: ScramKeys, asker: str = "", known: bool = False) -> bytes | None:
        """The credential of `find_key`. Raises Overloaded."""
        found: bytes | None = await self._ask(_FindKey(password, keys), asker, known)
        return found

    async def _ask(self, message: Any, asker: str, known: bool) -> Any:
        async with self._turns.turn(asker, first=known):
            return await self._ref.ask(message, block=False)

    async def stop(self) -> None:
        """End the thread, after what it is doing."""
        await asyncio.to_thread(self._ref.stop)
