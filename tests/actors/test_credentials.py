"""App passwords, one-time codes and the password policy, on a real log."""

import os
import time
from base64 import b32decode
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.twofactor.totp import TOTP

from actors import app_passwords, credentials
from actors.authentication import MAIN, NOBODY
from actors.credential_admin import Enrolment
from actors.credentials import MAX_APP_PASSWORDS, NoteRefusedLogins, UseOneTimeCode
from actors.directory import Directory
from actors.errors import NameTaken, NoSuchAccount, NoSuchCredential, NotAllowed, TooLarge
from tests.actors.cell import ADMIN, Cell, Run, example_cell

ALICE, BOB, PASSWORD = "alice@example.test", "bob@example.test", "correct horse"


async def logged_in(cell: Cell, password: str, scope: str = "imap", login: str = ALICE) -> bool:
    return await cell.directory.logins.password(login, password, scope) is not None


async def app_password(cell: Cell, name: str = "phone", scopes: tuple[str, ...] = ("imap", "smtp"), **more: Any) -> str:
    return await cell.directory.credentials.add_app_password(ALICE, name, scopes, more.get("expires_ms"), ADMIN)


def code_of(enrolment: Enrolment, steps: int = 0) -> str:
    return TOTP(b32decode(enrolment.secret), 6, SHA1(), 30).generate(time.time() + 30 * steps).decode()


# App passwords


def test_an_app_password_opens_what_it_is_for_and_nothing_else(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with example_cell(tmp_path) as cell:
            await cell.directory.set_password(ALICE, PASSWORD, ADMIN)
            made = await app_password(cell)
            assert [await logged_in(cell, made, scope) for scope in ("imap", "smtp", "pop3", "web")] == [
                *(True, True, False, False)
            ]
            assert await logged_in(cell, made.replace("-", " ").upper())
            assert not await logged_in(cell, made, login=BOB)
            assert [await logged_in(cell, PASSWORD, scope) for scope in ("imap", "web")] == [True, True]

    run(scenario())


def test_an_account_without_a_password_can_have_app_passwords(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with example_cell(tmp_path) as cell:
            first, second = await app_password(cell, "one"), await app_password(cell, "two")
            await cell.directory.set_password(ALICE, PASSWORD, ADMIN)
            third = await app_password(cell, "three")
            assert [await logged_in(cell, one) for one in (first, second, third, PASSWORD)] == [True] * 4

    run(scenario())


def test_one_that_was_revoked_or_has_expired_opens_nothing(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with example_cell(tmp_path) as cell:
            kept, revoked = await app_password(cell, "kept"), await app_password(cell, "revoked")
            brief = await app_password(cell, "brief", expires_ms=int(time.time() * 1000) + 60_000)
            assert [await logged_in(cell, one) for one in (kept, revoked, brief)] == [True] * 3
            await cell.directory.credentials.revoke_app_password(ALICE, "revoked", ADMIN)
            now_ns = time.time_ns() + 61 * 10**9
            monkeypatch.setattr(time, "time_ns", lambda: now_ns)
            assert [await logged_in(cell, one) for one in (kept, revoked, brief)] == [True, False, False]
            with pytest.raises(NoSuchCredential):
                await cell.directory.credentials.revoke_app_password(ALICE, "revoked", ADMIN)

    run(scenario())


def test_what_can_not_be_an_app_password_is_refused(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with example_cell(tmp_path) as cell:
            await app_password(cell)
            for name, scopes, refusal in (
                ("phone", ("imap",), NameTaken),
                ("", ("imap",), NotAllowed),
                ("bell\a", ("imap",), NotAllowed),
                ("x" * 65, ("imap",), NotAllowed),
                ("other", (), NotAllowed),
                ("other", ("imap", "http"), NotAllowed),
            ):
                with pytest.raises(refusal):
                    await app_password(cell, name, scopes)
            with pytest.raises(NotAllowed, match="expired"):
                await app_password(cell, "old", expires_ms=1000)
            with pytest.raises(NoSuchAccount):
                await cell.directory.credentials.add_app_password("x@example.test", "a", ("imap",), None, ADMIN)
            for number in range(MAX_APP_PASSWORDS - 1):
                await app_password(cell, f"number {number}")
            with pytest.raises(TooLarge):
                await app_password(cell, "one too many")

    run(scenario())


def test_the_log_holds_no_app_password_and_no_code_in_clear(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with example_cell(tmp_path) as cell:
            made = await app_password(cell)
            enrolment = await cell.directory.credentials.enrol(ALICE, ADMIN)
            with cell.log.snapshot() as snapshot:
                data = b"".join(e.data for stored in snapshot.records() if stored.record for e in stored.record.events)
            for secret in (made, enrolment.secret, *enrolment.recovery):
                assert secret.encode() not in data

    run(scenario())


def test_app_passwords_are_never_alike_and_are_read_however_they_are_typed() -> None:
    one = app_passwords.generate(os.urandom)
    assert one != app_passwords.generate(os.urandom)
    assert len(one) == 24
    assert app_passwords.canonical(one.upper().replace("-", "")) == one
    assert app_passwords.canonical("a usual password") is None
    assert app_passwords.canonical(one + "a") is None


def test_its_use_is_known_to_the_day(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with example_cell(tmp_path) as cell:
            made = await app_password(cell)
            login = await cell.directory.logins.password(ALICE, made, "imap")
            assert login is not None
            admin = cell.directory.credentials
            assert [admin.is_new_use(login), admin.is_new_use(login)] == [True, False]
            await admin.note_use(login, ADMIN)
            position = cell.position
            await admin.note_use(login, ADMIN)
            assert cell.position == position
            with cell.log.snapshot() as snapshot:
                (found,) = credentials.app_passwords(snapshot.view(login.target.tenant), login.target.account)
            assert found.used_ms is not None

    run(scenario())


def test_a_deleted_account_leaves_nothing_behind(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with example_cell(tmp_path) as cell:
            made = await app_password(cell)
            await cell.directory.credentials.enrol(ALICE, ADMIN)
            target = cell.directory.account(ALICE)
            await cell.directory.delete_account(ALICE, ADMIN)
            with cell.log.snapshot() as snapshot:
                view = snapshot.view(target.tenant)
                rows = [key for prefix in (b"k", b"o", b"f", b"c") for key, _ in view.range(prefix + target.account)]
            assert rows == []
            await cell.directory.add_account(ALICE, None, None, ADMIN)
            assert not await logged_in(cell, made)

    run(scenario())


# SCRAM keys


def test_nobody_and_somebody_without_a_password_look_alike_to_scram(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with example_cell(tmp_path) as cell:
            logins = cell.directory.logins
            for login in ("nobody@example.test", ALICE, "no address", "x@far.test"):
                first, again = logins.scram_keys(login, "imap"), logins.scram_keys(login.upper(), "imap")
                assert first.candidates == (NOBODY,)
                assert (len(first.salt), first.iterations) == (16, 10_000)
                if "@" in login:
                    assert first == again
            before = logins.scram_keys(ALICE, "imap")
            await cell.directory.set_password(ALICE, PASSWORD, ADMIN)
            after = logins.scram_keys(ALICE, "imap")
            assert after.salt == before.salt
            assert [key.credential for key in after.candidates] == [MAIN]
            other = Directory(cell.log, cell.runtime, b"x" * 32)
            assert (
                other.logins.scram_keys("nobody@example.test", "imap").salt
                != logins.scram_keys("nobody@example.test", "imap").salt
            )
            await other.stop()

    run(scenario())


def test_the_salt_stays_when_the_password_changes(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with example_cell(tmp_path) as cell:
            await cell.directory.set_password(ALICE, PASSWORD, ADMIN)
            made = await app_password(cell)
            before = cell.directory.logins.scram_keys(ALICE, "imap")
            await cell.directory.set_password(ALICE, "another password", ADMIN)
            after = cell.directory.logins.scram_keys(ALICE, "imap")
            assert before.salt == after.salt
            assert before.candidates[0] != after.candidates[0]
            assert before.candidates[1] == after.candidates[1]
            assert await logged_in(cell, made)

    run(scenario())


def test_a_proof_with_a_password_that_was_changed_meanwhile_is_none(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with example_cell(tmp_path) as cell:
            await cell.directory.set_password(ALICE, PASSWORD, ADMIN)
            (key,) = cell.directory.logins.scram_keys(ALICE, "imap").candidates
            assert cell.directory.logins.proved(ALICE, key, "imap") is not None
            assert cell.directory.logins.proved(BOB, key, "imap") is None
            await cell.directory.set_password(ALICE, "another password", ADMIN)
            assert cell.directory.logins.proved(ALICE, key, "imap") is None

    run(scenario())


# One-time codes


def test_codes_are_in_force_once_a_first_one_confirms_them(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with example_cell(tmp_path) as cell:
            admin = cell.directory.credentials
            await cell.directory.set_password(ALICE, PASSWORD, ADMIN)
            target = cell.directory.account(ALICE)
            enrolment = await admin.enrol(ALICE, ADMIN)
            assert enrolment.uri.startswith("otpauth://totp/mailraft:alice%40example.test?")
            assert not admin.demands_code(target)
            with pytest.raises(NotAllowed):
                await admin.confirm(ALICE, "000000x", ADMIN)
            enrolment = await admin.enrol(ALICE, ADMIN)  # one may begin again
            await admin.confirm(ALICE, code_of(enrolment), ADMIN)
            assert admin.demands_code(target)
            with pytest.raises(NameTaken):
                await admin.enrol(ALICE, ADMIN)
            await admin.disable(ALICE, ADMIN)
            assert not admin.demands_code(target)
            with pytest.raises(NoSuchCredential):
                await admin.disable(ALICE, ADMIN)

    run(scenario())


def test_with_codes_on_mail_programs_need_app_passwords(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with example_cell(tmp_path) as cell:
            admin = cell.directory.credentials
            await cell.directory.set_password(ALICE, PASSWORD, ADMIN)
            made = await app_password(cell)
            assert await logged_in(cell, PASSWORD)
            await admin.confirm(ALICE, code_of(await admin.enrol(ALICE, ADMIN)), ADMIN)
            assert [await logged_in(cell, PASSWORD, scope) for scope in ("imap", "pop3", "smtp")] == [False] * 3
            assert await logged_in(cell, made)
            assert await logged_in(cell, PASSWORD, "web")
            keys = cell.directory.logins.scram_keys(ALICE, "imap")
            assert MAIN not in {key.credential for key in keys.candidates}

    run(scenario())


def test_a_code_is_good_once_and_a_little_early_or_late(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = time.time() // 30 * 30 + 15
    monkeypatch.setattr("actors.credential_admin.time.time", lambda: now_s)

    async def scenario() -> None:
        nonlocal now_s
        async with example_cell(tmp_path) as cell:
            admin, target = cell.directory.credentials, cell.directory.account(ALICE)
            enrolment = await admin.enrol(ALICE, ADMIN)
            await admin.confirm(ALICE, code_of(enrolment, -1), ADMIN)
            assert not await admin.use_code(target, code_of(enrolment, -1), ADMIN)  # it confirmed
            assert await admin.use_code(target, code_of(enrolment), ADMIN)
            assert not await admin.use_code(target, code_of(enrolment), ADMIN)
            assert await admin.use_code(target, code_of(enrolment, 1)[:3] + " " + code_of(enrolment, 1)[3:], ADMIN)
            assert not await admin.use_code(target, code_of(enrolment), ADMIN)  # older than what was used
            now_s += 300
            for wrong in (code_of(enrolment, 2), code_of(enrolment, -2), "", "12345", "☃" * 6):
                assert not await admin.use_code(target, wrong, ADMIN)

    run(scenario())


def test_a_recovery_code_is_good_once(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with example_cell(tmp_path) as cell:
            admin, target = cell.directory.credentials, cell.directory.account(ALICE)
            enrolment = await admin.enrol(ALICE, ADMIN)
            assert len(set(enrolment.recovery)) == 10
            await admin.confirm(ALICE, code_of(enrolment), ADMIN)
            assert await admin.use_code(target, enrolment.recovery[3].upper().replace("-", " "), ADMIN)
            assert not await admin.use_code(target, enrolment.recovery[3], ADMIN)
            assert await admin.use_code(target, enrolment.recovery[4], ADMIN)

    run(scenario())


def test_two_nodes_do_not_take_one_code_twice(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with example_cell(tmp_path) as cell:
            admin, target = cell.directory.credentials, cell.directory.account(ALICE)
            await admin.confirm(ALICE, code_of(await admin.enrol(ALICE, ADMIN)), ADMIN)
            command, context = UseOneTimeCode(target.account, 1 << 40), ADMIN._replace(tenant=target.tenant)
            await cell.runtime.ask(target.tenant, command, context)
            with pytest.raises(NotAllowed, match="used already"):
                await cell.runtime.ask(target.tenant, command, context)

    run(scenario())


def test_rfc_6238_gives_the_codes_of_its_appendix_b() -> None:
    for at_s, code in ((59, "94287082"), (1111111109, "07081804"), (20000000000, "65353130")):
        assert TOTP(b"12345678901234567890", 8, SHA1(), 30).generate(at_s) == code.encode()


# What was refused, and the policy


def test_refused_logins_are_told_of_once_a_minute(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with example_cell(tmp_path) as cell:
            target = cell.directory.account(ALICE)
            context, now_ms = ADMIN._replace(tenant=target.tenant), int(time.time() * 1000)
            await cell.runtime.ask(target.tenant, NoteRefusedLogins(target.account, 7, 2, now_ms, now_ms), context)
            again = NoteRefusedLogins(target.account, 9, 2, now_ms, now_ms + 1000)
            with pytest.raises(NotAllowed):
                await cell.runtime.ask(target.tenant, again, context)
            later = NoteRefusedLogins(target.account, 5, 1, now_ms, now_ms + 70_000)
            await cell.runtime.ask(target.tenant, later, context)
            with cell.log.snapshot() as snapshot:
                found = credentials.refused_logins(snapshot.view(target.tenant), target.account)
            assert found.attempts == 12

    run(scenario())


def test_passwords_are_as_long_as_the_policy_says(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with example_cell(tmp_path) as cell:
            with pytest.raises(NotAllowed, match="at least 8 characters"):
                await cell.directory.set_password(ALICE, "1234567", ADMIN)
            await cell.directory.set_password(ALICE, "kq7wzr3m", ADMIN)
            tenant = cell.tenant(ALICE)
            for least in (7, 129):
                with pytest.raises(NotAllowed):
                    await cell.directory.credentials.set_password_policy(tenant, least, ADMIN)
            await cell.directory.credentials.set_password_policy(tenant, 12, ADMIN)
            with pytest.raises(NotAllowed, match="at least 12 characters"):
                await cell.directory.add_account("carol@example.test", "kq7wzr3mvb1", None, ADMIN)
            assert await logged_in(cell, "kq7wzr3m")  # what was set before stays

    run(scenario())


def test_what_was_sealed_with_another_key_opens_nothing(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with example_cell(tmp_path) as cell:
            made = await app_password(cell)
            other = Directory(cell.log, cell.runtime, b"x" * 32)
            assert await other.logins.password(ALICE, made, "imap") is None
            await other.stop()

    run(scenario())
