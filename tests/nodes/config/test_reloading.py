"""A running node told anew: what can be is, at once and whole, as its clients see; what is wrong changes nothing."""

from __future__ import annotations

import asyncio
import contextlib
import imaplib
import logging
import signal
import smtplib
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from actors.kind import decode
from actors.settings import SETTINGS, NodeReloaded
from chaos.cluster import free_base_port
from cli import layout
from cli.client import AdminClient
from cli.output import CommandError
from cli.supervisor import environment, program
from nodes.config.node import split_address
from nodes.config.reloading import FileSource, NotReloaded, Reloaded, Reloading
from nodes.config.sources import ConfigError
from nodes.server import Node
from nodes.state import NodeState
from tests.nodes.policy.trio import ADMIN, trio, until
from tests.peers.dns_server import DnsServer

Run = Callable[[Coroutine[Any, Any, Any]], Any]
ALICE, PASSWORD = "alice@example.test", "secret of alice"


class Running:
    """A node that serves, and the file that it was started with."""

    def __init__(self, file: Path, state: NodeState) -> None:
        self.file = file
        self.state = state

    @property
    def reloading(self) -> Reloading:
        assert self.state.reloading is not None
        return self.state.reloading

    def write(self, **sections: dict[str, Any]) -> None:
        """Puts keys into the file, which is replaced whole."""
        document = tomllib.loads(self.file.read_text())
        for section, table in sections.items():
            document.setdefault(section, {}).update(table)
        new = self.file.with_suffix(".new")
        new.write_bytes(tomli_w.dumps(document).encode())
        new.replace(self.file)

    async def tell(self, **sections: dict[str, Any]) -> Reloaded:
        self.write(**sections)
        return await self.reloading.reload()

    async def ehlo(self, kind: str = "smtp") -> str:
        return await asyncio.to_thread(_ehlo, self.state.endpoints[kind])

    async def send(self, kind: str = "lmtp") -> tuple[int, bytes]:
        """A message to alice; what was said to it."""
        return await asyncio.to_thread(_send, self.state.endpoints[kind])


def _ehlo(address: str) -> str:
    with smtplib.SMTP(*split_address(address), timeout=20) as client:
        return client.ehlo()[1].decode()


def _send(address: str) -> tuple[int, bytes]:
    with smtplib.LMTP(*split_address(address)) as client:
        client.ehlo()
        try:
            client.sendmail(
                "x@sender.test", [ALICE], b"From: x@sender.test\r\nDate: Sat, 21 Nov 2026 10:00:00 +0000\r\n\r\nx\r\n"
            )
        except smtplib.SMTPDataError as error:
            return error.smtp_code, error.smtp_error if isinstance(
                error.smtp_error, bytes
            ) else error.smtp_error.encode()
        except smtplib.SMTPRecipientsRefused as error:
            return error.recipients[ALICE]
        return 250, b""


@contextlib.asynccontextmanager
async def serving(folder: Path, **sections: dict[str, Any]) -> AsyncIterator[Running]:
    """A node of one with these keys in its file, and alice."""
    cluster = layout.create(folder / "cell", 1, free_base_port(1))
    file = cluster.nodes[0].config
    Running(file, None).write(**sections)  # type: ignore[arg-type]
    source = FileSource(file, {})
    loaded = source.read()
    async with Node(loaded.config, loaded, source).running() as state:
        await until(lambda: not state.unready())
        assert state.services is not None
        await state.services.directory.add_tenant("example", ["example.test"], ADMIN)
        await state.services.directory.add_account(ALICE, PASSWORD, None, ADMIN)
        yield Running(file, state)


def with_node(run: Run, folder: Path, body: Callable[[Running], Awaitable[None]], **sections: dict[str, Any]) -> None:
    async def session() -> None:
        async with serving(folder, **sections) as node:
            await body(node)

    run(session())


# -- each section, by what clients see


def test_limits_are_reloaded(run: Run, tmp_path: Path) -> None:
    async def body(node: Running) -> None:
        assert "RCPTMAX=100" in await node.ehlo()
        await node.tell(limits={"recipients": 300, "message_bytes": "70 KiB"})
        said = await node.ehlo()
        assert "RCPTMAX=300" in said
        assert f"SIZE {70 * 1024}" in said

    with_node(run, tmp_path, body)


def test_the_rules_of_smtp_are_reloaded_for_sessions_that_are_open(run: Run, tmp_path: Path) -> None:
    async def body(node: Running) -> None:
        client = await asyncio.to_thread(smtplib.SMTP, *split_address(node.state.endpoints["smtp"]))
        await asyncio.to_thread(client.ehlo)
        assert "XCLIENT" not in await node.ehlo()
        await node.tell(smtp={"xclient_from": ["127.0.0.1/32"]})
        assert "XCLIENT" in await node.ehlo()
        assert (await asyncio.to_thread(client.noop))[0] == 250
        client.close()

    with_node(run, tmp_path, body)


def test_how_clients_may_log_in_is_reloaded(run: Run, tmp_path: Path) -> None:
    async def body(node: Running) -> None:
        def capabilities() -> tuple[str, ...]:
            with imaplib.IMAP4(*split_address(node.state.endpoints["imap"])) as client:
                return client.capabilities

        assert "LOGINDISABLED" not in await asyncio.to_thread(capabilities)
        await node.tell(auth={"plaintext_without_tls": "never"})
        assert "LOGINDISABLED" in await asyncio.to_thread(capabilities)

    with_node(run, tmp_path, body)


def test_issuers_of_tokens_are_reloaded(run: Run, tmp_path: Path) -> None:
    async def body(node: Running) -> None:
        assert "OAUTHBEARER" not in await node.ehlo("submission")
        keys = tmp_path / "keys.json"
        keys.write_text('{"keys": []}')
        issuer = {"issuer": "https://id.test", "audience": "mail", "keys_file": str(keys), "domains": ["example.test"]}
        await node.tell(oauth=issuer)
        assert "OAUTHBEARER" in await node.ehlo("submission")

    with_node(run, tmp_path, body)


def test_policy_is_reloaded_and_what_was_counted_stays(run: Run, tmp_path: Path) -> None:
    async def body(node: Running) -> None:
        def submit() -> int:
            with smtplib.SMTP(*split_address(node.state.endpoints["submission"])) as client:
                client.login(ALICE, PASSWORD)
                client.mail(ALICE)
                code = client.rcpt(ALICE)[0]
                if code != 250:
                    return code
                return client.data(b"From: alice@example.test\r\n\r\nx\r\n")[0]

        assert await asyncio.to_thread(submit) == 250
        await node.tell(policy={"account_messages_per_hour": 1})
        assert await asyncio.to_thread(submit) == 250
        assert await asyncio.to_thread(submit) == 451
        await node.tell(policy={"account_recipients_per_hour": 1000})
        assert await asyncio.to_thread(submit) == 451
        await node.tell(policy={"account_messages_per_hour": 0})
        assert await asyncio.to_thread(submit) == 250

    with_node(run, tmp_path, body)


def test_filters_are_reloaded(run: Run, tmp_path: Path) -> None:
    async def body(node: Running) -> None:
        assert await node.send() == (250, b"")
        nobody = f"127.0.0.1:{free_base_port(1)}"
        await node.tell(filters={"clamav": nobody}, clamav={"listeners": ["lmtp"], "when_down": "tempfail"})
        assert (await node.send())[0] == 451
        await node.tell(filters={"clamav": ""})
        assert await node.send() == (250, b"")
        await node.tell(filters={"rspamd": nobody}, rspamd={"listeners": ["lmtp"], "when_down": "tempfail"})
        assert (await node.send())[0] == 451
        await node.tell(rspamd={"when_down": "accept"})
        assert await node.send() == (250, b"")
        await node.tell(filters={"milters": [f"one={nobody}"]}, milter={"listeners": ["lmtp"], "when_down": "tempfail"})
        assert (await node.send())[0] == 451

    with_node(run, tmp_path, body)


def test_name_servers_and_verdicts_are_reloaded(run: Run, tmp_path: Path) -> None:
    async def body(node: Running) -> None:
        def deliver() -> None:
            with smtplib.SMTP(*split_address(node.state.endpoints["smtp"]), local_hostname="mx.sender.test") as client:
                client.sendmail("a@sender.test", [ALICE], b"From: a@sender.test\r\n\r\nx\r\n")

        def last() -> str:
            with imaplib.IMAP4(*split_address(node.state.endpoints["imap"])) as client:
                client.login(ALICE, PASSWORD)
                client.select()
                data: Any = client.fetch("*", "(BODY.PEEK[HEADER])")[1][0]
                text: str = data[1].decode()
                return text

        with DnsServer('sender.test. TXT "v=spf1 ip4:127.0.0.1 -all"\n') as one, DnsServer("") as other:
            await node.tell(
                dns={"nameservers": [one.address]}, verdicts={"judge": "always", "authserv_id": "first.test"}
            )
            await asyncio.to_thread(deliver)
            assert "first.test" in (header := await asyncio.to_thread(last))
            assert "spf=pass" in header
            await node.tell(dns={"nameservers": [other.address]}, verdicts={"authserv_id": "second.test"})
            await asyncio.to_thread(deliver)
            assert "second.test" in (header := await asyncio.to_thread(last))
            assert "spf=none" in header
            await node.tell(verdicts={"judge": "off"})
            await asyncio.to_thread(deliver)
            assert "Authentication-Results" not in await asyncio.to_thread(last)

    with_node(run, tmp_path, body)


def test_the_queue_is_reloaded(run: Run, tmp_path: Path) -> None:
    async def body(node: Running) -> None:
        def submit() -> None:
            with smtplib.SMTP(*split_address(node.state.endpoints["submission"])) as client:
                client.login(ALICE, PASSWORD)
                client.sendmail(ALICE, ["b@elsewhere.test"], b"From: alice@example.test\r\n\r\nx\r\n")

        with DnsServer("") as names:
            await node.tell(dns={"nameservers": [names.address]})
            await asyncio.to_thread(submit)
            assert not names.asked
            await node.tell(queue={"send": True, "retry_first_s": 100})
            await until(lambda: bool(names.asked))

    with_node(run, tmp_path, body, queue={"send": False, "takeover_s": 0})


def test_log_lines_and_turns_of_threads_are_reloaded(run: Run, tmp_path: Path) -> None:
    async def body(node: Running) -> None:
        await node.tell(log={"level": "error"}, node={"switch_interval_ms": 3})
        assert logging.getLogger().level == logging.ERROR
        assert sys.getswitchinterval() == pytest.approx(0.003)
        await node.tell(log={"level": "info"}, node={"switch_interval_ms": 1})

    with_node(run, tmp_path, body)


def test_how_many_signed_heads_are_kept_is_reloaded(run: Run, tmp_path: Path) -> None:
    async def body(node: Running) -> None:
        heads = node.state.heads
        assert heads is not None
        await until(lambda: len(heads.positions()) >= 1)
        await node.send()
        await until(lambda: len(heads.positions()) >= 2)
        await node.tell(heads={"keep": 1})
        await node.send()
        await until(lambda: len(heads.positions()) == 1)

    with_node(run, tmp_path, body, heads={"every_s": 1})


def test_a_listener_moves_and_drops_nobody(run: Run, tmp_path: Path) -> None:
    async def body(node: Running) -> None:
        before = node.state.endpoints["imap"]
        idle = await asyncio.to_thread(imaplib.IMAP4, *split_address(before))
        await asyncio.to_thread(idle.login, ALICE, PASSWORD)
        port = free_base_port(1)
        await node.tell(listen={"imap": f"127.0.0.1:{port}", "pop3": ""})
        assert node.state.endpoints["imap"] == f"127.0.0.1:{port}"
        assert "pop3" not in node.state.endpoints
        assert (await asyncio.to_thread(idle.noop))[0] == "OK"
        new = await asyncio.to_thread(imaplib.IMAP4, "127.0.0.1", port)
        assert (await asyncio.to_thread(new.logout))[0] == "BYE"
        with pytest.raises(OSError, match="refused"):
            await asyncio.to_thread(imaplib.IMAP4, *split_address(before))
        await asyncio.to_thread(idle.logout)

    with_node(run, tmp_path, body)


# -- whole or not at all


def test_a_port_in_use_leaves_everything_as_it_was(run: Run, tmp_path: Path) -> None:
    async def body(node: Running) -> None:
        with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as taken:
            address = f"127.0.0.1:{taken.getsockname()[1]}"
            other = f"127.0.0.1:{free_base_port(1)}"
            with pytest.raises(NotReloaded, match=f"listen.imap = {address}: can not listen there"):
                await node.tell(listen={"smtp": other, "imap": address}, limits={"recipients": 300})
        assert "RCPTMAX=100" in await node.ehlo()
        with pytest.raises(OSError, match="refused"):
            await asyncio.to_thread(smtplib.SMTP, *split_address(other))

    with_node(run, tmp_path, body)


@pytest.mark.parametrize("text", ["[limits\n", "[limits]\nrecipients = 1\n", "[limit]\nrecipients = 300\n", ""])
def test_a_wrong_file_changes_nothing(run: Run, tmp_path: Path, text: str) -> None:
    async def body(node: Running) -> None:
        sound = node.file.read_text()
        node.file.write_text(text)
        with pytest.raises(ConfigError):
            await node.reloading.reload()
        node.file.write_text(sound)
        assert "RCPTMAX=100" in await node.ehlo()
        assert await node.reloading.reload() == Reloaded((), ())

    with_node(run, tmp_path, body)


def test_a_part_that_fails_is_rolled_back_with_all_before_it(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def body(node: Running) -> None:
        from nodes.listeners import Listeners

        honest, failed = Listeners.reload, list[int]()

        def fail_once(listeners: Listeners) -> None:
            if not failed:
                failed.append(1)
                raise RuntimeError("no")
            honest(listeners)

        monkeypatch.setattr(Listeners, "reload", fail_once)
        with pytest.raises(RuntimeError):
            await node.tell(limits={"recipients": 300})
        assert node.state.config.limits.recipients == 100
        assert "RCPTMAX=100" in await node.ehlo()

    with_node(run, tmp_path, body)


def test_what_needs_a_restart_is_named_and_waits(run: Run, tmp_path: Path) -> None:
    async def body(node: Running) -> None:
        done = await node.tell(node={"hostname": "mx.example.test"}, limits={"recipients": 300})
        assert done == Reloaded((("limits.recipients", "100", "300"),), ("node.hostname",))
        assert "mx.example.test" not in await node.ehlo()
        assert (await node.reloading.reload()).restart == ("node.hostname",)
        assert {one.name: one.value for one in node.reloading.settings()}["node.hostname"] == '"n1.localhost"'

    with_node(run, tmp_path, body)


def test_before_and_after_stand_in_the_log(run: Run, tmp_path: Path) -> None:
    async def body(node: Running) -> None:
        assert node.state.log is not None
        told: list[Any] = []
        node.state.log.subscribe(SETTINGS, told.extend)
        await node.tell(limits={"recipients": 300}, node={"hostname": "mx.example.test"})
        await until(lambda: bool(told))
        event = told[0].event
        fact = decode(event.type, event.version, event.data)
        assert fact == NodeReloaded("n1", (("limits.recipients", "100", "300"),), ("node.hostname",))

    with_node(run, tmp_path, body)


def test_a_file_that_is_watched_is_reloaded_when_it_has_settled(run: Run, tmp_path: Path) -> None:
    async def body(node: Running) -> None:
        sound = node.file.read_text()
        node.file.write_text(sound[: len(sound) // 2])  # half written
        await asyncio.sleep(0.4)
        node.file.write_text(sound)
        node.write(limits={"recipients": 300})
        await until(lambda: node.state.config.limits.recipients == 300)

    with_node(run, tmp_path, body, node={"watch_s": 0.1})


def test_sighup_and_the_command_have_a_node_read_its_file_again(tmp_path: Path) -> None:
    cluster = layout.create(tmp_path / "cell", 1, free_base_port(1))
    node = cluster.nodes[0]
    command = program("node", "run", "--config", str(node.config), "--set", "log.level=info")
    process = subprocess.Popen(command, env=environment(), stderr=subprocess.DEVNULL)
    file = Running(node.config, None)  # type: ignore[arg-type]
    try:
        client = AdminClient(cluster)
        _wait(lambda: client.status(node)["ready"])
        file.write(limits={"recipients": 300})
        process.send_signal(signal.SIGHUP)
        _wait(lambda: "RCPTMAX=300" in _ehlo(node.addresses["smtp"]))
        file.write(limits={"recipients": 400}, log={"level": "debug"})
        done = client.change("POST", "/v1/reload")
        assert done["changes"] == [{"key": "limits.recipients", "before": "300", "after": "400"}]
        found = client.get("/v1/config")["settings"]
        assert found["log.level"] == {"value": '"info"', "kind": "flag", "source": "--set log.level"}
        explained = client.get("/v1/config/limits.recipients")
        assert (explained["value"], explained["kind"], explained["about"]["reload"][:3]) == ("400", "file", "yes")
        with pytest.raises(CommandError, match=r"no key limits\.recipient; did you mean limits\.recipients"):
            client.get("/v1/config/limits.recipient")
        node.config.write_text("[limits\n")
        with pytest.raises(CommandError, match=r"nothing was changed: .*line 1, column 8: not valid TOML"):
            client.change("POST", "/v1/reload")
        _wait(lambda: _types(client).count("NodeReloaded") == 2)
    finally:
        process.kill()
        process.wait()


def _types(client: AdminClient) -> list[str]:
    records = client.get("/v1/log?last=8")["records"]
    return [event["type"] for record in records for event in record.get("events", [])]


def _wait(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while True:
        with contextlib.suppress(Exception):
            if holds():
                return
        assert time.monotonic() < deadline
        time.sleep(0.05)


# -- for the whole cell


def test_what_is_set_for_the_cell_holds_at_every_node_and_wins_over_their_files(run: Run, tmp_path: Path) -> None:
    async def session() -> None:
        async with trio(tmp_path / "cell", "limits.recipients=200") as nodes:
            client = AdminClient(layout.load(tmp_path / "cell"))

            async def change(body: Any) -> Any:
                return await asyncio.to_thread(client.change, "PUT", "/v1/cluster-settings", body)

            await change({"set": {"limits.recipients": "300", "policy.greylisting": True}})
            await until(lambda: all(one.config.limits.recipients == 300 for one in nodes.states))
            for state in nodes.states:
                assert "RCPTMAX=300" in await asyncio.to_thread(_ehlo, state.endpoints["smtp"])
            assert (await nodes.answer(2, "203.0.113.9")).startswith("451")
            await nodes.lose(0)
            await nodes.come_back(0)
            await until(lambda: nodes.states[0].config.limits.recipients == 300)
            found = (await asyncio.to_thread(client.get, "/v1/config"))["settings"]["limits.recipients"]
            assert found == {"value": "300", "kind": "cluster", "source": "set for the whole cell"}
            await change({"unset": ["limits.recipients"]})
            await until(lambda: all(one.config.limits.recipients == 200 for one in nodes.states))
            with pytest.raises(CommandError, match=r"limits.recipients is not set for the cluster"):
                await change({"unset": ["limits.recipients"]})

    run(session())


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ({"limits.recipients": 5}, "limits.recipients = 5: must be a whole number, at least 100"),
        ({"limits.recipient": 500}, "can not be set for the whole cell; did you mean limits.recipients"),
        ({"node.name": "x"}, "node.name: can not be set for the whole cell"),
        ({"limits.auth_delay_s": 99}, "must be at most limits.auth_delay_max_s"),
    ],
)
def test_what_can_not_hold_is_not_set_for_the_cell(run: Run, tmp_path: Path, wanted: Any, said: str) -> None:
    async def body(node: Running) -> None:
        client = AdminClient(layout.load(tmp_path / "cell"))
        with pytest.raises(CommandError, match=said):
            await asyncio.to_thread(
                client.change, "PUT", "/v1/cluster-settings", {"set": {"limits.errors": 3, **wanted}}
            )
        assert (await asyncio.to_thread(client.get, "/v1/cluster-settings"))["settings"] == {}

    with_node(run, tmp_path, body)
