"""Thunderbird end to end: folders, messages, flags, moves, appends and what happens elsewhere, through its own code.

With --rewrite-scripts what it says is taken down, for test_recorded_sessions.py to play where there is no Thunderbird.
"""

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.acceptance.site import need
from tests.nodes.imap.client import RawClient
from tests.nodes.imap.node import PASSWORD, Node, User
from tests.nodes.imap.recorded import SESSIONS, Relay
from tests.peers.thunderbird import Thunderbird


def mail(subject: str, text: str = "a text") -> bytes:
    name = subject.replace(" ", "-")
    head = f"From: A <a@elsewhere.test>\r\nTo: me@example.test\r\nSubject: {subject}\r\nMessage-ID: <{name}@x.test>\r\n"
    return f"{head}Date: Mon, 1 Jan 2024 00:00:00 +0000\r\n\r\n{text}\r\n".encode()


class Desk(NamedTuple):
    """A running Thunderbird whose account it is."""

    program: Thunderbird
    node: Node
    user: User
    relay: Relay | None

    def deliver(self, subject: str, text: str = "a text") -> None:
        if self.relay is not None:
            self.relay.note(f"deliver {subject}")
        self.node.deliver(self.user, mail(subject, text))

    def elsewhere(self, *commands: str) -> list[bytes]:
        """A session besides; what the last command is answered with."""
        client = RawClient(self.node.port)
        client.ok(f'LOGIN {self.user.login} "{PASSWORD}"')
        for command in commands:
            if self.relay is not None:
                self.relay.note(command)
            told = client.ok(command)
        client.close()
        return told

    def held(self, folder: str) -> dict[int, tuple[str, ...]]:
        """Flags by UID, as the node's tables have it."""
        return {uid: flags for name, uid, flags in self.node.held(self.user) if name == folder}

    def wait_for_idle(self) -> None:
        """It waits in INBOX: what comes between two of its commands it notes, and shows when it looks again."""
        self.wait(lambda: self.node.idles(self.user, "INBOX"))

    def wait(self, reached: Callable[[], bool]) -> None:
        """Until the node has it: Thunderbird goes on before it was answered."""
        deadline = time.monotonic() + 30
        while not reached():
            assert time.monotonic() < deadline, self.node.held(self.user)
            time.sleep(0.02)


@pytest.fixture(scope="module")
def desk(node: Node, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Desk]:
    program = need("thunderbird")
    user = node.add_user()
    relay = Relay(node.port) if request.config.getoption("--rewrite-scripts") else None
    preferences = {"mail.server.default.use_compress_deflate": relay is None}
    with Thunderbird(program, tmp_path_factory.mktemp("thunderbird"), preferences) as running:
        desk = Desk(running, node, user, relay)
        for number in range(6):
            desk.deliver(f"number {number}")
        running.add_account(node.port if relay is None else relay.port, user.login, PASSWORD)
        yield desk
    if relay is not None:
        relay.close()
        version = subprocess.run([program, "--version"], capture_output=True, text=True).stdout.strip()
        head = f"# {version}, as it was on the wire in tests/nodes/imap/test_thunderbird.py\n"
        (SESSIONS / "thunderbird.txt").write_text(head + "\n".join(relay.lines) + "\n", errors="surrogateescape")


def test_thunderbird_lists_the_folders_with_what_they_are_for(desk: Desk) -> None:
    found = desk.program.run(
        """
        const uses = ["Inbox", "Archive", "Drafts", "Junk", "SentMail", "Trash"];
        const use = folder => uses.find(one => folder.getFlag(Ci.nsMsgFolderFlags[one]));
        return server().rootFolder.subFolders.map(one => [one.name, use(one)]);
        """
    )
    assert sorted(map(tuple, found)) == [
        ("Archive", "Archive"),
        ("Drafts", "Drafts"),
        ("INBOX", "Inbox"),
        ("Junk", "Junk"),
        ("Sent", "SentMail"),
        ("Trash", "Trash"),
    ]


def test_thunderbird_reads_messages_as_they_came(desk: Desk) -> None:
    subjects = desk.program.run("""await update("INBOX"); return subjects("INBOX");""")
    assert subjects == [f"number {number}" for number in range(6)]
    text = desk.program.run(
        """
        const uri = folder("INBOX").getUriForMsg(named("INBOX", "number 3"));
        return await new Promise((resolve, reject) => {
          let text = "";
          const into = Cc["@mozilla.org/scriptableinputstream;1"].createInstance(Ci.nsIScriptableInputStream);
          MailServices.messageServiceFromURI(uri).streamMessage(uri, {
            QueryInterface: ChromeUtils.generateQI(["nsIStreamListener", "nsIRequestObserver"]),
            onStartRequest() {},
            onStopRequest(_, status) { Components.isSuccessCode(status) ? resolve(text) : reject(new Error(status)); },
            onDataAvailable(_, stream, __, count) { into.init(stream); text += into.read(count); },
          }, null, null, false, "", false);
        });
        """
    )
    assert text.replace("\r\n", "\n") == mail("number 3").decode().replace("\r\n", "\n")


def test_thunderbird_marks_messages(desk: Desk) -> None:
    desk.program.run(
        """
        await update("INBOX");
        folder("INBOX").markMessagesRead([named("INBOX", "number 0"), named("INBOX", "number 1")], true);
        folder("INBOX").markMessagesFlagged([named("INBOX", "number 1")], true);
        folder("INBOX").addKeywordsToMessages([named("INBOX", "number 2")], "$label1");
        """
    )
    desk.wait(lambda: desk.held("INBOX").get(2) == ("\\Seen", "\\Flagged") and "$label1" in desk.held("INBOX")[3])
    assert desk.held("INBOX")[1] == ("\\Seen",)


def test_thunderbird_moves_copies_and_throws_away(desk: Desk) -> None:
    desk.program.run(
        """
        await update("INBOX");
        const inbox = folder("INBOX");
        const copy = (subject, to, move) => copying(hear => MailServices.copy.copyMessages(
          inbox, [named("INBOX", subject)], folder(to), move, hear, null, false));
        await copy("number 4", "Archive", true);
        await copy("number 5", "Archive", false);
        await copying(hear => inbox.deleteMessages([named("INBOX", "number 3")], null, false, false, hear, false));
        await update("Archive");
        await until(() => subjects("Archive").join() == "number 4,number 5", "the copies");
        """
    )
    desk.wait(lambda: sorted(desk.held("INBOX")) == [1, 2, 3, 6] and len(desk.held("Trash")) == 1)
    assert len(desk.held("Archive")) == 2


def test_thunderbird_makes_renames_and_removes_folders(desk: Desk) -> None:
    desk.program.run(
        """
        server().rootFolder.createSubfolder("Entwürfe & Ähnliches", null);
        await until(() => folder("Entwürfe & Ähnliches"));
        folder("Entwürfe & Ähnliches").createSubfolder("below", null);
        await until(() => folder("Entwürfe & Ähnliches/below"));
        folder("Entwürfe & Ähnliches/below").rename("renamed", null);
        await until(() => folder("Entwürfe & Ähnliches/renamed"));
        """
    )
    told = desk.elsewhere("ENABLE IMAP4rev2", 'LIST (SUBSCRIBED) "" *')
    assert '"Entwürfe & Ähnliches/renamed"' in [line.rpartition(b' "/" ')[2].decode() for line in told]
    desk.program.run(
        """
        const doomed = folder("Entwürfe & Ähnliches/renamed");
        doomed.QueryInterface(Ci.nsIMsgImapMailFolder);
        await url(hear => MailServices.imap.deleteFolder(doomed, hear, null));
        """
    )
    assert not any(b"renamed" in line for line in desk.elsewhere('LIST "" *'))


def test_thunderbird_keeps_a_draft(desk: Desk, tmp_path: Path) -> None:
    draft = tmp_path / "draft.eml"
    draft.write_bytes(mail("a draft", "Grüße"))
    desk.program.run(
        """
        const file = Cc["@mozilla.org/file/local;1"].createInstance(Ci.nsIFile);
        file.initWithPath(args[0]);
        await copying(hear => MailServices.copy.copyFileMessage(
          file, folder("Drafts"), null, true, Ci.nsMsgMessageFlags.Read, "", hear, null));
        await update("Drafts");
        await until(() => subjects("Drafts").join() == "a draft");
        """,
        str(draft),
    )
    assert list(desk.held("Drafts").values()) == [("\\Seen", "\\Draft")]


def test_thunderbird_searches_on_the_server(desk: Desk) -> None:
    desk.deliver("with a needle", "somewhere in a haystack: xyzzy")
    found = desk.program.run(
        """
        await update("INBOX");
        await until(() => named("INBOX", "with a needle"));
        const session = Cc["@mozilla.org/messenger/searchSession;1"].createInstance(Ci.nsIMsgSearchSession);
        session.addScopeTerm(Ci.nsMsgSearchScope.onlineMail, folder("INBOX"));
        const term = session.createTerm();
        const value = term.value;
        term.attrib = Ci.nsMsgSearchAttrib.Body; term.op = Ci.nsMsgSearchOp.Contains;
        value.attrib = term.attrib; value.str = "xyzzy"; term.value = value;
        session.appendTerm(term);
        return await new Promise(resolve => {
          const hits = [];
          session.registerListener({
            QueryInterface: ChromeUtils.generateQI(["nsIMsgSearchNotify"]),
            onSearchHit(header) { hits.push(header.mime2DecodedSubject); },
            onSearchDone() { resolve(hits); },
            onNewSearch() {},
          });
          session.search(null);
        });
        """
    )
    assert found == ["with a needle"]


def test_thunderbird_is_told_while_it_waits_of_what_comes_changes_and_goes(desk: Desk) -> None:
    desk.program.run("""await update("INBOX"); await until(() => named("INBOX", "number 0"));""")
    desk.wait_for_idle()
    desk.deliver("while you wait")
    desk.program.run("""await until(() => named("INBOX", "while you wait"));""")
    uid = max(desk.held("INBOX"))
    desk.wait_for_idle()
    desk.elsewhere("SELECT INBOX", f"UID STORE {uid} +FLAGS (\\Flagged)")
    desk.program.run("""await until(() => named("INBOX", "while you wait").isFlagged);""")
    desk.wait_for_idle()
    desk.elsewhere("SELECT INBOX", f"UID STORE {uid} +FLAGS (\\Deleted)")
    desk.wait_for_idle()
    desk.elsewhere("SELECT INBOX", f"UID EXPUNGE {uid}")
    desk.program.run("""await until(() => !named("INBOX", "while you wait"));""")
