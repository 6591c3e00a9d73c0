"""The life of a tenant by the command line, on a cluster of three processes with real clients."""

from __future__ import annotations

import imaplib
import json
import smtplib
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest
from click.testing import CliRunner

from cli.main import main
from tests.acceptance.site import Site

T = TypeVar("T")


class Shell:
    """The `mailraft` command on this cluster."""

    def __init__(self, site: Site) -> None:
        self._environment = {"MAILRAFT_CLUSTER": str(site.cluster.folder)}

    def run(self, *arguments: str, exit_code: int = 0, given: str | None = None) -> str:
        """Gives what is said on both outputs."""
        result = CliRunner().invoke(main, list(arguments), env=self._environment, input=given)
        assert result.exit_code == exit_code, result.output
        return result.output

    def json(self, *arguments: str) -> dict[str, object]:
        """The JSON document of standard output."""
        result = CliRunner().invoke(main, [*arguments, "--json"], env=self._environment)
        assert result.exit_code == 0, result.output
        found: dict[str, object] = json.loads(result.stdout)
        return found


@pytest.fixture(scope="module")
def shell(site: Site) -> Shell:
    made = Shell(site)
    made.run("tenant", "add", "acme", "--domain", "acme.test")
    made.run("account", "add", "wile@acme.test", "--password-stdin", given=f"{site.password}\n")
    made.run("account", "add", "road@acme.test", "--password-stdin", given=f"{site.password}\n")
    return made


def imap(site: Site, node: int = 0) -> imaplib.IMAP4_SSL:
    host, _, port = site.endpoints("imaps")[node].rpartition(":")
    return imaplib.IMAP4_SSL(host, int(port), ssl_context=ssl.create_default_context(cafile=site.ca), timeout=20)


def smtp(site: Site, node: int = 0) -> smtplib.SMTP:
    host, _, port = site.endpoints("smtp")[node].rpartition(":")
    return smtplib.SMTP(host, int(port), timeout=20)


def use_until_it_ends(session: imaplib.IMAP4_SSL) -> None:
    """A node may fold the suspension a moment later."""
    while True:
        session.noop()


def test_a_suspension_holds_on_every_node_and_ends_sessions_there(site: Site, shell: Shell) -> None:
    sessions = [imap(site, node) for node in range(3)]
    for session in sessions:
        session.login("wile@acme.test", site.password)
    shell.run("tenant", "suspend", "acme", "--reason", "unpaid", "--mail", "refuse")
    assert "suspended" in shell.run("tenant", "show", "acme")
    for node, session in enumerate(sessions):
        with pytest.raises(imaplib.IMAP4.abort):
            use_until_it_ends(session)
        with pytest.raises(imaplib.IMAP4.error, match="CONTACTADMIN"):
            imap(site, node).login("wile@acme.test", site.password)
        with smtp(site, node) as client:
            client.ehlo()
            client.mail("sender@remote.test")
            assert client.rcpt("wile@acme.test") == (550, b"5.2.1 The organisation's service is suspended")
    shell.run("tenant", "resume", "acme")
    assert imap(site).login("wile@acme.test", site.password)[0] == "OK"


def test_mail_for_a_group_reaches_its_members_and_the_quota_counts_it(site: Site, shell: Shell) -> None:
    shell.run("group", "add", "all@acme.test", "wile@acme.test", "road@acme.test")
    with smtp(site) as client:
        client.sendmail("sender@remote.test", ["all@acme.test"], b"Subject: to all\r\n\r\nall\r\n")
    for name in ("wile", "road"):
        session = imap(site, 1)
        session.login(f"{name}@acme.test", site.password)
        assert session.select("INBOX") == ("OK", [b"1"])
    shell.run("group", "remove-member", "all@acme.test", "road@acme.test")
    assert shell.json("group", "show", "all@acme.test")["members"] == ["wile@acme.test"]
    shell.run("quota", "set", "acme", "messages=2", "accounts=3")
    with smtp(site, 2) as client, pytest.raises(smtplib.SMTPRecipientsRefused):
        client.sendmail("sender@remote.test", ["all@acme.test"], b"Subject: again\r\n\r\nall\r\n")
    said = shell.run("account", "add", "c@acme.test", "--password-stdin", exit_code=1, given=f"{site.password}\n")
    assert "as many accounts as it may" in said
    shell.run("quota", "recount", "acme")
    shell.run("quota", "set", "acme", "messages=none", "accounts=none")


def test_a_tenant_is_updated_loses_a_domain_and_comes_back_from_deletion(site: Site, shell: Shell) -> None:
    shell.run("tenant", "update", "acme", "--title", "Acme Ltd", "--contact", "wile@acme.test")
    shell.run("tenant", "add-domain", "acme", "acme2.test")
    said = shell.run("tenant", "remove-domain", "acme", "acme.test", "--yes", exit_code=1)
    assert "still in that domain" in said
    shell.run("tenant", "remove-domain", "acme", "acme2.test", "--yes")
    shell.run("tenant", "delete", "acme", "--grace", "1h", "--yes")
    found = shell.json("tenant", "show", "acme")
    assert (found["state"], found["domains"], found["title"]) == ("deleting", ["acme.test"], "Acme Ltd")
    shell.run("tenant", "undelete", "acme")
    assert shell.json("tenant", "show", "acme")["state"] == "active"


def test_accounts_come_from_a_file_and_the_same_file_again_changes_nothing(
    site: Site, shell: Shell, tmp_path: Path
) -> None:
    file = tmp_path / "accounts.csv"
    people = [f"p{number}@acme.test" for number in range(450)]
    file.write_text("address,password,quota\n" + "".join(f"{one},,2 GiB\n" for one in people))
    shell.run("account", "import", str(file))
    assert shell.json("account", "import", str(file)) == {"added": 0, "exists": 450, "refused": 0, "refusals": []}
    listed = shell.json("account", "list", "--tenant", "acme")["accounts"]
    assert isinstance(listed, list)
    assert len(listed) == 453
    assert {one["quota_bytes"] for one in listed if one["address"] in people} == {2 << 30}
    lines = tmp_path / "accounts.jsonl"
    people = [json.dumps({"address": "q@acme.test", "password": site.password}), '{"address": "q@nowhere.test"}']
    lines.write_text("\n".join(people))
    said = shell.run("account", "import", str(lines), exit_code=1)
    assert "q@nowhere.test: nowhere.test is not one of our domains" in said
    assert imap(site).login("q@acme.test", site.password)[0] == "OK"
    shell.run("quota", "recount", "acme")
    lines.write_text('{"address": "r@acme.test", "pasword": "x"}\n')
    assert "line 1: pasword: there is no such field" in shell.run("account", "import", str(lines), exit_code=1)


def test_sessions_of_an_account_are_limited_over_all_nodes(site: Site, shell: Shell) -> None:
    shell.run("policy", "set", "acme", "account_sessions=2")
    try:
        held = [imap(site, node) for node in (0, 1)]
        for session in held:
            session.login("road@acme.test", site.password)
        said = until(lambda: refusal(site, "road@acme.test"))
        assert said == "[LIMIT] your account has 2 sessions open, and may have no more"
        held[0].logout()
        assert until(lambda: refusal(site, "road@acme.test") == "")
        held[1].logout()
    finally:
        shell.run("policy", "reset", "acme", "account_sessions")


def test_who_was_sent_too_much_is_told_that_answers_come_slowly(site: Site, shell: Shell) -> None:
    shell.run("policy", "set", "acme", "account_bytes_per_hour=20480")
    try:
        session = imap(site)
        session.login("road@acme.test", site.password)
        session.append("INBOX", "", "", b"Subject: large\r\n\r\n" + b"x" * 60_000 + b"\r\n")
        session.select("INBOX")
        session.send(b"a1 UID FETCH 1:* BODY.PEEK[]\r\n")
        lines = [session.readline()]
        while not lines[-1].startswith(b"* OK [ALERT]"):
            lines.append(session.readline())
        assert b"answers come slowly" in lines[-1]
        assert lines[-2].startswith(b"a1 OK")
        session.shutdown()
    finally:
        shell.run("policy", "reset", "acme", "account_bytes_per_hour")


def refusal(site: Site, address: str) -> str:
    """Why one more log-in is refused at the third node; "" where it is not."""
    session = imap(site, 2)
    try:
        session.login(address, site.password)
    except imaplib.IMAP4.error as error:
        return str(error).removeprefix("b'").removesuffix("'")
    session.logout()
    return ""


def until(holds: Callable[[], T], timeout_s: float = 20.0) -> T:
    """What it gives as soon as that is something; nodes tell each other every second."""
    deadline_s = time.monotonic() + timeout_s
    while not (found := holds()):
        assert time.monotonic() < deadline_s
        time.sleep(0.3)
    return found
