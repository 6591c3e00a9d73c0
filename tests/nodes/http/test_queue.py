"""Mail that waits, over the admin API of a node: what is told of it, and what an administrator does about it."""

from __future__ import annotations

import asyncio
import json
import smtplib
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from chaos.cluster import free_base_port
from cli import layout
from cli import queue as queue_commands
from cli.client import AdminClient
from cli.main import main
from cli.output import CommandError
from nodes.config import sources as config_sources
from nodes.server import Node
from tests.peers.smtp_peer import SmtpPeer

Run = Callable[[Coroutine[Any, Any, Any]], Any]
ALICE = "alice@example.test"
MESSAGE = b"From: alice@example.test\r\nSubject: out\r\n\r\nHello\r\n"
SETTINGS = {"MAILRAFT_AUTH_PLAINTEXT_WITHOUT_TLS": "loopback", "MAILRAFT_QUEUE_RETRY_FIRST_S": "0.3"}


class Site:
    """A node that runs, with Alice's account, whose mail is kept back at first."""

    def __init__(self, client: AdminClient, endpoint: str) -> None:
        self.client = client
        self._endpoint = endpoint
        client.change("POST", "/v1/tenants", {"name": "example", "domains": ["example.test"]})
        client.change("POST", "/v1/accounts", {"address": ALICE, "password": "correct horse"})
        self.suspend("*")

    def submit(self, *recipients: str) -> None:
        host, _, port = self._endpoint.rpartition(":")
        with smtplib.SMTP(host, int(port)) as client:
            client.login(ALICE, "correct horse")
            client.sendmail(ALICE, recipients, MESSAGE)

    def suspend(self, domain: str) -> bool:
        return bool(self.client.change("POST", f"/v1/queue/domains/{domain}/suspend", {"reason": "a test"})["changed"])

    def resume(self, domain: str) -> bool:
        return bool(self.client.change("POST", f"/v1/queue/domains/{domain}/resume", {})["changed"])

    def items(self, query: str = "") -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.client.get(f"/v1/queue{query}")["items"]
        return found

    def act(self, action: str, **what: Any) -> dict[str, Any]:
        return dict(self.client.change("POST", "/v1/queue/actions", {"action": action, **what}))

    def inbox(self) -> list[dict[str, Any]]:
        found = self.client.get(f"/v1/mailboxes/{ALICE}")["folders"]
        return list(next(one for one in found if one["name"] == "INBOX")["messages"])


def at_site(run: Run, folder: Path, story: Callable[[Site], None]) -> None:
    cell = layout.create(folder / "cell", 1, free_base_port(1))

    async def session() -> None:
        async with Node(config_sources.load(cell.nodes[0].config, SETTINGS)).running() as state:
            async with asyncio.timeout(15):
                while state.unready():
                    await asyncio.sleep(0.05)
            await asyncio.to_thread(lambda: story(Site(AdminClient(cell), state.endpoints["submission"])))

    run(session())


def wait_until(holds: Callable[[], object]) -> None:
    deadline_s = time.monotonic() + 15
    while not holds():
        assert time.monotonic() < deadline_s
        time.sleep(0.05)


def test_mail_is_listed_by_what_it_is_and_page_by_page(run: Run, tmp_path: Path) -> None:
    def story(site: Site) -> None:
        site.submit("bob@far.test", "eve@far.test")
        site.submit("bob@near.test")
        first, second = site.items()
        assert (first["domain"], first["sender"], first["state"]) == ("far.test", ALICE, "suspended")
        assert [one["address"] for one in first["recipients"]] == ["bob@far.test", "eve@far.test"]
        assert site.items("?recipient=EVE@far.test") == [first]
        assert site.items("?domain=near.test&state=suspended&sender=Alice@example.test") == [second]
        assert site.items("?older_s=3600") == site.items("?state=held") == site.items("?sender=") == []
        page = site.client.get("/v1/queue?limit=1")
        assert page["items"] == [first]
        assert site.client.get(f"/v1/queue?limit=1&after={page['next']}") == {"items": [second], "next": None}
        assert site.client.get(f"/v1/queue/items/{second['id']}") == second

    at_site(run, tmp_path, story)


def test_mail_is_held_released_rerouted_and_sent(run: Run, tmp_path: Path) -> None:
    def story(site: Site) -> None:
        site.submit("bob@far.test")
        (item,) = site.items()
        with SmtpPeer() as peer:
            assert site.act("hold", ids=[item["id"]])["done"] == 1
            assert site.act("reroute", ids=[item["id"]], route=f"127.0.0.1:{peer.port}")["done"] == 1
            (refused,) = site.act("retry", ids=[item["id"]])["refused"]
            assert "release" in refused["reason"]
            assert site.resume("*")
            assert [(one["state"], one["route"]) for one in site.items()] == [("held", f"127.0.0.1:{peer.port}")]
            assert site.act("release", filter={"domain": "far.test"})["done"] == 1
            wait_until(lambda: not site.items())
            (taken,) = peer.taken
        assert "bob@far.test" in taken.rcpts[0]
        (stats,) = site.client.get("/v1/queue/stats")["domains"]
        assert (stats["items"], stats["last_7_days"]["delivered"], stats["bounce_rate"]) == (0, 1, 0.0)

    at_site(run, tmp_path, story)


def test_what_a_peer_puts_off_waits_with_its_reason_and_goes_when_it_is_tried_again(run: Run, tmp_path: Path) -> None:
    def story(site: Site) -> None:
        site.submit("bob@far.test")
        with SmtpPeer({"RCPT": "451 4.7.0 Not yet"}) as peer:
            site.client.change(
                "PUT", "/v1/routes", {"for": "default", "host": "127.0.0.1", "port": peer.port, "tls": "may"}
            )
            assert [one["next_ms"] for one in site.items()] == [None]  # it is suspended
            site.resume("*")
            wait_until(lambda: [one["state"] for one in site.items()] == ["throttled"])
            (item,) = site.items()
            assert item["next_ms"] > time.time() * 1000 + 30_000  # the end of the throttle
            assert (item["attempts"], item["recipients"][0]["enhanced"]) == (1, "4.7.0")
            assert "Not yet" in item["recipients"][0]["reason"]
            (stats,) = site.client.get("/v1/queue/stats")["domains"]
            assert stats["throttle_reason"].startswith("451 4.7.0 from ")
            peer.replies["RCPT"] = "250 2.1.5 Ok"
            site.act("retry", ids=[item["id"]])
            wait_until(lambda: not site.items())

    at_site(run, tmp_path, story)


def test_mail_is_given_up_with_a_report_or_deleted_without_one(run: Run, tmp_path: Path) -> None:
    def story(site: Site) -> None:
        site.submit("bob@far.test")
        site.submit("bob@near.test")
        assert site.act("bounce", filter={"domain": "far.test"}, reason="that server is gone for good")["done"] == 1
        assert site.act("delete", filter={"domain": "near.test"})["done"] == 1
        assert site.items() == []
        assert len(site.inbox()) == 1
        missing = "00" * 16
        assert site.act("delete", ids=[missing]) == {"done": 0, "refused": [], "missing": [missing]}

    at_site(run, tmp_path, story)


def test_a_domain_that_is_suspended_twice_is_suspended_once(run: Run, tmp_path: Path) -> None:
    def story(site: Site) -> None:
        assert [site.suspend("Far.test"), site.suspend("far.test")] == [True, False]
        assert [site.resume("far.test"), site.resume("far.test")] == [True, False]

    at_site(run, tmp_path, story)


def test_mail_that_waits_for_its_tenant_says_so(run: Run, tmp_path: Path) -> None:
    def story(site: Site) -> None:
        site.submit("bob@far.test")
        whys = [site.items()[0]["suspended_because"]]
        site.suspend("far.test")
        whys.append(site.items()[0]["suspended_because"])
        site.client.change("POST", "/v1/tenants/example/suspension", {"mail": "defer", "reason": "unpaid"})
        for domain in ("*", "far.test"):
            site.resume(domain)
        (item,) = site.items("?state=suspended")
        assert [*whys, item["suspended_because"]] == [
            "all sending is suspended",
            "sending to far.test is suspended",
            "the organisation's service is suspended",
        ]
        assert (item["state"], item["next_ms"]) == ("suspended", None)
        (stats,) = site.client.get("/v1/queue/stats")["domains"]
        assert (stats["states"], stats["suspended"]) == ({"suspended": 1}, None)
        site.client.change("DELETE", "/v1/tenants/example/suspension")
        assert site.items("?state=suspended") == []

    at_site(run, tmp_path, story)


@pytest.mark.parametrize(
    ("body", "message"),
    [({"action": "burn", "ids": ["00" * 16]}, "action"), ({"action": "hold"}, "either ids or a filter"),
     ({"action": "reroute", "ids": ["00" * 16], "route": "no host"}, "no host"),
     ({"action": "hold", "ids": ["zz"]}, "is not the id"), ({"action": "hold", "filter": {"state": "odd"}}, "state")],
)  # fmt: skip
def test_what_is_asked_wrongly_is_refused(run: Run, tmp_path: Path, body: dict[str, Any], message: str) -> None:
    def story(site: Site) -> None:
        with pytest.raises(CommandError, match=message):
            site.client.change("POST", "/v1/queue/actions", body)

    at_site(run, tmp_path, story)


def test_what_filters_choose_is_changed_part_by_part(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue_commands, "PART", 2)

    def story(site: Site) -> None:
        site.submit(*(f"bob@far{number}.test" for number in range(5)))
        asked = ["queue", "hold", "--all", "--json", "--cluster", str(tmp_path / "cell")]
        result = CliRunner().invoke(main, asked)
        assert result.exit_code == 0, result.output
        assert json.loads(result.stdout) == {"done": 5, "refused": [], "missing": []}
        assert [one["state"] for one in site.items()] == ["held"] * 5
        records = [one for one in site.client.get("/v1/log?last=10")["records"] if "actions" in one["cause"]]
        assert [one["by"]["kind"] for one in records] == ["admin"] * 5  # a record for each domain
        result = CliRunner().invoke(main, [*asked[:1], "delete", "--domain", "far3.test", *asked[3:]])
        assert json.loads(result.stdout)["done"] == 1
        assert len(site.items()) == 4

    at_site(run, tmp_path, story)
