"""Each SASL mechanism with programs that others wrote: gsasl, msmtp, mpop, swaks, curl, Python's own clients."""

import base64
import imaplib
import poplib
import shutil
import smtplib
import ssl
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.twofactor.totp import TOTP

from actors import credentials
from nodes import imap
from nodes.config.node import ListenerKind
from nodes.services import Listener
from tests.nodes.smtp.cell import ADMIN, Cell

ALICE, BOB, PASSWORD = "alice@example.test", "bob@example.test", "secret of alice"


class Door:
    """A cell with an IMAP listener too, and what programs must know to reach it."""

    def __init__(self, cell: Cell, listeners: Mapping[str, Listener]) -> None:
        self.cell = cell
        self._ports = {kind: int(one.address.rpartition(":")[2]) for kind, one in listeners.items()}

    def port(self, kind: str) -> int:
        return self._ports.get(kind) or self.cell.port(kind)

    @property
    def ca(self) -> str:
        return str(self.cell.ca)


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    limits = {"auth_delay_s": 0, "auth_failures": 1000, "auth_block_after": 100_000}
    with Cell(tmp_path_factory.mktemp("cell"), limits, plaintext="never", channel_binding=True) as cell:
        kinds: tuple[ListenerKind, ...] = ("imap", "imaps")
        listeners: dict[str, Listener] = {
            kind: cell.call(imap.start(cell.services, kind, "127.0.0.1:0")) for kind in kinds
        }
        yield Door(cell, listeners)
        for listener in listeners.values():
            cell.call(listener.stop(0.2))


def program(name: str) -> str:
    return shutil.which(name) or pytest.skip(f"{name} is not installed")


def ran(*command: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=30)


def gsasl(
    door: Door, protocol: str, mechanism: str, password: str, *more: str, login: str = ALICE
) -> subprocess.CompletedProcess[str]:
    kind = {"imap": "imap", "smtp": "submission"}[protocol]
    return ran(
        *(program("gsasl"), f"--{protocol}", "-m", mechanism, "-a", login, "-p", password, "--no-client-first", *more),
        *("--quality-of-protection=qop-auth", "--x509-ca-file", door.ca, f"--connect=localhost:{door.port(kind)}"),
    )


@pytest.mark.parametrize("protocol", ["imap", "smtp"])
@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS"])
def test_gsasl_logs_in_and_only_with_the_password(door: Door, protocol: str, mechanism: str) -> None:
    bound = () if mechanism.endswith("PLUS") else ("--no-cb",)
    right = gsasl(door, protocol, mechanism, PASSWORD, *bound)
    assert right.returncode == 0, right
    assert "server trusted" in right.stderr
    assert gsasl(door, protocol, mechanism, "wrong password", *bound).returncode != 0


def test_gsasl_is_bound_to_tls_1_2_as_well(door: Door) -> None:
    old = ("--verbose", "--priority=NORMAL:-VERS-ALL:+VERS-TLS1.2")
    right = gsasl(door, "imap", "SCRAM-SHA-256-PLUS", PASSWORD, *old)
    assert "TLS1.2" in right.stderr
    assert right.returncode == 0, right
    assert "server trusted" in right.stderr


def test_gsasl_chooses_the_strongest_mechanism_by_itself(door: Door) -> None:
    chosen = ran(
        *(program("gsasl"), "--imap", "-a", ALICE, "-p", PASSWORD, "--x509-ca-file", door.ca),
        f"--connect=localhost:{door.port('imap')}",
    )
    assert ". AUTHENTICATE SCRAM-SHA-256-PLUS" in chosen.stdout
    assert chosen.returncode == 0, chosen


@pytest.mark.parametrize("mechanism", ["plain", "login", "scram-sha-256"])
def test_msmtp_sends_and_mpop_fetches(door: Door, mechanism: str, tmp_path: Path) -> None:
    common = ("--host=localhost", "--tls=on", f"--tls-trust-file={door.ca}", f"--user={ALICE}")
    password = f"--passwordeval=echo {PASSWORD}"
    before = len(door.cell.inbox(ALICE))
    sent = ran(
        *(program("msmtp"), f"--port={door.port('submission')}", *common, f"--auth={mechanism}", password),
        *(f"--from={ALICE}", ALICE),
        stdin="Subject: by msmtp\n\nHello\n",
    )
    assert sent.returncode == 0, sent
    assert len(door.cell.inbox(ALICE)) == before + 1
    fetched = ran(
        *(program("mpop"), f"--port={door.port('pop3')}", *common, f"--auth={mechanism}", password, "--keep=on"),
        *(f"--uidls-file={tmp_path / 'uidls'}", f"--delivery=mbox,{tmp_path / 'mbox'}"),
    )
    assert fetched.returncode == 0, fetched
    assert "Subject: by msmtp" in (tmp_path / "mbox").read_text()


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
def test_swaks_logs_in(door: Door, mechanism: str) -> None:
    def swaks(password: str) -> subprocess.CompletedProcess[str]:
        return ran(
            *(program("swaks"), "--server", "127.0.0.1", "--port", str(door.port("submission")), "--tls"),
            *("--auth", mechanism, "--auth-user", ALICE, "--auth-password", password),
            *("--from", ALICE, "--to", ALICE, "--quit-after", "AUTH"),
        )

    assert "235 2.7.0" in swaks(PASSWORD).stdout
    assert "535 5.7.8" in swaks("wrong").stdout


def test_no_mechanism_that_needs_the_password_itself_on_the_server_is_offered_or_taken(door: Door) -> None:
    done = ran(
        *(program("swaks"), "--server", "127.0.0.1", "--port", str(door.port("submission")), "--tls"),
        *("--auth", "CRAM-MD5", "--auth-user", ALICE, "--auth-password", PASSWORD, "--quit-after", "AUTH"),
    )
    assert done.returncode == 28, done  # swaks: the server offers none of what was asked for
    assert "-> AUTH" not in done.stdout
    with smtplib.SMTP("localhost", door.port("submission")) as smtp:
        smtp.starttls(context=ssl.create_default_context(cafile=door.ca))
        smtp.ehlo()
        for mechanism in ("CRAM-MD5", "DIGEST-MD5", "NTLM", "SCRAM-SHA-1"):
            assert mechanism not in smtp.esmtp_features["auth"].split()
            assert smtp.docmd("AUTH", mechanism)[0] == 504


@pytest.mark.parametrize("protocol", ["imap", "pop3", "smtp"])
@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
def test_curl_logs_in(door: Door, protocol: str, mechanism: str) -> None:
    kind = {"imap": "imaps", "pop3": "pop3s", "smtp": "submissions"}[protocol]
    command = (
        *(program("curl"), "-sS", "-v", "--cacert", door.ca, f"{protocol}s://localhost:{door.port(kind)}/"),
        *("--login-options", f"AUTH={mechanism}", *(("-X", "NOOP") if protocol == "smtp" else ())),
    )
    right, wrong = ran(*command, "-u", f"{ALICE}:{PASSWORD}"), ran(*command, "-u", f"{ALICE}:wrong")
    assert right.returncode == 0, right.stderr
    assert f"AUTH {mechanism}" in right.stderr or f"AUTHENTICATE {mechanism}" in right.stderr
    assert wrong.returncode == 67, wrong.stderr


def test_nothing_is_offered_or_taken_in_clear(door: Door) -> None:
    imap_client = imaplib.IMAP4("localhost", door.port("imap"))
    assert "LOGINDISABLED" in imap_client.capabilities
    assert not any(name.startswith("AUTH=") for name in imap_client.capabilities)
    with pytest.raises(imaplib.IMAP4.error, match="PRIVACYREQUIRED"):
        imap_client.authenticate("SCRAM-SHA-256", lambda _: b"n,,n=alice,r=abc")
    imap_client.logout()
    pop3_client = poplib.POP3("localhost", door.port("pop3"))
    assert not {"SASL", "USER"} & pop3_client.capa().keys()
    with pytest.raises(poplib.error_proto, match="STLS"):
        pop3_client._shortcmd("AUTH SCRAM-SHA-256")  # type: ignore[attr-defined]
    pop3_client.quit()
    with smtplib.SMTP("localhost", door.port("submission")) as smtp:
        smtp.ehlo()
        assert not smtp.has_extn("auth")
        assert smtp.docmd("AUTH", "SCRAM-SHA-256") == (538, b"5.7.11 Encryption required, send STARTTLS first")


def test_mail_servers_are_offered_no_log_in(door: Door) -> None:
    context = ssl.create_default_context(cafile=door.ca)
    with smtplib.SMTP("localhost", door.port("smtp")) as smtp:
        smtp.starttls(context=context)
        smtp.ehlo()
        assert not smtp.has_extn("auth")


def app_password(door: Door, *scopes: str) -> str:
    admin = door.cell.directory.credentials
    return door.cell.call(admin.add_app_password(BOB, f"for {','.join(scopes)} {time.time()}", scopes, None, ADMIN))


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256-PLUS"])
def test_an_app_password_lets_gsasl_in_where_it_is_for(door: Door, mechanism: str) -> None:
    made = app_password(door, "imap")
    assert gsasl(door, "imap", mechanism, made, login=BOB).returncode == 0
    assert gsasl(door, "smtp", mechanism, made, login=BOB).returncode != 0
    assert gsasl(door, "imap", mechanism, "secret of bob", login=BOB).returncode == 0  # and the password goes on


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "SCRAM-SHA-256-PLUS"])
def test_with_one_time_codes_on_the_password_lets_no_program_in(door: Door, mechanism: str) -> None:
    address = f"codes-{mechanism.lower()}@example.test"
    admin = door.cell.directory.credentials
    door.cell.call(door.cell.directory.add_account(address, PASSWORD, None, ADMIN))
    assert gsasl(door, "imap", mechanism, PASSWORD, login=address).returncode == 0
    enrolment = door.cell.call(admin.enrol(address, ADMIN))
    assert gsasl(door, "imap", mechanism, PASSWORD, login=address).returncode == 0  # not confirmed yet
    code = TOTP(base64.b32decode(enrolment.secret), 6, SHA1(), 30).generate(time.time()).decode()
    door.cell.call(admin.confirm(address, code, ADMIN))
    for protocol in ("imap", "smtp"):
        assert gsasl(door, protocol, mechanism, PASSWORD, login=address).returncode != 0
    made = door.cell.call(admin.add_app_password(address, "laptop", ("imap", "smtp"), None, ADMIN))
    for protocol in ("imap", "smtp"):
        assert gsasl(door, protocol, mechanism, made, login=address).returncode == 0


def test_the_use_of_an_app_password_stands_in_the_log(door: Door) -> None:
    made = app_password(door, "pop3")
    client = poplib.POP3_SSL("localhost", door.port("pop3s"), context=ssl.create_default_context(cafile=door.ca))
    client.user(BOB)
    client.pass_(made)
    client.quit()
    target = door.cell.directory.account(BOB)

    def used() -> bool:
        with door.cell.log.snapshot() as snapshot:
            found = credentials.app_passwords(snapshot.view(target.tenant), target.account)
        return any(one.scopes == ("pop3",) and one.used_ms for one in found)

    deadline_s = time.monotonic() + 10
    while not used():
        assert time.monotonic() < deadline_s
        time.sleep(0.05)
