"""Sessions whose tenant is suspended, groups in access control lists, and a tenant's quota, over IMAP."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from imapclient import IMAPClient
from imapclient.exceptions import IMAPClientError

from tests.nodes.imap.client import RawClient
from tests.nodes.imap.node import ADMIN, PASSWORD, Node, User

MAIL = b"Subject: shared\r\n\r\ntext\r\n"


@pytest.fixture
def tenant(node: Node) -> Iterator[str]:
    """Served again after the test."""
    yield "example"
    if node.services.runtime.standings.of(node.call(_tenant(node))) is not None:
        node.call(node.directory.tenants.resume("example", ADMIN))


async def _tenant(node: Node) -> bytes:
    return node.directory.tenant_for("x@example.test")


def test_an_idling_session_is_told_and_ends_when_its_tenant_is_suspended(node: Node, user: User, tenant: str) -> None:
    with IMAPClient("127.0.0.1", node.port, ssl=False) as client:
        client.login(user.login, PASSWORD)
        client.select_folder("INBOX")
        client.idle()
        node.call(node.directory.tenants.suspend(tenant, "defer", "", ADMIN))
        assert client.idle_check(timeout=10) == [(b"BYE", *b"the organisation's service is suspended".split())]
        client._imap.state = "LOGOUT"
    raw = RawClient(node.port)
    assert raw.command(f'LOGIN {user.login} "{PASSWORD}"')[-1] == (
        b"NO [CONTACTADMIN] the organisation's service is suspended"
    )
    assert raw.command(f'LOGIN {user.login} "wrong"')[-1].startswith(b"NO [AUTHENTICATIONFAILED]")
    raw.close()


def test_whoever_is_in_a_group_has_its_rights_until_they_leave_it(node: Node) -> None:
    owner, member = node.add_user(), node.add_user()
    group = f"staff-{owner.login}"
    node.call(node.directory.tenants.add_group(group, [member.login], ADMIN))
    with IMAPClient("127.0.0.1", node.port, ssl=False) as own, IMAPClient("127.0.0.1", node.port, ssl=False) as other:
        own.login(owner.login, PASSWORD)
        other.login(member.login, PASSWORD)
        own.create_folder("Team")
        own.append("Team", MAIL)
        own.setacl("Team", f"group:{group}", "lrsi")
        assert (f"group:{group}".encode(), b"lrsi") in own.getacl("Team")
        theirs = f"Other Users/{owner.login}/Team"
        assert theirs in [name for _, _, name in other.list_folders()]
        assert other.select_folder(theirs)[b"EXISTS"] == 1
        other.append(theirs, MAIL)
        other.add_flags([1], ["\\Seen"])
        other.unselect_folder()
        node.call(node.directory.tenants.change_members(group, [], [member.login], ADMIN))
        with pytest.raises(IMAPClientError):
            other.select_folder(theirs)


def test_an_append_beyond_the_tenants_quota_is_refused_as_over_quota(node: Node, user: User) -> None:
    node.call(node.directory.tenants.set_quotas("example", {"storage_bytes": 0}, (), None, ADMIN))
    try:
        client = RawClient(node.port)
        client.ok(f'LOGIN {user.login} "{PASSWORD}"')
        tag_line = client.command(b"APPEND INBOX {%d+}\r\n%b" % (len(MAIL), MAIL))[-1]
        assert tag_line == b"NO [OVERQUOTA] the organisation's storage is full"
        client.close()
    finally:
        node.call(node.directory.tenants.set_quotas("example", {}, ("storage_bytes",), None, ADMIN))
