"""Mailboxes as they were, over IMAP and POP3, with clients of others: exact UIDs and flags, and nothing can change."""

import imaplib
import json
import poplib
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from chaos.cluster import ClusterError
from tests.acceptance.site import Site, need

TESS = "tess@example.test"
PASSWORD = "correct horse battery"


class Story(NamedTuple):
    """A mailbox that had three messages in INBOX, and then much was done to it."""

    site: Site
    before: str  # the moment, as it stands behind a login
    position: int


@pytest.fixture(scope="module")
def story(site: Site) -> Story:
    site.cluster.command("account", "add", TESS, "--password-stdin", stdin=f"{PASSWORD}\n")
    with imap(site, TESS) as client:
        for number in (1, 2, 3):
            client.append("INBOX", r"(\Seen)" if number == 2 else "", "", message(number))
        client.select("INBOX")
        client.uid("STORE", "3", "+FLAGS", r"(\Flagged $Later)")
        client.create("Projects")
    site.cluster.wait_settled()
    position = json.loads(site.cluster.command("log", "tail", "-n", "1", "--json"))["position"]
    time.sleep(1.1)
    before = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    time.sleep(1.1)
    with imap(site, TESS) as client:
        client.select("INBOX")
        client.uid("STORE", "1", "+FLAGS", r"(\Deleted)")
        client.expunge()
        client.uid("STORE", "3", "-FLAGS", r"(\Flagged)")
        client.uid("COPY", "2", "Archive")
        client.delete("Projects")
        client.append("INBOX", "", "", message(4))
    time.sleep(1.1)  # so that a second ago is after all this
    return Story(site, before, position)


def message(number: int) -> bytes:
    return f"From: a@b.test\r\nSubject: number {number}\r\nMessage-ID: <{number}@t>\r\n\r\nbody {number}\r\n".encode()


def imap(site: Site, login: str, node: int = 0) -> imaplib.IMAP4:
    host, _, port = site.endpoints("imap")[node].rpartition(":")
    client = imaplib.IMAP4(host, int(port), timeout=20)
    client.starttls()
    client.login(login, PASSWORD)
    return client


def uids_and_flags(client: imaplib.IMAP4, folder: str = "INBOX") -> dict[int, set[str]]:
    client.select(folder, readonly=True)
    found = {}
    for line in client.fetch("1:*", "(UID FLAGS)")[1]:
        text = (line if isinstance(line, bytes) else b"").decode()
        flags = set(text.partition("FLAGS (")[2].partition(")")[0].split()) - {r"\Recent"}
        found[int(text.partition("UID ")[2].split()[0].rstrip(")"))] = flags
    return found


def test_a_login_with_a_moment_shows_uids_flags_and_folders_as_they_were_on_every_node(story: Story) -> None:
    for node in range(3):
        with imap(story.site, f"{TESS}@@{story.before}", node) as client:
            assert uids_and_flags(client) == {1: set(), 2: {r"\Seen"}, 3: {r"\Flagged", "$Later"}}
            assert any(b"Projects" in (line if isinstance(line, bytes) else b"") for line in client.list()[1])
            assert b"body 1" in client.uid("FETCH", "1", "BODY.PEEK[TEXT]")[1][0][1]  # expunged since
    with imap(story.site, TESS) as client:
        assert uids_and_flags(client) == {2: {r"\Seen"}, 3: {"$Later"}, 4: set()}


def test_uidvalidity_is_that_of_now_so_that_a_clients_cache_stays_good(story: Story) -> None:
    def validity(login: str) -> bytes:
        with imap(story.site, login) as client:
            client.select("INBOX", readonly=True)
            return bytes(client.response("UIDVALIDITY")[1][0])

    assert validity(TESS) == validity(f"{TESS}@@{story.before}")


@pytest.mark.parametrize("form", ["#{position}", "{compact}", "-1s"])
def test_the_moment_may_be_a_position_a_time_without_colons_or_a_while_ago(story: Story, form: str) -> None:
    compact = story.before.replace("-", "").replace(":", "")
    with imap(story.site, f"{TESS}@@" + form.format(position=story.position, compact=compact)) as client:
        expected = {2, 3, 4} if form == "-1s" else {1, 2, 3}
        assert set(uids_and_flags(client)) == expected


def test_every_write_is_refused_clearly_and_changes_nothing(story: Story) -> None:
    with imap(story.site, f"{TESS}@@{story.before}") as client:
        assert client.select("INBOX", readonly=True)[0] == "OK"
        refusals = [
            client.uid("STORE", "2", "+FLAGS", r"(\Deleted)"),
            client.uid("COPY", "2", "Archive"),
            client.uid("EXPUNGE", "2"),
            client.create("New"),
            client.delete("Trash"),
            client.rename("Trash", "Bin"),
            client.subscribe("INBOX"),
            client.append("INBOX", "", "", message(9)),
        ]
        for answer, text in refusals:
            assert answer == "NO", text
            assert b"nothing can be changed" in text[0]
        assert uids_and_flags(client) == {1: set(), 2: {r"\Seen"}, 3: {r"\Flagged", "$Later"}}


def test_the_log_in_says_what_it_shows(story: Story) -> None:
    host, _, port = story.site.endpoints("imap")[0].rpartition(":")
    with imaplib.IMAP4(host, int(port), timeout=20) as client:
        client.starttls()
        answer = client.login(f"{TESS}@@{story.before}", PASSWORD)[1][0].decode()
        assert f"as of {story.before[:-1]}" in answer
        assert "read-only" in answer


def test_pop3_shows_the_maildrop_as_it_was_and_deletes_nothing(story: Story) -> None:
    host, _, port = story.site.endpoints("pop3")[2].rpartition(":")
    client = poplib.POP3(host, int(port), timeout=20)
    client.stls()
    client.user(f"{TESS}@@{story.before}")
    assert b"read-only" in client.pass_(PASSWORD)
    assert client.stat()[0] == 3
    assert b"body 1" in client.retr(1)[1]
    with pytest.raises(poplib.error_proto, match="nothing can be deleted"):
        client.dele(1)
    client.quit()


@pytest.mark.parametrize(
    ("moment", "says"),
    [("yesterday", "neither a time"), ("#999999999", "no position"), ("2001-01-01", "did not exist"), ("", "neither")],
)
def test_a_moment_that_can_not_be_shown_is_refused_with_the_reason(story: Story, moment: str, says: str) -> None:
    with pytest.raises(imaplib.IMAP4.error, match=says):
        imap(story.site, f"{TESS}@@{moment}")


def test_the_password_is_the_one_of_now(story: Story) -> None:
    host, _, port = story.site.endpoints("imap")[0].rpartition(":")
    with imaplib.IMAP4(host, int(port), timeout=20) as client:
        client.starttls()
        with pytest.raises(imaplib.IMAP4.error, match="AUTHENTICATIONFAILED"):
            client.login(f"{TESS}@@-1s", "not the password")


def test_each_look_back_is_an_event_that_says_who_and_from_where(story: Story) -> None:
    with imap(story.site, f"{TESS}@@#{story.position}"):
        pass
    record = json.loads(story.site.cluster.command("log", "tail", "-n", "1", "--type", "PastViewed", "--json"))
    assert record["by"]["address"] == TESS
    assert record["by"]["origin"].startswith("imap 127.0.0.1:")
    assert record["events"][0]["data"]["position"] <= story.position


def test_looks_back_at_the_same_moment_are_folded_once(story: Story) -> None:
    def looked_at() -> int:
        with imap(story.site, f"{TESS}@@#{story.position}"):
            pass
        record = json.loads(story.site.cluster.command("log", "tail", "-n", "1", "--type", "PastViewed", "--json"))
        return int(record["events"][0]["data"]["position"])

    first = looked_at()
    with imap(story.site, f"{TESS}@@-0s"):
        now = json.loads(story.site.cluster.command("log", "tail", "-n", "1", "--type", "PastViewed", "--json"))
    with imap(story.site, f"{TESS}@@-0s"):
        again = json.loads(story.site.cluster.command("log", "tail", "-n", "1", "--type", "PastViewed", "--json"))
    assert looked_at() == first
    assert again["events"][0]["data"] == now["events"][0]["data"], "a look back is not what the next one looks at"


def test_a_tenant_can_switch_looking_back_off(story: Story) -> None:
    cluster = story.site.cluster
    cluster.command("tenant", "set", "example", "--no-time-travel")
    try:
        shown = cluster.command("tenant", "list").splitlines()
        assert " no " in next(line for line in shown if line.startswith("example "))
        with pytest.raises(imaplib.IMAP4.error, match="switched off"):
            imap(story.site, f"{TESS}@@{story.before}")
    finally:
        cluster.command("tenant", "set", "example", "--time-travel")
    with pytest.raises(ClusterError, match="no tenant"):
        cluster.command("tenant", "set", "nobody", "--time-travel")


def test_mbsync_pulls_the_mailbox_as_it_was(story: Story, tmp_path: Path) -> None:
    port = story.site.endpoints("imaps")[1].rpartition(":")[2]
    (tmp_path / "mail").mkdir()
    (tmp_path / "mbsyncrc").write_text(
        f'''IMAPStore far
Host localhost
Port {port}
User "{TESS}@@{story.before}"
Pass "{PASSWORD}"
SSLType IMAPS
CertificateFile {story.site.ca}

MaildirStore near
Path {tmp_path}/mail/
Inbox {tmp_path}/mail/INBOX
SubFolders Verbatim

Channel all
Far :far:
Near :near:
Patterns INBOX
Create Near
Sync Pull
SyncState *
'''
    )
    command = [need("mbsync"), "-c", str(tmp_path / "mbsyncrc"), "all"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    pulled = sorted(path for path in (tmp_path / "mail" / "INBOX").glob("*/*") if path.is_file())
    assert len(pulled) == 3
    assert sum(b"body 1" in path.read_bytes() for path in pulled) == 1
    flagged = [path for path in pulled if "F" in path.name.partition(":2,")[2]]
    assert len(flagged) == 1
    assert b"body 3" in flagged[0].read_bytes()


# -- restore -------------------------------------------------------------------------------------------------------


class Wreck(NamedTuple):
    """A mailbox that was good at `position`, then wrecked."""

    site: Site
    login: str
    position: int
    good: dict[str, dict[bytes, tuple[frozenset[str], str]]]


def contents(site: Site, login: str) -> dict[str, dict[bytes, tuple[frozenset[str], str]]]:
    """By folder, then by text: flags and internal date, as a client sees them."""
    found: dict[str, dict[bytes, tuple[frozenset[str], str]]] = {}
    with imap(site, login) as client:
        names = [line.decode().rpartition('"/" ')[2].strip('"') for line in client.list()[1] if isinstance(line, bytes)]
        for name in names:
            client.select(f'"{name}"', readonly=True)
            found[name] = {}
            answers = client.uid("FETCH", "1:*", "(FLAGS INTERNALDATE BODY.PEEK[])")[1]
            for head, text in [one for one in answers if isinstance(one, tuple)]:
                flags = frozenset(head.decode().partition("FLAGS (")[2].partition(")")[0].split()) - {r"\Recent"}
                found[name][text] = (flags, head.decode().partition('INTERNALDATE "')[2].partition('"')[0])
    return found


@pytest.fixture
def wreck(site: Site, request: pytest.FixtureRequest) -> Wreck:
    login = f"wreck{abs(hash(request.node.name)) % 10**8}@example.test"
    site.cluster.command("account", "add", login, "--password-stdin", stdin=f"{PASSWORD}\n")
    with imap(site, login) as client:
        client.create("Projects/2026")
        for number in (1, 2, 3, 4):
            client.append(
                "INBOX", r"(\Flagged $Work)" if number == 1 else "", '"01-Feb-2020 10:00:00 +0000"', message(number)
            )
        client.append("Projects/2026", r"(\Seen)", "", message(5))
    site.cluster.wait_settled()
    position = json.loads(site.cluster.command("log", "tail", "-n", "1", "--json"))["position"]
    good = contents(site, login)
    with imap(site, login) as client:
        client.select("INBOX")
        client.uid("STORE", "1", "-FLAGS", r"(\Flagged $Work)")
        client.uid("STORE", "2", "+FLAGS", r"(\Deleted)")
        client.expunge()
        client.uid("MOVE", "3", "Trash")
        client.delete("Projects/2026")
        client.rename("Projects", '"Old projects"')
        client.append("INBOX", "", "", message(9))
    return Wreck(site, login, position, good)


def restore(wreck: Wreck, *arguments: str) -> dict[str, object]:
    as_of = ("--as-of", f"#{wreck.position}")
    answer: dict[str, object] = json.loads(
        wreck.site.cluster.command("mailbox", "restore", wreck.login, *as_of, *arguments, "--json")
    )
    wreck.site.cluster.wait_settled()
    return answer


def test_a_dry_run_shows_the_difference_and_changes_nothing(wreck: Wreck) -> None:
    before = contents(wreck.site, wreck.login)
    answer = restore(wreck, "--dry-run")
    assert answer["changed"] is False
    (inbox,) = [one for one in answer["plan"]["folders"] if one["name"] == "INBOX"]  # type: ignore[index]
    assert inbox["bring_back"] == [2, 3]
    assert inbox["moved_back"] == 1
    assert inbox["flags"] == [{"flags": ["\\Flagged", "$Work"], "uids": [1]}]
    assert contents(wreck.site, wreck.login) == before


def test_a_mailbox_comes_back_with_folders_flags_keywords_and_dates_and_keeps_what_is_newer(wreck: Wreck) -> None:
    assert restore(wreck)["changed"] is True
    now = contents(wreck.site, wreck.login)
    newer = now["INBOX"].pop(message(9))
    assert newer[0] == frozenset()
    assert now == wreck.good
    assert restore(wreck)["changed"] is False


def test_with_drop_newer_the_mailbox_is_exactly_what_it_was(wreck: Wreck) -> None:
    restore(wreck, "--drop-newer")
    assert contents(wreck.site, wreck.login) == wreck.good


def test_one_folder_or_one_message_is_restored_alone(wreck: Wreck) -> None:
    before = contents(wreck.site, wreck.login)
    restore(wreck, "--folder", "INBOX", "--uid", "2")
    now = contents(wreck.site, wreck.login)
    assert now["INBOX"].pop(message(2)) == wreck.good["INBOX"][message(2)]
    assert now == before
    restore(wreck, "--folder", "Projects/2026")
    assert contents(wreck.site, wreck.login)["Projects/2026"] == wreck.good["Projects/2026"]
    with pytest.raises(ClusterError, match="no message with UID 77"):
        restore(wreck, "--folder", "INBOX", "--uid", "77")
    with pytest.raises(ClusterError, match="no folder Nowhere"):
        restore(wreck, "--folder", "Nowhere")


def test_a_restore_is_in_the_audit_trail_and_can_itself_be_undone(wreck: Wreck) -> None:
    wrecked = contents(wreck.site, wreck.login)
    position = json.loads(wreck.site.cluster.command("log", "tail", "-n", "1", "--json"))["position"]
    restore(wreck)
    text = wreck.site.cluster.command("log", "export", "--account", wreck.login, "--since", f"#{position}")
    records = [json.loads(line) for line in text.splitlines()]
    assert any("restore" in record["cause"] and record["by"]["kind"] == "admin" for record in records)
    restore(wreck._replace(position=position), "--drop-newer")
    undone = contents(wreck.site, wreck.login)
    assert {name: undone[name] for name in wrecked} == wrecked


def folders_of(site: Site, login: str, *names: str) -> imaplib.IMAP4:
    """An account with those folders, each with an inferior, and one message in each of them; logged in."""
    site.cluster.command("account", "add", login, "--password-stdin", "--quota", "1 MiB", stdin=f"{PASSWORD}\n")
    client = imap(site, login)
    for number, name in enumerate(name for one in names for name in (one, f"{one}/inner")):
        client.create(name)
        client.append(name, "", "", message(number))
    return client


def rename_over_what_was_deleted(client: imaplib.IMAP4) -> None:
    client.delete("Q/inner")
    client.delete("Q")
    client.rename("P", "Q")


def exchange_names(client: imaplib.IMAP4) -> None:
    for old, new in (("P", "T"), ("Q", "P"), ("R", "Q"), ("T", "R")):
        client.rename(old, new)


def lift_above_itself(client: imaplib.IMAP4) -> None:
    client.rename("P/inner", "T")
    client.delete("P")
    client.rename("T", "P")


@pytest.mark.parametrize("confuse", [rename_over_what_was_deleted, exchange_names, lift_above_itself])
def test_folders_get_their_own_messages_and_names_back_whatever_is_called_like_them_now(
    site: Site, confuse: Callable[[imaplib.IMAP4], None]
) -> None:
    login = f"{confuse.__name__.replace('_', '-')}@example.test"
    with folders_of(site, login, "P", "Q", "R") as client:
        site.cluster.wait_settled()
        position = json.loads(site.cluster.command("log", "tail", "-n", "1", "--json"))["position"]
        wreck = Wreck(site, login, position, contents(site, login))
        confuse(client)
    restore(wreck, "--drop-newer")
    assert contents(site, login) == wreck.good
    assert restore(wreck, "--drop-newer")["changed"] is False


def test_what_was_moved_away_comes_back_though_the_quota_has_no_room_for_it_twice(site: Site) -> None:
    login = "narrow@example.test"
    with folders_of(site, login) as client:
        for number in range(8):
            client.append("INBOX", "", "", message(number) + b"x" * 100_000 + b"\r\n")
        site.cluster.wait_settled()
        position = json.loads(site.cluster.command("log", "tail", "-n", "1", "--json"))["position"]
        wreck = Wreck(site, login, position, contents(site, login))
        client.select("INBOX")
        client.uid("MOVE", "1:*", "Trash")
    restore(wreck)
    assert contents(site, login) == wreck.good
