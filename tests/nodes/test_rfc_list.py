"""docs/rfc.md can not drift: each capability that a client is told of has its line, each test in it exists."""

import ast
import re
import ssl
from functools import cache
from pathlib import Path

import pytest

from nodes.config.node import LimitsSection, NodeConfig, NodeSection
from nodes.config.smtp import SmtpSection
from nodes.imap import capability
from nodes.pop3 import session as pop3
from nodes.pop3.events import Say
from nodes.smtp.extensions import Extensions, Standing
from nodes.smtp.profile import PROFILES
from tests.nodes.imap.client import RawClient
from tests.nodes.imap.conftest import node as node
from tests.nodes.imap.conftest import user as user
from tests.nodes.imap.node import PASSWORD, Node, User

TOP = Path(__file__).resolve().parents[2]
ROWS = [line for line in (TOP / "docs/rfc.md").read_text().splitlines() if re.match(r"\| \d", line)]
_TEST = re.compile(r"`([\w/]+\.py)::(test_\w+)`")


def _titles() -> set[str]:
    return {name for row in ROWS for name in re.findall(r"`([^`]+)`", row.split("|")[2])}


def _imap_capabilities() -> set[str]:
    lines = (
        capability.before_login(start_tls=True, mechanisms=["PLAIN"]),
        capability.before_login(start_tls=False, mechanisms=[]),
        capability.after_login(append_limit_bytes=1),
    )
    names = {name for line in lines for name in line.decode("ascii").split()}
    return {re.sub(r"^(AUTH|APPENDLIMIT)=.*", r"\1", name) for name in names}


@cache
def _tests_of(path: str) -> frozenset[str]:
    tree = ast.parse((TOP / "tests/nodes" / path).read_text())
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


def test_each_imap_capability_has_a_line() -> None:
    assert _imap_capabilities() - _titles() == set()


def test_a_node_tells_in_each_state_what_has_a_line_and_no_more(node: Node, user: User) -> None:
    """The greeting, before and after STARTTLS, after log-in, with a mailbox selected, and once more after all of it."""
    trusting = ssl.create_default_context(cafile=str(node.folder / "ca.pem"))
    client = RawClient(node.port)
    lines = [client.greeting, *client.ok("CAPABILITY")]
    client.ok("STARTTLS")
    client.wrap(trusting)
    lines += client.ok("CAPABILITY")
    assert not any(b"STARTTLS" in line for line in lines[-1:])
    lines.append(client.command(f'LOGIN {user.login} "{PASSWORD}"')[-1])
    lines += client.ok("CAPABILITY")
    client.ok("ENABLE IMAP4rev2 QRESYNC UTF8=ACCEPT UIDONLY")
    client.ok("SELECT INBOX")
    lines += client.ok("CAPABILITY")
    client.close()
    told = {name for line in lines for name in _told(line)}
    assert told == _imap_capabilities() - {"LOGINDISABLED"}
    assert told - _titles() == set()


def _told(line: bytes) -> set[str]:
    names = line.decode("ascii").partition("CAPABILITY ")[2].partition("]")[0].split()
    return {re.sub(r"^(AUTH|APPENDLIMIT)=.*", r"\1", name) for name in names}


def test_each_pop3_capability_has_a_line() -> None:
    session = pop3.Session(pop3.Limits(200, 5), secure=False, offers_tls=True, mechanisms=("PLAIN",))
    session.feed(b"CAPA\r\n")
    told = session.next_event()
    assert isinstance(told, Say)
    names = {line.split()[0].decode("ascii") for line in told.data.split(b"\r\n")[1:-2]}
    assert "UIDL" in names
    assert names - _titles() == set()


def test_each_smtp_extension_has_a_line() -> None:
    config = NodeConfig.model_construct(
        node=NodeSection.model_construct(hostname="mx.test"),
        limits=LimitsSection(),
        smtp=SmtpSection(vrfy=True),
    )
    standing = Standing(secure=True, starttls=True, mechanisms="PLAIN", priority=True)
    offered = Extensions(config, PROFILES["submission"]).offer(standing).reply.decode("ascii").splitlines()[1:]
    names = {line[4:].split()[0] for line in offered}
    assert "CHUNKING" in names
    assert names - _titles() == {"XVERP"}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.split("|")[1].strip())
def test_each_line_names_tests_that_exist_and_code_that_is_there(row: str) -> None:
    where, tests = row.split("|")[4:6]
    named = _TEST.findall(tests)
    assert named, "no test"
    assert [f"{path}::{name}" for path, name in named if name not in _tests_of(path)] == []
    assert [path for path in re.findall(r"`([^`]+)`", where) if not (TOP / path).exists()] == []
