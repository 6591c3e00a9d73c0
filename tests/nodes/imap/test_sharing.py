"""ACL (RFC 4314), LIST-MYRIGHTS (RFC 8440), NAMESPACE (RFC 2342): folders that accounts of a tenant share."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest

from actors.mailbox import EVERY, ChangeFlags, CreateFolder, OpenMailbox, PastViewed, SetRights
from actors.mailbox_acl import ANYONE
from actors.sharing import NoteShare, public_stream
from eventlog.record import new_id
from nodes.imap import transfer
from tests.nodes.imap.client import RawClient
from tests.nodes.imap.node import ADMIN, PASSWORD, Node, User

MAIL = b"Subject: shared\r\n\r\ntext\r\n"


class Pair(NamedTuple):
    """An owner with a folder called Team, and a colleague: who they are, and a session of each."""

    owner: User
    colleague: User
    own: RawClient
    other: RawClient

    @property
    def team(self) -> str:
        """What the colleague calls the folder."""
        return f'"Other Users/{self.owner.login}/Team"'

    def grant(self, rights: str, folder: str = "Team") -> None:
        self.own.ok(f"SETACL {folder} {self.colleague.login} {rights}")


@pytest.fixture
def session(node: Node) -> Iterator[Callable[[User], RawClient]]:
    made: list[RawClient] = []

    def make(user: User) -> RawClient:
        client = RawClient(node.port)
        made.append(client)
        client.ok(f'LOGIN {user.login} "{PASSWORD}"')
        return client

    yield make
    for client in made:
        client.close()


Sessions = Callable[[User], RawClient]


@pytest.fixture
def pair(node: Node, session: Sessions) -> Pair:
    owner, colleague = node.add_user(), node.add_user()
    made = Pair(owner, colleague, session(owner), session(colleague))
    made.own.ok("CREATE Team")
    made.own.append("Team", MAIL)
    return made


def refused(client: RawClient, command: str) -> bytes:
    """What a command is refused with."""
    last = client.command(command)[-1]
    assert last.startswith(b"NO "), last
    return last


# -- ACL: the lists


def test_rfc_4314_3_1_rights_are_set_added_removed_and_shown(pair: Pair) -> None:
    whom = pair.colleague.login
    pair.grant("lr")
    pair.grant("+iw")
    pair.grant("-w")
    pair.own.ok("SETACL Team anyone l")
    pair.own.ok(f"SETACL Team -{whom} t")
    owner, colleague = pair.owner.login.encode(), whom.encode()
    (line,) = pair.own.ok("GETACL Team")
    assert line == (b'* ACL "Team" %b lrswipkxteacd anyone l %b lri -%b td' % (owner, colleague, colleague))
    pair.own.ok(f"DELETEACL Team {whom}")
    assert b" %b " % colleague not in pair.own.ok("GETACL Team")[0]


def test_rfc_4314_3_5_one_asks_for_ones_own_rights(pair: Pair) -> None:
    assert pair.own.ok("MYRIGHTS Team") == [b'* MYRIGHTS "Team" lrswipkxteacd']
    pair.grant("lrk")
    assert pair.other.ok(f"MYRIGHTS {pair.team}") == [b"* MYRIGHTS %b lrkc" % pair.team.encode()]


def test_rfc_4314_3_7_the_rights_that_may_be_given(pair: Pair) -> None:
    (line,) = pair.own.ok(f"LISTRIGHTS Team {pair.colleague.login}")
    assert line == b'* LISTRIGHTS "Team" %b "" l r s w i p k x t e a c d' % pair.colleague.login.encode()
    (own,) = pair.own.ok(f"LISTRIGHTS Team {pair.owner.login}")
    assert own.endswith(b" lrswipkxteacd")


def test_rfc_4314_3_1_an_unknown_right_is_bad_and_an_unknown_identifier_refused(pair: Pair) -> None:
    assert pair.own.command(f"SETACL Team {pair.colleague.login} lrQ")[-1].startswith(b"BAD ")
    assert refused(pair.own, "SETACL Team nobody@example.test lr").startswith(b"NO [CANNOT]")
    assert refused(pair.own, f"SETACL Team {pair.owner.login} lr").startswith(b"NO [CANNOT]")


def test_lists_are_read_and_written_with_the_right_a_alone(pair: Pair) -> None:
    pair.grant("lr")
    assert refused(pair.other, f"GETACL {pair.team}").startswith(b"NO [NOPERM]")
    assert refused(pair.other, f"SETACL {pair.team} anyone lr").startswith(b"NO [NOPERM]")
    pair.grant("lra")
    pair.other.ok(f"SETACL {pair.team} anyone l")
    assert b" anyone l" in pair.own.ok("GETACL Team")[0]


def test_negative_rights_are_taken_from_what_is_granted(pair: Pair) -> None:
    pair.own.ok("SETACL Team anyone lr")
    pair.other.ok(f"STATUS {pair.team} (MESSAGES)")
    pair.own.ok(f"SETACL Team -{pair.colleague.login} r")
    assert refused(pair.other, f"STATUS {pair.team} (MESSAGES)").startswith(b"NO [NOPERM]")


# -- who sees what


def test_rfc_2342_the_namespaces_are_told(pair: Pair) -> None:
    assert pair.other.ok("NAMESPACE") == [b'* NAMESPACE (("" "/")) (("Other Users/" "/")) (("Public/" "/"))']


def test_a_shared_folder_is_listed_with_its_rights_and_status(pair: Pair) -> None:
    theirs = f'LIST "Other Users/{pair.owner.login}/" *'
    assert pair.other.ok(theirs) == []
    pair.grant("lr")
    name = pair.team.encode()
    lines = pair.other.ok(f"{theirs} RETURN (MYRIGHTS STATUS (MESSAGES))")
    assert b'* LIST (\\HasNoChildren) "/" ' + name in lines
    assert b"* MYRIGHTS " + name + b" lr" in lines
    assert b"* STATUS " + name + b" (MESSAGES 1)" in lines
    pair.other.ok(f"SUBSCRIBE {pair.team}")
    assert b'* LSUB () "/" ' + name in pair.other.ok('LSUB "" *')


def test_rfc_4314_6_what_one_may_not_know_of_is_not_there(pair: Pair) -> None:
    team = pair.team.strip('"')
    absent, nobody = team.replace("Team", "absent"), "Other Users/nobody@example.test/Team"
    commands = ("SELECT", "STATUS", "MYRIGHTS", "GETACL", "DELETE", "CREATE", "GETMETADATA", "GETQUOTAROOT")
    behind = {"STATUS": " (MESSAGES)", "GETMETADATA": " /private/comment"}
    for command in commands:
        below = "/below" if command == "CREATE" else ""
        texts = [f'{command} "{name}{below}"{behind.get(command, "")}' for name in (team, absent, nobody)]
        hidden, *others = [refused(pair.other, text) for text in texts]
        assert others == [hidden, hidden], command
        assert hidden.startswith(b"NO [NONEXISTENT] no such mailbox")


def test_nothing_is_shared_across_tenants(node: Node, pair: Pair, session: Sessions) -> None:
    node.call(node.directory.add_tenant("elsewhere", ["elsewhere.test"], ADMIN))
    account = node.call(node.directory.add_account("eve@elsewhere.test", PASSWORD, None, ADMIN))
    eve = session(User("eve@elsewhere.test", account, b""))
    assert refused(pair.own, "SETACL Team eve@elsewhere.test lr").startswith(b"NO [CANNOT]")
    pair.own.ok("SETACL Team anyone lrswipkxtea")
    assert refused(eve, f"SELECT {pair.team}").startswith(b"NO [NONEXISTENT]")
    assert eve.ok('LIST "" "Other Users/*"') == []


# -- what one may do there


def test_with_lr_one_reads_and_changes_nothing(node: Node, pair: Pair) -> None:
    pair.grant("lr")
    lines = pair.other.command(f"SELECT {pair.team}")
    assert b"* OK [PERMANENTFLAGS ()] flags that are kept" in lines
    assert lines[-1].startswith(b"OK [READ-ONLY]")
    assert pair.other.ok("FETCH 1 BODY[]") == [b"* 1 FETCH (BODY[] {%d}\r\n%b)" % (len(MAIL), MAIL)]
    assert pair.other.ok("SEARCH SUBJECT shared") == [b"* SEARCH 1"]
    refused(pair.other, "STORE 1 +FLAGS (\\Seen)")
    refused(pair.other, "EXPUNGE")
    head = f"APPEND {pair.team} {{{len(MAIL)}+}}\r\n".encode()
    assert pair.other.command(head + MAIL)[-1].startswith(b"NO [NOPERM]")
    assert node.held(pair.owner) == [("Team", 1, ())]


def test_rfc_4314_4_flags_are_changed_as_far_as_rights_go(node: Node, pair: Pair) -> None:
    pair.own.ok("SELECT Team")
    pair.own.ok("STORE 1 FLAGS (\\Seen \\Answered)")
    pair.grant("lrw")
    lines = pair.other.command(f"SELECT {pair.team}")
    assert b"* OK [PERMANENTFLAGS (\\Answered \\Flagged \\Draft \\*)] flags that are kept" in lines
    pair.other.ok("STORE 1 FLAGS (\\Flagged \\Deleted)")
    assert node.held(pair.owner) == [("Team", 1, ("\\Seen", "\\Flagged"))]
    assert refused(pair.other, "STORE 1 +FLAGS (\\Deleted)").startswith(b"NO [NOPERM]")


def test_seen_is_one_for_all_and_set_by_reading_where_that_is_allowed(node: Node, pair: Pair) -> None:
    pair.grant("lrs")
    pair.other.ok(f"SELECT {pair.team}")
    pair.other.ok("FETCH 1 BODY[]")
    assert node.held(pair.owner) == [("Team", 1, ("\\Seen",))]


def test_rfc_4314_4_messages_are_added_with_i_and_keep_the_flags_that_one_may_set(node: Node, pair: Pair) -> None:
    pair.grant("lriw")
    assert pair.other.append(pair.team, MAIL, "(\\Seen \\Flagged \\Deleted) ").startswith(b"OK [APPENDUID ")
    assert node.held(pair.owner)[-1] == ("Team", 2, ("\\Flagged",))


def test_rfc_4314_4_messages_are_removed_with_t_and_e(node: Node, pair: Pair) -> None:
    pair.grant("lrt")
    pair.other.ok(f"SELECT {pair.team}")
    pair.other.ok("STORE 1 +FLAGS.SILENT (\\Deleted)")
    assert refused(pair.other, "EXPUNGE").startswith(b"NO [NOPERM]")
    pair.other.ok("CLOSE")
    assert len(node.held(pair.owner)) == 1
    pair.grant("+e")
    pair.other.ok(f"SELECT {pair.team}")
    assert pair.other.ok("EXPUNGE") == [b"* 1 EXPUNGE"]
    assert node.held(pair.owner) == []


def test_messages_are_copied_and_moved_between_ones_own_and_anothers(node: Node, pair: Pair) -> None:
    pair.grant("lrite")
    pair.other.append("INBOX", b"Subject: mine\r\n\r\nx\r\n", "(\\Flagged) ")
    pair.other.ok("SELECT INBOX")
    assert b"COPYUID" in pair.other.command(f"COPY 1 {pair.team}")[-1]
    untagged = pair.other.ok(f"UID MOVE 1 {pair.team}")
    assert untagged[0].startswith(b"* OK [COPYUID ")
    assert b"* 1 EXPUNGE" in untagged
    assert [uid for _, uid, _ in node.held(pair.owner)] == [1, 2, 3]
    assert node.held(pair.colleague) == []
    pair.other.ok(f"SELECT {pair.team}")
    assert pair.other.ok("UID MOVE 1:3 INBOX")[0].startswith(b"* OK [COPYUID ")
    assert node.held(pair.owner) == []
    pair.other.ok("SELECT INBOX")
    assert [line.split(b"\r\n")[1] for line in pair.other.ok("FETCH 1:* BODY.PEEK[HEADER.FIELDS (SUBJECT)]")] == [
        b"Subject: shared",
        b"Subject: mine",
        b"Subject: mine",
    ]


def test_a_move_that_may_not_remove_moves_nothing(node: Node, pair: Pair) -> None:
    pair.grant("lri")
    pair.other.ok(f"SELECT {pair.team}")
    assert refused(pair.other, "MOVE 1 INBOX").startswith(b"NO [NOPERM]")
    assert (len(node.held(pair.owner)), node.held(pair.colleague)) == (1, [])


def test_a_flag_that_is_set_while_a_message_moves_goes_with_it(
    node: Node, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look at the messages and the record that moves them."""
    given = transfer._given
    folder = node.folder_id(pair.owner, "Team")

    async def marked_first(*arguments: Any) -> Any:
        monkeypatch.setattr(transfer, "_given", given)
        store = ChangeFlags(folder, (1,), "add", ("\\Flagged",))
        await node.runtime.ask(pair.owner.account, store, ADMIN._replace(tenant=pair.owner.tenant))
        return await given(*arguments)

    monkeypatch.setattr(transfer, "_given", marked_first)
    pair.grant("lrswite")
    pair.other.ok(f"SELECT {pair.team}")
    pair.other.ok("UID MOVE 1 INBOX")
    assert node.held(pair.owner) == []
    assert node.held(pair.colleague) == [("INBOX", 1, ("\\Flagged",))]


def test_two_who_move_the_same_messages_at_once_have_each_of_them_once(
    node: Node, pair: Pair, session: Sessions
) -> None:
    pair.grant("lrswite")
    for number in range(19):
        pair.own.append("Team", b"Subject: %d\r\n\r\nx\r\n" % number)
    again = session(pair.colleague)
    for client in (pair.other, again):
        client.ok(f"SELECT {pair.team}")
    for client in (pair.other, again):
        client.send(b"x MOVE 1:20 INBOX\r\n")
    for client in (pair.other, again):
        client.until(b"x")
    assert (len(node.held(pair.owner)), len(node.held(pair.colleague))) == (0, 20)


def test_what_is_made_or_renamed_below_an_address_does_not_tell_who_is_there(pair: Pair) -> None:
    for command in ('CREATE "Other Users/{}/a//b"', 'RENAME INBOX "Other Users/{}/new"'):
        answers = [
            pair.other.command(command.format(one)) for one in (pair.owner.login, "nobody@example.test", "a@b.example")
        ]
        assert answers[0] == answers[1] == answers[2]


def test_a_reader_does_not_use_up_the_owners_room_for_annotations(pair: Pair) -> None:
    pair.grant("lr")
    for first in range(0, 400, 200):
        entries = " ".join(f'/private/{number} "x"' for number in range(first, first + 200))
        pair.other.ok(f"SETMETADATA {pair.team} ({entries})")
    entries = " ".join(f'/private/{number} "x"' for number in range(400, 600))
    assert refused(pair.other, f"SETMETADATA {pair.team} ({entries})").startswith(b"NO [METADATA TOOMANY]")
    pair.other.ok(f"SETMETADATA {pair.team} (/private/0 NIL)")
    pair.own.ok(f"SETMETADATA Team ({entries})")


def test_folders_are_made_renamed_and_deleted_with_k_and_x_and_inherit_the_list(pair: Pair) -> None:
    pair.grant("lr")
    below = pair.team[:-1] + '/below"'
    assert refused(pair.other, f"CREATE {below}").startswith(b"NO [NOPERM]")
    pair.grant("lrkx")
    pair.other.ok(f"CREATE {below}")
    assert pair.other.ok(f"MYRIGHTS {below}")[0].endswith(b" lrkxcd")
    pair.other.ok(f"RENAME {below} {below.replace('below', 'lower')}")
    assert refused(pair.other, f"RENAME {below.replace('below', 'lower')} mine").startswith(b"NO [CANNOT]")
    pair.other.ok(f"DELETE {below.replace('below', 'lower')}")
    assert [line.split(b'"')[3] for line in pair.own.ok('LIST "" Team*')] == [b"Team"]
    assert refused(pair.other, f'CREATE "Other Users/{pair.owner.login}/new"').startswith(b"NO [NONEXISTENT]")


# -- while others act


def test_changes_of_the_owner_are_told_to_who_looks_at_the_folder(pair: Pair) -> None:
    pair.grant("lr")
    pair.other.ok(f"SELECT {pair.team}")
    pair.own.append("Team", MAIL)
    assert b"* 2 EXISTS" in pair.other.ok("NOOP")


def test_a_right_that_is_taken_away_is_gone_at_once(pair: Pair) -> None:
    pair.grant("lri")
    pair.other.ok(f"SELECT {pair.team}")
    pair.grant("lr")
    head = f"APPEND {pair.team} {{{len(MAIL)}+}}\r\n".encode()
    assert pair.other.command(head + MAIL)[-1].startswith(b"NO [NOPERM]")
    pair.own.ok(f"DELETEACL Team {pair.colleague.login}")
    pair.other.send(b"x FETCH 1 BODY[]\r\n")
    assert pair.other.response() == b"* BYE the selected mailbox was deleted"


def test_a_deleted_and_made_again_folder_is_shared_with_nobody(pair: Pair) -> None:
    pair.grant("lr")
    pair.own.ok("DELETE Team")
    pair.own.ok("CREATE Team")
    assert refused(pair.other, f"SELECT {pair.team}").startswith(b"NO [NONEXISTENT]")


def test_private_annotations_are_each_readers_own_and_shared_ones_need_w(pair: Pair) -> None:
    pair.grant("lr")
    pair.own.ok('SETMETADATA Team (/private/comment "mine" /shared/comment "ours")')
    (line,) = pair.other.ok(f"GETMETADATA {pair.team} (/private/comment /shared/comment)")
    assert line.endswith(b'("/private/comment" NIL "/shared/comment" "ours")')
    pair.other.ok(f'SETMETADATA {pair.team} (/private/comment "theirs")')
    assert refused(pair.other, f'SETMETADATA {pair.team} (/shared/comment "x")').startswith(b"NO [NOPERM]")
    assert pair.own.ok("GETMETADATA Team /private/comment")[0].endswith(b'"mine")')


def test_the_quota_of_another_is_not_told(pair: Pair) -> None:
    pair.grant("lr")
    assert pair.other.ok(f"GETQUOTAROOT {pair.team}") == [b"* QUOTAROOT " + pair.team.encode()]


def look_back(node: Node, user: User, position: int) -> RawClient:
    client = RawClient(node.port)
    client.ok(f'LOGIN "{user.login}@@#{position}" "{PASSWORD}"')
    return client


def test_a_look_back_shows_ones_own_lists_as_they_were(node: Node, pair: Pair) -> None:
    pair.grant("lr")
    then = node.log.status().applied
    pair.grant("lrswi")
    past = look_back(node, pair.owner, then)
    assert b"%b lr" % pair.colleague.login.encode() in past.ok("GETACL Team")[0].split(b" lrswipkxteacd ")[1]
    assert refused(past, f"SETACL Team {pair.colleague.login} lr").startswith(b"NO [NOPERM]")
    past.close()


def test_a_look_back_shows_what_others_shared_as_it_was(node: Node, pair: Pair) -> None:
    pair.grant("lrs")
    then = node.log.status().applied
    pair.own.append("Team", b"Subject: later\r\n\r\nx\r\n")
    pair.own.ok("SELECT Team")
    pair.own.ok("STORE 1 +FLAGS (\\Flagged)")
    pair.own.ok("CREATE Team/later")
    past = look_back(node, pair.colleague, then)
    assert b'* LIST (\\HasNoChildren) "/" %b' % pair.team.encode() in past.ok('LIST "" *')
    assert past.ok(f"STATUS {pair.team} (MESSAGES)") == [b"* STATUS %b (MESSAGES 1)" % pair.team.encode()]
    assert past.command(f"SELECT {pair.team}")[-1].startswith(b"OK [READ-ONLY] ")
    assert past.ok("FETCH 1:* (FLAGS BODY.PEEK[TEXT])") == [b"* 1 FETCH (FLAGS () BODY[TEXT] {6}\r\ntext\r\n)"]
    assert past.ok("SEARCH SUBJECT shared") == [b"* SEARCH 1"]
    assert refused(past, "STORE 1 +FLAGS (\\Seen)").startswith(b"NO [NOPERM]")
    assert past.ok(f"MYRIGHTS {pair.team}") == [b"* MYRIGHTS %b lrs" % pair.team.encode()]
    past.close()


def test_a_look_back_into_anothers_mailbox_wants_access_then_and_now(node: Node, pair: Pair) -> None:
    before = node.log.status().applied
    pair.grant("lr")
    while_shared = node.log.status().applied
    early = look_back(node, pair.colleague, before)
    assert refused(early, f"EXAMINE {pair.team}").startswith(b"NO [NONEXISTENT]")
    assert not any(pair.owner.login.encode() in line for line in early.ok('LIST "" *'))
    early.close()
    late = look_back(node, pair.colleague, while_shared)
    late.ok(f"EXAMINE {pair.team}")
    pair.own.ok(f"DELETEACL Team {pair.colleague.login}")
    late.send(b"x FETCH 1 FLAGS\r\n")
    assert late.response() == b"* BYE the selected mailbox was deleted", "it was open, and is not any more"
    late.close()
    again = look_back(node, pair.colleague, while_shared)
    assert refused(again, f"EXAMINE {pair.team}").startswith(b"NO [NONEXISTENT]")
    again.close()


def test_a_look_into_anothers_past_is_in_the_owners_own_log(node: Node, pair: Pair) -> None:
    pair.grant("lr")
    then = node.log.status().applied
    past = look_back(node, pair.colleague, then)
    past.ok(f"EXAMINE {pair.team}")
    with node.log.snapshot() as snapshot:
        last = snapshot.last_stream_position(pair.owner.account, snapshot.position)
        stored = snapshot.record(last or 0)
    assert stored is not None
    assert stored.record is not None
    assert [event.type for event in stored.record.events] == [PastViewed.TYPE]
    assert stored.record.by.id == pair.colleague.account
    past.close()


# -- delegation, public folders


def test_rights_to_every_folder_reach_those_that_come_later_too(node: Node, pair: Pair) -> None:
    steps = [
        (pair.owner.account, SetRights(EVERY, pair.colleague.account, False, "lrswik")),
        (pair.owner.tenant, NoteShare(pair.colleague.account, pair.owner.account)),
    ]
    node.call(node.runtime.transact(steps, ADMIN._replace(tenant=pair.owner.tenant)))
    inbox = f'"Other Users/{pair.owner.login}/INBOX"'
    assert pair.other.command(f"SELECT {inbox}")[-1].startswith(b"OK [READ-WRITE]")
    pair.own.ok("CREATE later")
    pair.other.ok(f'STATUS "Other Users/{pair.owner.login}/later" (MESSAGES)')
    pair.other.ok(f'CREATE "Other Users/{pair.owner.login}/made"')
    assert b'* LIST (\\HasNoChildren) "/" "made"' in pair.own.ok('LIST "" made')


def test_public_folders_are_the_tenants(node: Node, pair: Pair) -> None:
    tenant = pair.owner.tenant
    stream, folder = public_stream(tenant), new_id()
    context = ADMIN._replace(tenant=tenant)
    assert refused(pair.other, "SELECT Public/News").startswith(b"NO [NONEXISTENT]")
    steps = [
        (stream, OpenMailbox(tenant, "", ())),
        (stream, CreateFolder(folder, "News")),
        (stream, SetRights(folder, ANYONE, False, "lri")),
    ]
    node.call(node.runtime.transact(steps, context))
    assert b'* LIST (\\HasNoChildren) "/" "Public/News"' in pair.other.ok('LIST "" Public/*')
    assert pair.own.append("Public/News", MAIL).startswith(b"OK [APPENDUID ")
    pair.other.ok("SELECT Public/News")
    assert pair.other.ok("FETCH 1 RFC822.SIZE") == [b"* 1 FETCH (RFC822.SIZE %d)" % len(MAIL)]
    assert refused(pair.other, "DELETE Public/News").startswith(b"NO [NOPERM]")
    assert refused(pair.other, "CREATE Public/mine").startswith(b"NO [NONEXISTENT]")
    assert refused(pair.other, "CREATE Public").startswith(b"NO [NONEXISTENT]")


# -- what is told between commands


def test_who_looks_after_anothers_mail_is_told_at_once_when_that_ends(node: Node, pair: Pair) -> None:
    def grant(rights: str) -> None:
        steps = [
            (pair.owner.account, SetRights(EVERY, pair.colleague.account, False, rights)),
            (pair.owner.tenant, NoteShare(pair.colleague.account, pair.owner.account)),
        ]
        node.call(node.runtime.transact(steps, ADMIN._replace(tenant=pair.owner.tenant)))

    grant("lr")
    pair.other.ok(f"SELECT {pair.team}")
    pair.other.send(b"x IDLE\r\n")
    assert pair.other.response().startswith(b"+ ")
    grant("")
    assert pair.other.response() == b"* BYE the selected mailbox was deleted"


def test_notices_are_of_ones_own_mailboxes_while_anothers_is_selected(node: Node, pair: Pair) -> None:
    pair.grant("lr")
    pair.other.ok(f"SELECT {pair.team}")
    pair.other.ok("NOTIFY SET (personal (MessageNew MessageExpunge)) (selected (MessageNew (FLAGS) MessageExpunge))")
    pair.other.ok("FETCH 1 FLAGS")
    node.deliver(pair.colleague, MAIL)
    assert pair.other.response().startswith(b'* STATUS "INBOX" (')
    pair.own.append("Team", MAIL)
    assert pair.other.response() == b"* 2 EXISTS"
    lines = [pair.other.response(), pair.other.response()]
    assert any(line.startswith(b"* 2 FETCH (UID 2 FLAGS (") for line in lines), lines


def test_rfc_5465_5_messages_in_anothers_mailbox_are_told_of_while_it_may_be_read(node: Node, pair: Pair) -> None:
    pair.grant("lr")
    others, team = f'"Other Users/{pair.owner.login}"', pair.team.encode()
    (standing,) = pair.other.ok(f"NOTIFY SET STATUS (subtree {others} (MessageNew MessageExpunge FlagChange))")
    assert standing.startswith(b"* STATUS %b (UIDVALIDITY " % team)
    pair.own.append("Team", MAIL)
    assert pair.other.response() == b"* STATUS %b (MESSAGES 2 UIDNEXT 3)" % team
    pair.own.ok("SELECT Team")
    pair.own.ok("STORE 1 +FLAGS (\\Seen)")
    assert pair.other.response().endswith(b" UNSEEN 1)")
    pair.own.append("INBOX", MAIL)  # which is not shared
    pair.own.ok(f"DELETEACL Team {pair.colleague.login}")
    pair.own.append("Team", MAIL)
    assert pair.other.ok("NOOP") == [], "nothing more is told"


def test_rfc_5465_6_what_is_personal_is_ones_own_and_what_is_subscribed_may_be_anothers(pair: Pair) -> None:
    pair.grant("lr")
    pair.other.ok("NOTIFY SET (personal (MessageNew MessageExpunge))")
    pair.own.append("Team", MAIL)
    assert pair.other.ok("NOOP") == []
    pair.other.ok("NOTIFY SET (subscribed (MessageNew MessageExpunge))")
    pair.own.append("Team", MAIL)
    assert pair.other.ok("NOOP") == [], "it is not subscribed"
    pair.other.ok(f"SUBSCRIBE {pair.team}")
    pair.own.append("Team", MAIL)
    assert pair.other.response() == b"* STATUS %b (MESSAGES 4 UIDNEXT 5)" % pair.team.encode()


def test_private_annotations_of_others_are_not_told(pair: Pair) -> None:
    pair.grant("lrw")
    pair.own.ok("NOTIFY SET (personal (MailboxMetadataChange))")
    pair.other.ok(f'SETMETADATA {pair.team} (/private/comment "mine")')
    pair.other.ok(f'SETMETADATA {pair.team} (/shared/comment "ours" /private/comment "other")')
    assert pair.own.response() == b'* METADATA "Team" "/shared/comment"'


# -- searches


def test_rfc_7377_2_2_a_search_of_several_mailboxes_sees_those_of_others_that_may_be_read(pair: Pair) -> None:
    command = f'ESEARCH IN (personal subtree "Other Users/{pair.owner.login}") RETURN (COUNT) SUBJECT shared'
    assert pair.other.ok(command) == []
    pair.grant("l")
    assert pair.other.ok(command) == [], "its name alone may be known"
    pair.grant("lr")
    (line,) = pair.other.ok(command)
    assert f"MAILBOX {pair.team} ".encode() in line
    assert line.endswith(b"UID COUNT 1")
    assert pair.other.ok("ESEARCH IN (personal) RETURN (COUNT) SUBJECT shared") == []


def test_a_folder_of_another_is_searched_sorted_and_kept_up_to_date(pair: Pair) -> None:
    pair.grant("lrs")
    pair.own.append("Team", b"Subject: another\r\n\r\nneedle\r\n")
    pair.other.ok(f"SELECT {pair.team}")
    assert pair.other.ok("SORT (SUBJECT) UTF-8 ALL") == [b"* SORT 2 1"]
    assert pair.other.ok("UID SEARCH RETURN (ALL UPDATE) BODY needle")[0].endswith(b"UID ALL 2")
    pair.own.append("Team", b"Subject: third\r\n\r\nneedle\r\n")
    assert pair.other.ok("NOOP")[-1].endswith(b"UID ADDTO (0 3)")
