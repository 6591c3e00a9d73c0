"""Bad input and bad clients: each gets its clear answer, and the node goes on."""

import contextlib
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from eventlog.errors import OutcomeUnknown
from tests.nodes.imap.client import RawClient
from tests.nodes.imap.node import PASSWORD, Node, User

Login = Callable[[], RawClient]


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node with short patience that takes no password without TLS."""
    limits = {"login_s": 1.0, "imap_idle_s": 1.0, "errors": 5, "connections_per_address": 3, "auth_failures": 3}
    running = Node(tmp_path_factory.mktemp("strict"), limits, policy="never")
    yield running
    running.stop()


@pytest.fixture(scope="module")
def over_tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    running = Node(tmp_path_factory.mktemp("tls"), {"imap_idle_s": 1.0}, kind="imaps", policy="never")
    yield running
    running.stop()


def ended(client: RawClient) -> list[bytes]:
    """What the server still says before it closes."""
    lines = []
    while line := client.response():
        lines.append(line)
    return lines


# -- input


def test_an_unknown_command_and_a_line_without_a_tag_are_bad(connect: Login) -> None:
    client = connect()
    assert client.command("FROB")[-1].startswith(b"BAD ")
    client.send(b"+ FROB\r\n")
    assert client.response().startswith(b"* BAD ")
    client.ok("NOOP")


def test_an_over_long_line_ends_the_session(connect: Login) -> None:
    client = connect()
    client.send(b"a " + b"x" * 70_000)
    assert ended(client) == [
        b"a NO [TOOBIG] command line too long",
        b"* BYE [TOOBIG] command line too long",
    ]


def test_a_literal_of_4_gib_is_refused_before_it_is_sent(login: Login) -> None:
    client = login()
    assert client.command("APPEND INBOX {4294967296}")[-1].startswith(b"NO [TOOBIG] ")
    client.ok("NOOP")


def test_a_literal_of_4_gib_that_does_not_wait_ends_the_session(login: Login) -> None:
    client = login()
    client.send(b"a APPEND INBOX {4294967296+}\r\n")
    assert [line[:14] for line in ended(client)] == [b"a NO [TOOBIG] ", b"* BYE [TOOBIG]"]


def test_a_message_over_the_limit_is_refused_and_the_session_goes_on(login: Login) -> None:
    client = login()
    too_large = 4 * 1024 * 1024 + 1
    assert client.append("INBOX", b"x" * too_large).startswith(b"NO [TOOBIG] ")
    client.ok("NOOP")


def test_an_unfinished_literal_leaves_nothing_behind(node: Node, user: User, login: Login) -> None:
    client = login()
    client.send(b"a APPEND INBOX {1000+}\r\nonly this")
    client.close()
    time.sleep(0.1)
    assert node.held(user) == []


def test_before_log_in_no_large_literal_is_taken(connect: Login) -> None:
    assert connect().command("APPEND INBOX {1000000}")[-1].startswith(b"NO [TOOBIG] ")


def test_an_empty_message_is_refused(login: Login) -> None:
    assert login().append("INBOX", b"").startswith(b"NO ")


def test_too_many_bad_commands_end_the_session(strict: Node) -> None:
    client = RawClient(strict.port)
    client.send(b"x FROB\r\n" * 10)
    assert ended(client)[-1].startswith(b"* BYE ")
    client.close()


# -- passwords


def test_a_wrong_password_and_an_unknown_account_get_the_same_answer(connect: Login, user: User) -> None:
    client = connect()
    wrong = client.command(f"LOGIN {user.login} wrong")
    unknown = client.command("LOGIN nobody@example.test wrong")
    assert wrong == unknown == [b"NO [AUTHENTICATIONFAILED] wrong address or password"]


def test_guessing_ends_the_session(node: Node, connect: Login) -> None:
    client = connect()
    for _ in range(4):
        assert client.command("LOGIN guess@example.test wrong")[-1].startswith(b"NO [AUTHENTICATIONFAILED]")
    client.send(b"a LOGIN guess@example.test wrong\r\n")
    assert ended(client)[-1] == b"* BYE too many wrong passwords"


def test_a_password_in_clear_is_refused_where_the_policy_says_so(strict: Node) -> None:
    client = RawClient(strict.port)
    assert b"LOGINDISABLED" in client.greeting
    assert b"STARTTLS" in client.greeting
    assert client.command("LOGIN a@example.test b")[-1].startswith(b"NO [PRIVACYREQUIRED]")
    assert client.command("AUTHENTICATE PLAIN AGEAYg==")[-1].startswith(b"NO [PRIVACYREQUIRED]")
    client.close()


# -- TLS


def trusting(node: Node) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(node.folder / "ca.pem"))


def test_starttls_then_log_in(strict: Node) -> None:
    user = strict.add_user()
    client = RawClient(strict.port)
    client.ok("STARTTLS")
    client.wrap(trusting(strict))
    (line,) = client.ok("CAPABILITY")
    assert b"AUTH=PLAIN" in line
    assert b"STARTTLS" not in line
    client.ok(f'LOGIN {user.login} "{PASSWORD}"')
    assert b"* 0 EXISTS" in client.ok("SELECT INBOX")
    assert client.command("STARTTLS")[-1].startswith(b"BAD ")
    client.close()


def test_commands_smuggled_behind_starttls_are_not_taken_for_commands_over_tls(strict: Node) -> None:
    client = RawClient(strict.port)
    client.send(b"a STARTTLS\r\nb CAPABILITY\r\n")
    lines = ended(client)
    assert lines[-1].startswith(b"* BYE ")
    assert not any(line.startswith(b"b ") for line in lines)
    client.close()


def test_a_failed_handshake_ends_the_connection_only(strict: Node) -> None:
    client = RawClient(strict.port)
    client.ok("STARTTLS")
    client.send(b"this is no handshake\r\n" * 10)
    with pytest.raises((ConnectionError, EOFError)):
        client.command("NOOP")
    client.close()
    RawClient(strict.port).close()


def test_imaps_speaks_tls_from_the_first_byte(over_tls: Node) -> None:
    user = over_tls.add_user()
    client = RawClient(over_tls.port, trusting(over_tls))
    assert b"STARTTLS" not in client.greeting
    client.ok(f'LOGIN {user.login} "{PASSWORD}"')
    data = b"Subject: x\r\n\r\n" + b"line\r\n" * 200_000
    assert client.append("INBOX", data).startswith(b"OK ")
    client.ok("SELECT INBOX")
    assert client.ok("FETCH 1 BODY.PEEK[]")[0].endswith(data + b")")
    client.close()


def test_a_client_that_speaks_no_tls_to_imaps_is_dropped(over_tls: Node) -> None:
    with socket.create_connection(("127.0.0.1", over_tls.port), timeout=10) as plain:
        plain.sendall(b"a NOOP\r\n" * 10)
        try:
            while plain.recv(1000):
                pass
        except ConnectionError:
            pass


# -- clients that hang


def test_a_client_that_does_not_log_in_is_dismissed(strict: Node) -> None:
    client = RawClient(strict.port)
    assert ended(client) == [b"* BYE you were silent for too long"]
    client.close()


def test_trickling_bytes_does_not_extend_the_time_for_log_in(strict: Node) -> None:
    client = RawClient(strict.port)
    for _ in range(8):  # 1.6 s, where 1.0 s is allowed
        with contextlib.suppress(ConnectionError):
            client.send(b"a NOOP\r\n")
        time.sleep(0.2)
    lines = []
    with contextlib.suppress(ConnectionError):
        lines = ended(client)
    assert len(lines) < 8
    client.close()


def test_a_silent_session_is_dismissed_idling_or_not(over_tls: Node) -> None:
    user = over_tls.add_user()
    for command in (b"", b"a IDLE\r\n", b"a APPEND INBOX {100+}\r\nabc"):
        client = RawClient(over_tls.port, trusting(over_tls))
        client.ok(f'LOGIN {user.login} "{PASSWORD}"')
        client.send(command)
        assert ended(client)[-1] == b"* BYE you were silent for too long"
        client.close()


def test_a_client_that_does_not_read_holds_up_nobody(node: Node, user: User, login: Login) -> None:
    data = b"Subject: x\r\n\r\n" + b"line\r\n" * 300_000
    stuck, other = login(), login()
    stuck.append("INBOX", data)
    stuck.ok("SELECT INBOX")
    stuck.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    stuck.send(b"".join(b"f%d FETCH 1 BODY.PEEK[]\r\n" % number for number in range(200)))
    started = time.monotonic()
    for _ in range(20):
        other.ok("NOOP")
    other.ok("SELECT INBOX")
    other.ok("FETCH 1 RFC822.SIZE")
    assert time.monotonic() - started < 5


def test_a_client_that_vanishes_in_the_middle_of_a_fetch_harms_nothing(user: User, login: Login) -> None:
    client = login()
    client.append("INBOX", b"Subject: x\r\n\r\n" + b"line\r\n" * 300_000)
    client.ok("SELECT INBOX")
    client.send(b"a FETCH 1 BODY.PEEK[]\r\n" * 20)
    client.socket.shutdown(socket.SHUT_RD)
    client.close()
    login().ok("SELECT INBOX")


def test_a_client_that_stops_sending_still_gets_its_answers(connect: Login, user: User) -> None:
    client = connect()
    client.send(f'a LOGIN {user.login} "{PASSWORD}"\r\nb SELECT INBOX\r\n'.encode())
    client.socket.shutdown(socket.SHUT_WR)
    lines = ended(client)
    assert lines[-1].startswith(b"b OK ")


def test_one_connection_too_many_is_told_so(strict: Node) -> None:
    time.sleep(0.2)
    clients = [RawClient(strict.port) for _ in range(4)]
    assert clients[-1].greeting == b"* BYE [UNAVAILABLE] too many connections"
    assert clients[0].greeting.startswith(b"* OK ")
    for client in clients:
        client.close()


def test_a_node_that_stops_says_goodbye(tmp_path_factory: pytest.TempPathFactory) -> None:
    node = Node(tmp_path_factory.mktemp("stopping"), {})
    user = node.add_user()
    idle, plain = RawClient(node.port), RawClient(node.port)
    idle.ok(f'LOGIN {user.login} "{PASSWORD}"')
    idle.send(b"a IDLE\r\n")
    assert idle.response().startswith(b"+ ")
    node.stop()
    assert ended(idle) == [b"* BYE the server is stopping"]
    assert ended(plain) == [b"* BYE the server is stopping"]
    idle.close()
    plain.close()


def test_a_message_whose_bytes_are_missing_is_an_error_and_never_an_empty_message(
    node: Node, user: User, login: Login
) -> None:
    node.deliver(user, b"Subject: one\r\n\r\n")
    node.deliver_without_body(user)
    client = login()
    client.ok("SELECT INBOX")
    *lines, last = client.command("FETCH 1:2 (FLAGS BODY.PEEK[])")
    assert [line[:9] for line in lines] == [b"* 1 FETCH"]
    assert last.startswith(b"NO [SERVERBUG]")
    assert len(client.ok("FETCH 1:2 FLAGS")) == 2
    assert client.ok("SEARCH SUBJECT one") == [b"* SEARCH 1"]


# -- what is withheld


@pytest.fixture(scope="module")
def without_uidonly(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    running = Node(tmp_path_factory.mktemp("without"), {}, sections={"imap": {"withheld": ["UIDONLY"]}})
    yield running
    running.stop()


def test_who_enables_all_that_there_may_be_goes_on_where_it_is_withheld(without_uidonly: Node) -> None:
    """As the service behind the new Outlook does: UIDONLY, then messages by number."""
    user = without_uidonly.add_user()
    without_uidonly.deliver(user, b"Subject: x\r\n\r\nx\r\n")
    client = RawClient(without_uidonly.port)
    last = client.command(f'LOGIN {user.login} "{PASSWORD}"')[-1]
    assert b" QRESYNC " in last
    assert b"UIDONLY" not in last
    assert client.ok("ENABLE UIDONLY") == [b"* ENABLED"]
    client.ok("SELECT INBOX")
    client.ok("FETCH 1 (UID)")
    client.close()


# -- what nobody can say yet


@pytest.mark.parametrize("command", ["APPEND", "COPY 1 Archive", "MOVE 1 Archive", "REPLACE"])
def test_who_would_do_it_again_is_cut_off_where_the_outcome_is_unknown(
    node: Node, user: User, login: Login, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """A client that hears NO to an APPEND sends the message once more; one that is cut off looks at what is there."""
    client = login()
    client.append("INBOX", b"Subject: x\r\n\r\nx\r\n")
    client.ok("SELECT INBOX")
    propose = node.log.propose

    async def unheard(*arguments: Any) -> Any:
        await propose(*arguments)
        raise OutcomeUnknown("nothing was heard of it")

    with monkeypatch.context() as patched:
        patched.setattr(node.log, "propose", unheard)
        text = {"APPEND": "APPEND INBOX {1+}\r\nx", "REPLACE": "REPLACE 1 INBOX {1+}\r\nx"}.get(command, command)
        client.send(b"a " + text.encode() + b"\r\n")
        (last,) = ended(client)
    assert last.startswith(b"* BYE [UNAVAILABLE] ")
    assert b"may have taken effect" in last


def test_flags_and_expunges_of_unknown_outcome_are_refused_and_may_be_asked_for_again(
    node: Node, user: User, login: Login, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = login()
    client.append("INBOX", b"x")
    client.ok("SELECT INBOX")

    async def unheard(*_: Any) -> Any:
        raise OutcomeUnknown("nothing was heard of it")

    with monkeypatch.context() as patched:
        patched.setattr(node.log, "propose", unheard)
        assert client.command("STORE 1 +FLAGS (\\Deleted)")[-1].startswith(b"NO [UNAVAILABLE] ")
    client.ok("STORE 1 +FLAGS (\\Deleted)")
    client.ok("EXPUNGE")
