"""The checkers find what was really done to a real mailbox: removed, doubled, altered, changed behind their backs."""

import asyncio
import imaplib
from collections.abc import Callable
from typing import Any

import pytest

from chaos.admin_client import AdminAccess
from chaos.checkers.delivery import check_deliveries
from chaos.checkers.judge import judge
from chaos.final import Final, observe
from chaos.history import History, Operation
from chaos.observation import Observed, read_mailbox
from chaos.workload import Mix, Target, Workload
from tests.acceptance.site import Site

ACCOUNT = "erin@example.test"
WITNESS, VAULT = "frank@example.test", "grace@example.test"


@pytest.fixture(scope="module")
def attempts(site: Site) -> list[Operation]:
    """A second of mail through all nodes to an account of its own."""
    site.cluster.command("account", "add", ACCOUNT, "--password-stdin", stdin=site.password + "\n")
    endpoints = {node.name: node.endpoints for node in site.cluster.status().nodes}
    target = Target(endpoints, site.password, AdminAccess.of_folder(site.cluster.folder), accounts=(ACCOUNT,))
    history = History()

    async def send() -> None:
        stop = asyncio.Event()
        mail = asyncio.create_task(Workload(3, target, history, 20, Mix(1, 0, 0, 0)).run(stop))
        await asyncio.sleep(1)
        stop.set()
        await mail

    asyncio.run(send())
    assert len(history.deliveries) >= 10
    return history.deliveries


def inboxes(site: Site) -> Observed:
    status = site.cluster.wait_settled()
    return {n.name: {ACCOUNT: read_mailbox(n.endpoints["imap"], ACCOUNT, site.password)} for n in status.nodes}


def remove_one(client: imaplib.IMAP4) -> None:
    client.store("1", "+FLAGS", "\\Deleted")
    client.expunge()


def double_one(client: imaplib.IMAP4) -> None:
    client.copy("1", "INBOX")


def alter_one(client: imaplib.IMAP4) -> None:
    stored = client.fetch("1", "(BODY.PEEK[])")[1][0]
    assert isinstance(stored, tuple)
    client.append("INBOX", "", "", stored[1].replace(b"eight bits", b"eight b1ts"))
    remove_one(client)


def test_the_mail_was_as_promised_before_anything_was_done_to_it(site: Site, attempts: list[Operation]) -> None:
    assert check_deliveries(attempts, inboxes(site)) == []


@pytest.mark.parametrize(("plant", "text"), [(remove_one, "lost"), (double_one, "doubled"), (alter_one, "altered")])
def test_what_is_done_to_a_mailbox_is_found_on_every_node(
    site: Site, attempts: list[Operation], plant: Callable[[imaplib.IMAP4], Any], text: str
) -> None:
    before = {violation.text for violation in check_deliveries(attempts, inboxes(site))}
    host, _, port = site.endpoints("imap")[0].rpartition(":")
    with imaplib.IMAP4(host, int(port), timeout=30) as client:
        client.login(ACCOUNT, site.password)
        client.select("INBOX")
        plant(client)
    found = [v for v in check_deliveries(attempts, inboxes(site)) if v.text not in before]
    assert {violation.node for violation in found} == {"n1", "n2", "n3"}
    assert all(text in violation.text for violation in found), found


@pytest.fixture(scope="module")
def witnessed(site: Site) -> tuple[Target, History]:
    """A hundred operations of everything to a mailbox of its own, through all nodes."""
    for account in (WITNESS, VAULT):
        site.cluster.command("account", "add", account, "--password-stdin", stdin=site.password + "\n")
    endpoints = {node.name: node.endpoints for node in site.cluster.status().nodes}
    access = AdminAccess.of_folder(site.cluster.folder)
    names = ("heidi@example.test", "ivan@example.test")
    target = Target(endpoints, site.password, access, (ACCOUNT,), (WITNESS,), VAULT, names)
    history = History()

    async def work() -> None:
        stop = asyncio.Event()
        workload = asyncio.create_task(Workload(5, target, history, 30, Mix(0, 2, 10, 4)).run(stop))
        deadline_s = asyncio.get_running_loop().time() + 60
        await asyncio.sleep(4)
        while len(history.operations) < 100 and asyncio.get_running_loop().time() < deadline_s:
            await asyncio.sleep(0.2)
        stop.set()
        await workload

    asyncio.run(work())
    return target, history


def judged(site: Site, target: Target, history: History) -> list[str]:
    """What the checkers say of the mailbox as it is now; the history goes on with what they looked at."""
    site.cluster.wait_settled()
    final = Final(asyncio.run(observe(target._replace(accounts=()), history, 5)))
    return [violation.text for check in judge(history, final) for violation in check.violations]


def test_everything_at_once_is_clean(site: Site, witnessed: tuple[Target, History]) -> None:
    target, history = witnessed
    assert judged(site, target, history) == []
    done = {one.action for one in history.operations if one.acknowledged}
    assert done >= {"deliver", "append", "store", "expunge", "read", "mailbox", "accounts", "log-in"}


def change_flags(client: imaplib.IMAP4) -> None:
    client.store("*", "FLAGS", "(unseen)")


@pytest.mark.parametrize(
    ("plant", "text"),
    [
        (change_flags, "flags that nobody set: message"),
        (remove_one, "lost message: message"),
        (double_one, "two UIDs for one message"),
    ],
)
def test_what_nobody_admits_to_has_no_place_in_any_order(
    site: Site, witnessed: tuple[Target, History], plant: Callable[[imaplib.IMAP4], Any], text: str
) -> None:
    target, history = witnessed
    host, _, port = site.endpoints("imap")[0].rpartition(":")
    with imaplib.IMAP4(host, int(port), timeout=30) as client:
        client.login(WITNESS, site.password)
        client.select("INBOX")
        plant(client)
    found = judged(site, target, history)
    assert any(text in one for one in found), found
