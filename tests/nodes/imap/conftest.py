"""Fixtures of the end-to-end tests: a node for each module, a user for each test, raw connections."""

from collections.abc import Callable, Iterator

import pytest

from tests.nodes.imap import beside
from tests.nodes.imap.client import RawClient
from tests.nodes.imap.node import PASSWORD, Node, User


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    running = Node(tmp_path_factory.mktemp("node"), {"message_bytes": 4 * 1024 * 1024})
    yield running
    running.stop()


@pytest.fixture
def user(node: Node) -> User:
    return node.add_user()


@pytest.fixture
def connect(node: Node) -> Iterator[Callable[[], RawClient]]:
    """Makes connections that have read the greeting; closes them after the test."""
    made: list[RawClient] = []

    def make() -> RawClient:
        client = RawClient(node.port)
        made.append(client)
        return client

    yield make
    for client in made:
        client.close()


@pytest.fixture
def login(connect: Callable[[], RawClient], user: User) -> Callable[[], RawClient]:
    """Makes connections that are logged in as `user`."""

    def make() -> RawClient:
        client = connect()
        client.ok(f'LOGIN {user.login} "{PASSWORD}"')
        return client

    return make


@pytest.fixture
def dovecot() -> Iterator[Callable[[], RawClient]]:
    """Makes sessions on an empty mailbox of Dovecot's."""
    if not beside.IMAP.exists():
        pytest.skip("dovecot-imapd is not installed: scripts/debian-packages")
    yield from beside.dovecot_sessions()
