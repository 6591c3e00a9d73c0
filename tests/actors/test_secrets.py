"""Sealing, password verifiers, and the actor that makes them."""

import asyncio
import base64
import hmac
import threading
import time
from collections.abc import Callable, Coroutine
from hashlib import sha256
from typing import Any

import pytest

from actors import passwords as passwords_module
from actors import turns
from actors.errors import NotAllowed
from actors.passwords import (
    Overloaded,
    Passwords,
    check,
    make_verifiers,
    prepare,
    read_verifiers,
    scram_verifier,
)
from actors.sealing import SealBroken, seal, unseal

Run = Callable[[Coroutine[Any, Any, Any]], Any]
KEY = b"k" * 32


def test_what_was_sealed_opens_with_the_key_and_the_place() -> None:
    assert unseal(KEY, seal(KEY, b"secret", b"alice"), b"alice") == b"secret"


def test_a_seal_hides_what_is_in_it_and_never_looks_the_same() -> None:
    one, other = seal(KEY, b"secret", b"alice"), seal(KEY, b"secret", b"alice")
    assert one != other
    assert b"secret" not in one


@pytest.mark.parametrize(
    ("key", "place", "change"), [(b"x" * 32, b"alice", b""), (KEY, b"bob", b""), (KEY, b"alice", b"x")]
)
def test_another_key_another_place_or_an_alteration_breaks_the_seal(key: bytes, place: bytes, change: bytes) -> None:
    with pytest.raises(SealBroken):
        unseal(key, seal(KEY, b"secret", b"alice") + change, place)


def test_an_unknown_format_is_not_opened() -> None:
    with pytest.raises(SealBroken):
        unseal(KEY, b"\x02" + seal(KEY, b"secret", b"alice")[1:], b"alice")


def test_a_scram_verifier_accepts_the_proof_in_rfc_7677_3() -> None:
    salt = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
    verifier = scram_verifier("pencil", salt, 4096)
    auth_message = (
        b"n=user,r=rOprNGfwEbeRWgbNEkqO,"
        b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,"
        b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
    )
    proof = base64.b64decode("dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=")
    signature = hmac.digest(verifier.stored_key, auth_message, "sha256")
    client_key = bytes(a ^ b for a, b in zip(proof, signature))
    assert sha256(client_key).digest() == verifier.stored_key
    server = base64.b64decode("6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")
    assert hmac.digest(verifier.server_key, auth_message, "sha256") == server


def test_verifiers_use_the_stated_argon2id_parameters() -> None:
    verifiers = read_verifiers(make_verifiers("pencil"))
    assert verifiers.argon2id.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert verifiers.scram.iterations >= 4096


def test_a_password_is_checked() -> None:
    argon2id = read_verifiers(make_verifiers("pencil")).argon2id
    assert check("pencil", argon2id)
    assert not check("Pencil", argon2id)
    assert not check("", argon2id)
    assert not check("pen\0cil", argon2id)


def test_a_damaged_hash_matches_nothing() -> None:
    assert not check("pencil", "$argon2id$nonsense")


def test_two_ways_of_typing_one_password_are_one() -> None:
    argon2id = read_verifiers(make_verifiers("p\u00e4ss\u00a0word")).argon2id
    assert check("pa\u0308ss word", argon2id)


@pytest.mark.parametrize(
    ("given", "prepared"),
    [("I\u00adX", "IX"), ("user", "user"), ("USER", "USER"), ("\u00aa", "a"), ("\u2168", "IX")],
)
def test_saslprep_gives_what_rfc_4013_3_shows(given: str, prepared: str) -> None:
    assert prepare(given) == prepared


@pytest.mark.parametrize("given", ["\u0007", "\u06271", "", "x" * 1025, "\ud800", "\u00ad"])
def test_passwords_that_saslprep_prohibits_are_refused(given: str) -> None:
    with pytest.raises(NotAllowed):
        make_verifiers(given)


def test_verifiers_of_an_unknown_format_are_an_error() -> None:
    with pytest.raises(ValueError, match="format"):
        read_verifiers(b"\x93\x02\xa0\xc0")


def test_hashing_leaves_the_event_loop_free(run: Run) -> None:
    async def scenario() -> int:
        passwords = Passwords()
        ticks = 0
        hashing = asyncio.gather(*(passwords.make("pencil") for _ in range(4)))
        while not hashing.done():
            await asyncio.sleep(0.001)
            ticks += 1
        await hashing
        await passwords.stop()
        return ticks

    assert run(scenario()) > 3


def test_nobody_is_checked_with_the_same_work_as_somebody(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    worked: list[str] = []

    def noted(password: str, argon2id: str) -> bool:
        worked.append(argon2id.rpartition("$")[0].rpartition("$")[0])  # without salt and hash
        return check(password, argon2id)

    monkeypatch.setattr(passwords_module, "check", noted)

    async def scenario() -> list[bool]:
        passwords = Passwords()
        argon2id = read_verifiers(await passwords.make("pencil")).argon2id
        answers = [await passwords.check("wrong", argon2id), await passwords.check("wrong", None)]
        await passwords.stop()
        return answers

    assert run(scenario()) == [False, False]
    assert worked == ["$argon2id$v=19$m=19456,t=2,p=1"] * 2


def test_a_refused_password_is_refused_to_the_asker(run: Run) -> None:
    async def scenario() -> None:
        passwords = Passwords()
        try:
            with pytest.raises(NotAllowed):
                await passwords.make("\u0007")
        finally:
            await passwords.stop()

    run(scenario())


def test_too_many_logins_at_once_are_turned_away(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "MAX_WAITING", 1)

    async def scenario() -> list[Any]:
        passwords = Passwords()
        try:
            return await asyncio.gather(*(passwords.check("x", None) for _ in range(3)), return_exceptions=True)
        finally:
            await passwords.stop()

    assert [type(answer) for answer in run(scenario())] == [bool, bool, Overloaded]


def test_stopping_ends_the_thread(run: Run) -> None:
    async def scenario() -> None:
        passwords = Passwords()
        await passwords.check("x", None)
        await passwords.stop()

    run(scenario())
    deadline = time.monotonic() + 5
    while any("PasswordActor" in thread.name for thread in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
