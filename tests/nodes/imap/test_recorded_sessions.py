"""What clients say on the wire, said again: sessions that were taken down, and sequences of commands as documented.

`thunderbird` and `roundcube` are recordings of the programs (test_thunderbird.py and acceptance/test_webmail.py make
them anew, with --rewrite-scripts). `apple-mail` and `outlook` are command sequences, not recordings: put together from
what is published about these clients; each file names its sources.
"""

from collections.abc import Callable

import pytest

from tests.nodes.imap.client import RawClient
from tests.nodes.imap.node import PASSWORD, Node, User
from tests.nodes.imap.recorded import play
from tests.nodes.imap.test_thunderbird import mail


@pytest.mark.parametrize("name", ["thunderbird", "roundcube", "apple-mail", "outlook"])
def test_a_session_goes_as_it_went(node: Node, user: User, connect: Callable[[], RawClient], name: str) -> None:
    other = connect()
    other.ok(f'LOGIN {user.login} "{PASSWORD}"')

    def besides(text: str) -> None:
        if text.startswith("deliver "):
            subject = text.removeprefix("deliver ")
            node.deliver(user, mail(subject, "a text with a needle: xyzzy" if "needle" in subject else "a text"))
        else:
            other.ok(text)

    assert play(name, connect, user.login, PASSWORD, besides) == []
