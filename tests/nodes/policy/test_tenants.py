"""Tenants' own policies on running nodes: set from the command line, in the log, and effective at the next command."""

from __future__ import annotations

import asyncio
import json
import smtplib
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from click.testing import CliRunner

from actors import directory, mailbox
from actors.tenant_policy import SetMailPolicy, Value
from chaos.cluster import free_base_port
from cli import layout
from cli.client import AdminClient
from cli.main import main
from nodes.metrics import Metrics
from nodes.policy import Policy
from nodes.smtp.checks import JUNK, Check, Incoming
from nodes.smtp.session import Envelope, Session
from tests.nodes.http.one_node import serving
from tests.nodes.policy.elsewhere import TRUSTING, answer_to, client_at
from tests.nodes.policy.trio import trio
from tests.nodes.smtp.cell import ADMIN, Cell
from tests.peers.dns_server import DnsServer

Run = Callable[[Coroutine[Any, Any, Any]], Any]
ALICE, CAROL = "alice@example.test", "carol@other.test"
LISTED = "192.0.2.2"


class CallsAllSpam(Check):
    """In place of a filter."""

    async def message(self, session: Session, envelope: Envelope, incoming: Incoming) -> None:
        if b"Spam:" in incoming.data:
            incoming.folder = JUNK


@pytest.fixture(scope="module")
def cell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cell]:
    """Two tenants, example and other, behind the checks of a whole node."""
    policies: list[Policy] = []

    def checks(cell: Cell) -> tuple[Check, ...]:
        policies.append(Policy(cell.config, cell.log, cell.resolver, Metrics("n1")))
        return (*policies[0].checks, CallsAllSpam(), *policies[0].last)

    with (
        DnsServer("2.2.0.192.bl.test. A 127.0.0.2\nbl.test. TXT x") as names,
        Cell(
            tmp_path_factory.mktemp("policies"),
            checks=checks,
            sections={"policy": {"blocklists": ["bl.test"]}, "smtp": TRUSTING},
            dns={"nameservers": [names.address]},
        ) as started,
    ):
        started.call(started.directory.add_tenant("other", ["other.test"], ADMIN))
        started.call(started.directory.add_account(CAROL, "secret of carol", None, ADMIN))
        yield started
        started.call(policies[0].stop())


@pytest.fixture
def set_policy(cell: Cell) -> Iterator[Callable[..., None]]:
    """set_policy(setting=value, ...) for the tenant example, reset at the end."""
    changed: dict[str, Value] = {}
    with cell.log.snapshot() as snapshot:
        tenant = directory.tenant_named(snapshot, "example")

    def change(**values: Value) -> None:
        changed.update(values)
        cell.call(cell.runtime.ask(tenant, SetMailPolicy(tuple(values.items())), ADMIN))

    yield change
    if changed:
        cell.call(cell.runtime.ask(tenant, SetMailPolicy(reset=tuple(changed)), ADMIN))


def deliver(cell: Cell, data: bytes, *recipients: str, address: str = "192.0.2.1") -> str:
    client = client_at(cell.port("smtp"), address)
    try:
        assert [one[:3] for one in client.begin(*recipients)] == ["250"] * len(recipients)
        return client.transfer(data)
    finally:
        client.close()


def count(cell: Cell, address: str, folder: str) -> int:
    with cell.log.snapshot() as snapshot:
        view = snapshot.view(directory.account_of(snapshot, address).account)
        found = mailbox.folder_by_name(view, folder)
        return 0 if found is None else len(list(mailbox.messages(view, found.id)))


SetPolicy = Callable[..., None]


def test_a_tenant_greylists_and_the_others_do_not(cell: Cell, set_policy: SetPolicy) -> None:
    set_policy(greylisting="on", greylist_delay_s=60)
    assert answer_to(cell.port("smtp"), "198.51.100.1", ALICE) == (
        "451 4.7.1 Greylisted: not known here yet, come again in 60 seconds"
    )
    assert answer_to(cell.port("smtp"), "198.51.100.1", CAROL).startswith("250")
    set_policy(greylist_delay_s=0)
    assert answer_to(cell.port("smtp"), "198.51.100.1", ALICE).startswith("250")


def test_a_tenant_takes_mail_of_listed_clients_into_junk_or_as_any_other(cell: Cell, set_policy: SetPolicy) -> None:
    assert answer_to(cell.port("smtp"), LISTED, ALICE).startswith("550 5.7.1")
    set_policy(blocklists="junk")
    junk, inbox = count(cell, ALICE, "Junk"), count(cell, ALICE, "INBOX")
    assert deliver(cell, b"Subject: x\r\n\r\n", ALICE, address=LISTED).startswith("250")
    assert (count(cell, ALICE, "Junk"), count(cell, ALICE, "INBOX")) == (junk + 1, inbox)
    set_policy(blocklists="ignore")
    assert deliver(cell, b"Subject: x\r\n\r\n", ALICE, address=LISTED).startswith("250")
    assert (count(cell, ALICE, "Junk"), count(cell, ALICE, "INBOX")) == (junk + 1, inbox + 1)
    set_policy(blocklists="refuse", block_weight=2)
    assert answer_to(cell.port("smtp"), LISTED, ALICE).startswith("250")


def test_what_a_client_sends_to_a_tenant_with_a_rate_of_its_own_is_counted_apart(
    cell: Cell, set_policy: SetPolicy
) -> None:
    set_policy(client_recipients_per_hour=1)
    assert answer_to(cell.port("smtp"), "192.0.2.77", ALICE).startswith("250")
    assert answer_to(cell.port("smtp"), "192.0.2.77", ALICE).startswith("451 4.7.0 Too many recipients of this client")
    assert answer_to(cell.port("smtp"), "192.0.2.77", CAROL).startswith("250")
    assert answer_to(cell.port("smtp"), "192.0.2.78", ALICE).startswith("250")


def submit(cell: Cell, sender: str, data: bytes = b"Subject: x\r\n\r\n") -> None:
    with smtplib.SMTP("127.0.0.1", cell.port("submission")) as client:
        client.login(sender, f"secret of {sender.partition('@')[0]}")
        client.sendmail(sender, [ALICE], data)


def test_a_tenants_accounts_submit_as_much_as_it_lets_them(cell: Cell, set_policy: SetPolicy) -> None:
    set_policy(account_messages_per_hour=1)
    submit(cell, ALICE)
    with pytest.raises(smtplib.SMTPRecipientsRefused) as refused:
        submit(cell, ALICE)
    assert b"Too many messages of this account" in refused.value.recipients[ALICE][1]
    submit(cell, CAROL)
    submit(cell, CAROL)


def test_a_tenant_refuses_spam_unless_another_that_gets_it_does_not(cell: Cell, set_policy: SetPolicy) -> None:
    spam = b"Spam: yes\r\n\r\n"
    junk = count(cell, ALICE, "Junk")
    assert deliver(cell, spam, ALICE).startswith("250")
    assert count(cell, ALICE, "Junk") == junk + 1
    set_policy(spam="refuse")
    assert deliver(cell, spam, ALICE).startswith("550 5.7.1 The message looks like spam")
    assert deliver(cell, spam, ALICE, CAROL).startswith("250")
    assert (count(cell, ALICE, "Junk"), count(cell, CAROL, "Junk")) == (junk + 2, 1)
    set_policy(spam="inbox")
    inbox = count(cell, ALICE, "INBOX")
    assert deliver(cell, spam, ALICE, CAROL).startswith("250")
    assert (count(cell, ALICE, "INBOX"), count(cell, CAROL, "Junk")) == (inbox + 1, 2)


def test_a_message_is_no_larger_than_its_tenant_takes_or_lets_out(cell: Cell, set_policy: SetPolicy) -> None:
    set_policy(message_bytes=2048)
    large = b"Subject: x\r\n\r\n" + b"x" * 70 * 30
    client = client_at(cell.port("smtp"), "192.0.2.1")
    assert client.ask("MAIL FROM:<a@remote.test> SIZE=2049").startswith("250")
    assert client.ask(f"RCPT TO:<{ALICE}>").startswith("552 5.3.4")
    assert client.ask(f"RCPT TO:<{CAROL}>").startswith("250")
    client.close()
    assert deliver(cell, large + b"\r\n", ALICE).startswith("552 5.3.4")
    assert deliver(cell, large + b"\r\n", CAROL).startswith("250")
    with pytest.raises(smtplib.SMTPRecipientsRefused) as refused:
        submit(cell, ALICE, large)
    assert refused.value.recipients[ALICE][0] == 552


def test_a_tenant_has_another_mark_of_extensions_or_none(cell: Cell, set_policy: SetPolicy) -> None:
    assert answer_to(cell.port("smtp"), "192.0.2.1", "alice+shop@example.test").startswith("250")
    set_policy(extensions="-")
    assert answer_to(cell.port("smtp"), "192.0.2.1", "alice+shop@example.test").startswith("550 5.1.1")
    assert answer_to(cell.port("smtp"), "192.0.2.1", "alice-shop@example.test").startswith("250")
    assert answer_to(cell.port("smtp"), "192.0.2.1", "carol+shop@other.test").startswith("250")
    set_policy(extensions="off")
    assert answer_to(cell.port("smtp"), "192.0.2.1", "alice-shop@example.test").startswith("550 5.1.1")
    assert answer_to(cell.port("smtp"), "192.0.2.1", ALICE).startswith("250")


def test_a_policy_is_set_shown_and_reset_from_the_command_line(run: Run, tmp_path: Path) -> None:
    folder = layout.create(tmp_path / "cell", 1, free_base_port(1))

    def mailraft(*arguments: str) -> tuple[int, str]:
        result = CliRunner().invoke(main, ["policy", *arguments, "--cluster", str(folder.folder)])
        return result.exit_code, result.output

    def ask(client: AdminClient) -> None:
        client.change("POST", "/v1/tenants", {"name": "example", "domains": ["example.test"]})
        code, text = mailraft("set", "example", "greylisting=on", "message-bytes=50000", "dmarc=mark")
        assert (code, "message_bytes is 50000" in text) == (0, True), text
        shown = json.loads(mailraft("show", "example", "--json")[1])["policy"]
        found = {name: (one["value"], one["default"]) for name, one in shown.items() if one["is_set"]}
        assert found == {
            "greylisting": ("on", "off"),
            "message_bytes": (50000, 50 << 20),
            "dmarc": ("mark", "enforce"),
        }
        assert client.get("/v1/verdicts")["tenants"] == {"example": "mark"}
        code, text = mailraft("show", "example")
        assert (code, "set for it" in text, "as the nodes have it" in text) == (0, True, True)
        last = client.get("/v1/log?last=1")["records"][0]
        assert [event["type"] for event in last["events"]] == ["MailPolicySet", "TenantDmarcSet", "RequestCarriedOut"]
        assert last["by"]["kind"] == "admin"
        assert mailraft("reset", "example", "greylisting")[0] == 0
        code, text = mailraft("reset", "example")
        assert (code, "2 settings" in text) == (0, True), text
        shown = client.get("/v1/tenants/example/policy")["policy"]
        assert not any(one["is_set"] for one in shown.values())
        for wrong in ("greylisting", "greylisting=perhaps", "nonsense=on", "message_bytes=12"):
            assert mailraft("set", "example", wrong)[0] == 2, wrong
        assert mailraft("set", "example", "dmarc=perhaps")[0] == 1
        assert mailraft("show", "nobody")[0] == 1

    serving(run, folder, ask)


def test_a_policy_that_is_set_at_one_node_holds_at_all(run: Run, tmp_path: Path) -> None:
    async def live() -> None:
        async with trio(tmp_path / "cell") as nodes:
            services = nodes.states[0].services
            assert services is not None
            assert [(await nodes.answer(one, "192.0.2.1"))[:3] for one in range(3)] == ["250"] * 3
            with services.log.snapshot() as snapshot:
                tenant = directory.tenant_named(snapshot, "example")
            done = await services.runtime.ask(tenant, SetMailPolicy((("greylisting", "on"),)), ADMIN)
            for state in nodes.states:
                assert state.services is not None
                await state.services.log.applied(done.position)
            answers = await asyncio.gather(*(nodes.answer(one, "192.0.2.9") for one in range(3)))
            assert [one[:9] for one in answers] == ["451 4.7.1"] * 3

    with structlog.testing.capture_logs():
        run(live())
