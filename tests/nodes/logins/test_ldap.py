"""Passwords that an LDAP directory has, Debian's slapd: who gets in by them at every door, and who does not."""

import asyncio
import base64
import imaplib
import poplib
import smtplib
import ssl
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
import scramp
import structlog
from pydantic import ValidationError

from actors.account_state import DisableAccount
from actors.directory import account_of
from nodes import imap
from nodes.config.ldap import LdapDirectory, LdapSection
from nodes.config.node import ListenerKind
from nodes.logins.door import door
from nodes.logins.ldap_directory import Directory, DirectoryAway, filled
from nodes.logins.ldap_logins import LdapLogins
from nodes.server import Node
from nodes.starting import StartError
from tests.nodes.conftest import MakeCell
from tests.nodes.smtp.cell import ADMIN, Cell
from tests.peers import certificates
from tests.peers.slapd import BASE, SERVICE, Slapd, slapd

Run = Callable[[Coroutine[Any, Any, Any]], Any]
ALICE, BOB, TWINS, GUEST = "alice@example.test", "bob@example.test", "twins@example.test", "guest@example.test"
OTHER = "carol@other.test"  # whose password is in the log
PASSWORD, IN_THE_LOG = "pässword of alice", "secret of alice"
USERS = {
    "alice": (ALICE, PASSWORD),
    "bob": (BOB, "secret of bob"),
    "twin1": (TWINS, "secret of twins"),
    "twin2": (TWINS, "secret of twins"),
    "guest": (GUEST, ""),
}
KINDS: tuple[ListenerKind, ...] = ("imaps", "submissions", "pop3s")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slapd]:
    with slapd(tmp_path_factory.mktemp("slapd"), USERS) as running:
        yield running


def section(server: Slapd, **changed: Any) -> dict[str, Any]:
    given = {
        **{"url": server.ldaps_url, "domains": ["example.test"], "ca_file": server.ca, "base": BASE, "cache_s": 0},
        **{"bind_dn": SERVICE, "bind_password": f"file:{server.password_file}", "timeout_s": 1},
    }
    return {**given, **changed}


def directory(server: Slapd, **changed: Any) -> Directory:
    return Directory(LdapDirectory.model_validate(section(server, **changed)))


# Asking the directory


@pytest.mark.parametrize("url", ["ldaps_url", "starttls_url"])
def test_a_password_is_right_if_the_directory_says_so(server: Slapd, url: str) -> None:
    asked = directory(server, url=getattr(server, url))
    assert asked.is_password_of(ALICE, PASSWORD)
    assert not asked.is_password_of(ALICE, "secret of bob")
    assert asked.is_password_of(BOB, "secret of bob")  # on the same connection, after a bind that failed


@pytest.mark.parametrize("password", ["", "\xad", "\0", PASSWORD + "\0"])
@pytest.mark.parametrize("address", [ALICE, GUEST, "nobody@example.test"])
def test_a_bind_that_proves_nothing_is_no_log_in(server: Slapd, address: str, password: str) -> None:
    assert not directory(server).is_password_of(address, password)


@pytest.mark.parametrize(
    "login",
    [
        "*",
        "*@example.test",
        "a*@example.test",
        "alice)(uid=*@example.test",
        "*)(uid=alice",
        "alice@example.test)(|(uid=*)",
        "\\2a",
        "\0",
        "{address}",
    ],
)
def test_what_a_login_holds_is_never_a_part_of_the_filter(server: Slapd, login: str) -> None:
    asked = directory(server, filter="(|(mail={address})(uid={address}))")
    assert asked.is_password_of("alice", PASSWORD)
    assert not asked.is_password_of(login, PASSWORD)


def test_every_character_that_means_something_in_a_filter_is_escaped() -> None:
    assert filled("(&(uid={local})(o={domain}))", "a*(b)\\\0{domain}@x.test") == (
        "(&(uid=a\\2a\\28b\\29\\5c\\00{domain})(o=x.test))"
    )


def test_of_two_entries_none_is_the_users(server: Slapd) -> None:
    assert not directory(server).is_password_of(TWINS, "secret of twins")


@pytest.mark.parametrize(
    "changed",
    [
        {"bind_dn": "cn=nobody,dc=example,dc=test"},  # with a password that is not its own
        {"base": "dc=elsewhere,dc=test"},
        {"bind_password": "file:/nowhere"},
        {"bind_password": "env:MAILRAFT_NOWHERE"},
        {"bind_dn": "", "bind_password": ""},  # which may not look
    ],
)
def test_a_directory_that_does_not_let_us_look_says_nothing_of_a_password(
    server: Slapd, changed: dict[str, Any]
) -> None:
    with pytest.raises(DirectoryAway):
        directory(server, **changed).is_password_of(ALICE, PASSWORD)


@pytest.mark.parametrize("url", ["ldaps_url", "starttls_url"])
def test_a_certificate_of_another_authority_gets_no_password(server: Slapd, url: str, tmp_path: Path) -> None:
    (tmp_path / "other.pem").write_bytes(certificates.authority("another").pem)
    with pytest.raises(DirectoryAway, match="certificate"):
        directory(server, url=getattr(server, url), ca_file=tmp_path / "other.pem").is_password_of(ALICE, PASSWORD)


@pytest.mark.parametrize("url", ["ldaps_url", "starttls_url"])
def test_a_certificate_for_another_name_gets_no_password(server: Slapd, url: str) -> None:
    other_name = getattr(server, url).replace("localhost", "127.0.0.1")
    with pytest.raises(DirectoryAway, match="certificate"):
        directory(server, url=other_name).is_password_of(ALICE, PASSWORD)


def test_a_connection_that_was_closed_meanwhile_is_made_again(server: Slapd) -> None:
    asked = directory(server, url=server.starttls_url)
    assert asked.is_password_of(ALICE, PASSWORD)
    server.stop()
    server.start()
    assert asked.is_password_of(ALICE, PASSWORD)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"url": "http://localhost"}, "url"),
        ({"url": "ldapi://%2frun%2fldapi"}, "url"),
        ({"domains": []}, "domains"),
        ({"filter": "(objectClass=person)"}, "filter"),
        ({"filter": "(o={domain})"}, "filter"),
        ({"filter": "(mail={address}"}, "filter"),
        ({"bind_dn": ""}, "bind_password"),
        ({"directories": [{"domains": ["x.test"]}]}, "directories"),
        ({"directories": [{"url": "ldaps://x", "domains": ["EXAMPLE.test"]}]}, "directories"),
    ],
)
def test_a_configuration_that_can_not_be_meant_is_refused(server: Slapd, changed: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        LdapSection.model_validate(section(server, **changed))


# At the doors


class Doors:
    """A cell whose domain example.test has its passwords in the directory."""

    def __init__(self, cell: Cell, ports: dict[ListenerKind, int]) -> None:
        self.cell = cell
        self.port = ports.__getitem__
        self.context = ssl.create_default_context(cafile=cell.ca)

    def tried(self, kind: ListenerKind, login: str, password: str) -> str:
        """ "" for somebody who came in, otherwise what was said."""
        port = self.port(kind)
        try:
            if kind == "imaps":
                with imaplib.IMAP4_SSL("localhost", port, ssl_context=self.context) as client:
                    client.authenticate("PLAIN", lambda _: f"\0{login}\0{password}".encode())
            elif kind == "pop3s":
                pop = poplib.POP3_SSL("localhost", port, context=self.context)
                pop.encoding = "utf-8"
                pop.user(login)
                pop.pass_(password)
                pop.quit()
            else:
                with smtplib.SMTP_SSL("localhost", port, context=self.context) as sender:
                    sender.ehlo()
                    code, text = sender.docmd("AUTH", "PLAIN " + plain(login, password))
                    return "" if code == 235 else f"{code} {text.decode()}"
        except (imaplib.IMAP4.error, poplib.error_proto) as error:
            return str(error)
        return ""

    def everywhere(self, login: str, password: str) -> list[str]:
        return [self.tried(kind, login, password) for kind in KINDS]

    def configure(self, **section: Any) -> None:
        """The directory as another configuration would have it."""

        async def replaced() -> None:
            self.cell.directory.logins._cache.clear()
            outside = self.cell.directory.logins.outside
            if isinstance(outside, LdapLogins):
                await outside.stop()
            found = LdapSection.model_validate(section)
            self.cell.directory.logins.outside = LdapLogins(found, structlog.get_logger())

        self.cell.call(replaced())


def plain(login: str, password: str) -> str:
    return base64.b64encode(f"\0{login}\0{password}".encode()).decode()


@pytest.fixture(scope="module")
def doors(server: Slapd, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Doors]:
    limits = {"auth_delay_s": 0, "auth_failures": 1000, "auth_block_after": 100_000}
    folder = tmp_path_factory.mktemp("cell")
    with Cell(folder, limits, plaintext="never", sections={"ldap": section(server)}) as cell:
        for account in (TWINS, GUEST):
            cell.call(cell.directory.add_account(account, IN_THE_LOG, None, ADMIN))
        cell.call(cell.directory.add_tenant("other", ["other.test"], ADMIN))
        cell.call(cell.directory.add_account(OTHER, IN_THE_LOG, None, ADMIN))
        listener = cell.call(imap.start(cell.services, "imaps", "127.0.0.1:0"))
        ports = {"imaps": int(listener.address.rpartition(":")[2]), **{kind: cell.port(kind) for kind in KINDS[1:]}}
        yield Doors(cell, ports)
        cell.call(listener.stop(0.2))


@pytest.fixture(autouse=True)
def as_configured(request: pytest.FixtureRequest, server: Slapd) -> None:
    """Each test at the doors begins with nothing remembered."""
    if "doors" in request.fixturenames:
        request.getfixturevalue("doors").configure(**section(server))


WRONG = ["AUTHENTICATIONFAILED", "535 5.7.8", "[AUTH]"]
AWAY = ["UNAVAILABLE", "454 4.7.0", "[SYS/TEMP]"]


def told(said: list[str], expected: list[str]) -> bool:
    return all(part in one for one, part in zip(said, expected, strict=True))


def test_the_directorys_password_opens_every_door_and_the_logs_none(doors: Doors) -> None:
    assert doors.everywhere(ALICE, PASSWORD) == ["", "", ""]
    assert told(doors.everywhere(ALICE, IN_THE_LOG), WRONG)
    assert told(doors.everywhere(BOB, PASSWORD), WRONG)


def test_other_domains_have_their_passwords_in_the_log(doors: Doors) -> None:
    assert doors.everywhere(OTHER, IN_THE_LOG) == ["", "", ""]
    assert told(doors.everywhere(OTHER, PASSWORD), WRONG)


@pytest.mark.parametrize("login", [TWINS, GUEST, "nobody@example.test", "a*@example.test"])
def test_whoever_is_not_exactly_one_user_with_a_password_is_told_that_it_is_wrong(doors: Doors, login: str) -> None:
    for password in ("secret of twins", PASSWORD, IN_THE_LOG):
        assert told(doors.everywhere(login, password), WRONG)


def test_a_login_that_is_no_address_is_wrong_and_holds_up_nobody(doors: Doors, server: Slapd) -> None:
    doors.configure(**section(server, filter="(uid={local})"))
    logins = doors.cell.directory.logins
    for login in (
        "@example.test",
        " @example.test",
        "\n@example.test",
        "(" * 5000 + "@example.test",
        "\\@example.test",
    ):
        assert doors.cell.call(logins.password(login, PASSWORD, "imap")) is None
        assert doors.cell.call(logins.password(ALICE, PASSWORD, "imap")) is not None


def test_an_empty_password_opens_nothing(doors: Doors) -> None:
    for login in (ALICE, GUEST, "nobody@example.test"):
        assert doors.cell.call(doors.cell.directory.logins.password(login, "", "imap")) is None
        assert all(doors.everywhere(login, ""))


def test_a_directory_that_is_stopped_is_a_failure_for_now_and_for_everybody_of_it(doors: Doors, server: Slapd) -> None:
    server.stop()
    try:
        for login, password in ((ALICE, PASSWORD), (ALICE, IN_THE_LOG), (ALICE, "x"), ("nobody@example.test", "x")):
            assert told(doors.everywhere(login, password), AWAY)
        assert doors.everywhere(OTHER, IN_THE_LOG) == ["", "", ""]
    finally:
        server.start()
    doors.configure(**section(server))
    assert doors.everywhere(ALICE, PASSWORD) == ["", "", ""]


def test_a_directory_that_hangs_is_waited_for_so_long_and_holds_up_nobody_else(doors: Doors, server: Slapd) -> None:
    assert doors.tried("imaps", ALICE, PASSWORD) == ""  # so that one connection is open
    server.freeze()
    try:
        assert told(doors.everywhere(ALICE, PASSWORD), AWAY)
        assert doors.everywhere(OTHER, IN_THE_LOG) == ["", "", ""]
    finally:
        server.thaw()
    doors.configure(**section(server))
    assert doors.everywhere(ALICE, PASSWORD) == ["", "", ""]


def test_a_directory_with_a_certificate_of_another_authority_lets_nobody_in(
    doors: Doors, server: Slapd, tmp_path: Path
) -> None:
    (tmp_path / "other.pem").write_bytes(certificates.authority("another").pem)
    doors.configure(**section(server, ca_file=tmp_path / "other.pem"))
    assert told(doors.everywhere(ALICE, PASSWORD), AWAY)


def test_what_was_right_is_remembered_for_so_long_and_no_longer(doors: Doors, server: Slapd) -> None:
    doors.configure(**section(server, cache_s=2))
    assert doors.tried("imaps", ALICE, PASSWORD) == ""
    server.change_password("alice", "another one")
    try:
        assert doors.tried("imaps", ALICE, "another one") == ""
        deadline_s = time.monotonic() + 20
        while doors.tried("imaps", ALICE, PASSWORD) == "":
            assert time.monotonic() < deadline_s, "the old password is good for ever"
            time.sleep(0.1)
        assert told(doors.everywhere(ALICE, PASSWORD), WRONG)
    finally:
        server.change_password("alice", PASSWORD)


def test_many_connections_of_a_client_ask_the_directory_once(doors: Doors, server: Slapd) -> None:
    doors.configure(**section(server, cache_s=600))
    assert doors.tried("imaps", ALICE, PASSWORD) == ""
    server.stop()
    try:
        assert [doors.tried("imaps", ALICE, PASSWORD) for _ in range(3)] == ["", "", ""]
        assert "UNAVAILABLE" in doors.tried("imaps", ALICE, PASSWORD + "x")
    finally:
        server.start()


def test_app_passwords_need_no_directory(doors: Doors, server: Slapd) -> None:
    made = doors.cell.call(doors.cell.directory.credentials.add_app_password(ALICE, "phone", ("imap",), None, ADMIN))
    server.stop()
    try:
        assert doors.tried("imaps", ALICE, made) == ""
    finally:
        server.start()


def test_a_disabled_account_stays_outside_with_the_right_password(doors: Doors) -> None:
    cell = doors.cell
    with cell.log.snapshot() as snapshot:
        bob = account_of(snapshot, BOB)
    cell.call(cell.runtime.ask(bob.tenant, DisableAccount(bob.account, "accept", "left"), ADMIN))
    assert "CONTACTADMIN" in doors.tried("imaps", BOB, "secret of bob")
    assert "AUTHENTICATIONFAILED" in doors.tried("imaps", BOB, IN_THE_LOG)


def by_scram(doors: Doors, login: str, password: str) -> bool:
    """Whether another program's SCRAM comes in, and sees that the server knows the password."""
    client = scramp.ScramClient(["SCRAM-SHA-256"], login, password)

    def answer(challenge: bytes) -> bytes:
        if not challenge:
            return str(client.get_client_first()).encode()
        if challenge.startswith(b"v="):
            client.set_server_final(challenge.decode())
            return b""
        client.set_server_first(challenge.decode())
        return str(client.get_client_final()).encode()

    with imaplib.IMAP4_SSL("localhost", doors.port("imaps"), ssl_context=doors.context) as imap_client:
        assert "AUTH=SCRAM-SHA-256" in imap_client.capabilities
        try:
            imap_client.authenticate("SCRAM-SHA-256", answer)
        except imaplib.IMAP4.error:
            return False
    return True


def test_scram_lets_in_whose_password_is_in_the_log_and_nobody_whose_is_in_the_directory(doors: Doors) -> None:
    assert by_scram(doors, OTHER, IN_THE_LOG)
    assert not by_scram(doors, OTHER, PASSWORD)
    for login in (GUEST, "nobody@example.test"):
        assert not by_scram(doors, login, IN_THE_LOG)


def test_an_app_password_proves_itself_by_scram_beside_a_directory(doors: Doors) -> None:
    made = doors.cell.call(doors.cell.directory.credentials.add_app_password(TWINS, "phone", ("imap",), None, ADMIN))
    assert by_scram(doors, TWINS, made)
    assert not by_scram(doors, TWINS, IN_THE_LOG)


def test_scram_is_not_offered_where_only_accounts_of_a_directory_come_in_or_the_file_says_so(doors: Doors) -> None:
    cell = doors.cell

    def offers() -> bool:
        return door(cell.services, "imaps", "192.0.2.1", None).offer.scram

    before = cell.services.config
    try:
        for tenant, offered in (("example", False), ("other", True), ("", True)):
            cell.services.config = before.model_copy(
                update={"tenants": before.tenants.model_copy(update={"imaps": tenant})}
            )
            assert offers() is offered
        cell.services.config = before.model_copy(update={"ldap": before.ldap.model_copy(update={"scram": False})})
        assert not offers()
    finally:
        cell.services.config = before


def test_no_proof_fits_a_password_that_a_directory_has(doors: Doors) -> None:
    logins = doors.cell.directory.logins
    found, nobody = logins.scram_keys(GUEST, "imap"), logins.scram_keys("nobody@example.test", "imap")
    assert (found.candidates, found.iterations, len(found.salt)) == (nobody.candidates, nobody.iterations, 16)
    assert found.salt == logins._fake_salt(GUEST)


# A node


def test_a_node_asks_the_directory_that_its_file_names(run: Run, make_cell: MakeCell, server: Slapd) -> None:
    values = section(server)
    _, config = make_cell(
        *(f"ldap.{key}={values[key]}" for key in ("url", "ca_file", "base", "bind_dn", "bind_password")),
        "ldap.domains=example.test",
    )

    def logs_in(port: int, password: str) -> bool:
        with imaplib.IMAP4("127.0.0.1", port, timeout=10) as client:
            try:
                client.authenticate("PLAIN", lambda _: f"\0{ALICE}\0{password}".encode())
            except imaplib.IMAP4.error:
                return False
        return True

    async def live() -> None:
        async with Node(config).running() as state:
            async with asyncio.timeout(15):
                while state.unready():
                    await asyncio.sleep(0.05)
            assert state.services is not None
            await state.services.directory.add_tenant("example", ["example.test"], ADMIN)
            await state.services.directory.add_account(ALICE, IN_THE_LOG, None, ADMIN)
            port = int(state.endpoints["imap"].rpartition(":")[2])
            assert await asyncio.to_thread(logs_in, port, PASSWORD)
            assert not await asyncio.to_thread(logs_in, port, IN_THE_LOG)

    run(live())


@pytest.mark.parametrize(
    "changed", [{"ca_file": "/nowhere/ca.pem"}, {"filter": "mail={address}"}, {"domains": "no domain"}]
)
def test_a_node_does_not_start_with_a_directory_that_can_not_be_asked(
    run: Run, make_cell: MakeCell, server: Slapd, changed: dict[str, str]
) -> None:
    values = {"url": server.ldaps_url, "domains": "example.test", "filter": "(mail={address})", **changed}
    _, config = make_cell(*(f"ldap.{key}={value}" for key, value in values.items()))

    async def start() -> None:
        async with Node(config).running():
            pass

    with pytest.raises(StartError, match="ldap"):
        run(start())
