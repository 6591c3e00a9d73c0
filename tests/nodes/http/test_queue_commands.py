"""`mailraft queue` and `mailraft send` against a running node, by an administrator who comes with a token: each does
what it says, says so in JSON, names what is not there, and stands in the log under the administrator's name.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import structlog
from click.testing import CliRunner, Result

from cli.main import main
from tests.nodes.http.test_queue import ALICE, Site, at_site, wait_until
from tests.peers.smtp_peer import SmtpPeer

Run = Callable[[Coroutine[Any, Any, Any]], Any]
MISSING = "00" * 16
OURS = "token night-shift 127.0.0.1"  # how the log calls who was at the desk


class Desk:
    """An administrator's terminal: `mailraft` with the token `night-shift`."""

    def __init__(self, site: Site, folder: Path) -> None:
        self.site = site
        self._cluster = str(folder / "cell")
        self._token = site.client.change("POST", "/v1/tokens", {"name": "night-shift", "role": "cluster-admin"})[
            "token"
        ]

    def ask(self, *words: str, stdin: str = "") -> Result:
        arguments = [*words, "--cluster", self._cluster]
        return CliRunner().invoke(main, arguments, input=stdin, env={"MAILRAFT_TOKEN": self._token})

    def told(self, *words: str) -> Any:
        """What it prints as JSON."""
        done = self.ask(*words, "--json")
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    def send(self, recipient: str) -> str:
        """The id of what waits for a recipient who is elsewhere."""
        sent = self.told("send", "--from", ALICE, "--to", recipient, "--subject", "x", "--body", "Hello")
        assert (sent["sender"], sent["to"]) == (ALICE, [recipient])
        (item,) = self.told("queue", "list", "--recipient", recipient)["items"]
        return str(item["id"])

    def states(self) -> list[str]:
        return [one["state"] for one in self.told("queue", "list")["items"]]

    def authors(self, event: str) -> set[str]:
        """Who stands in the log as having caused such events."""
        records = self.site.client.get("/v1/log?last=1000")["records"]
        named = [one for one in records if event in [shown["type"] for shown in one.get("events", [])]]
        return {one["by"]["origin"] for one in named}


def at_desk(run: Run, folder: Path, story: Callable[[Desk], None]) -> None:
    with structlog.testing.capture_logs():  # what the node says is not what the command prints
        at_site(run, folder, lambda site: story(Desk(site, folder)))


def test_what_waits_is_listed_shown_counted_held_rerouted_released_and_sent(run: Run, tmp_path: Path) -> None:
    def story(desk: Desk) -> None:
        item = desk.send("bob@far.test")
        shown = desk.told("queue", "show", item)
        assert (shown["domain"], shown["state"], shown["recipients"][0]["address"]) == (
            "far.test", "suspended", "bob@far.test",
        )  # fmt: skip
        assert "far.test" in desk.ask("queue", "show", item).output
        assert desk.told("queue", "hold", item) == {"done": 1, "refused": [], "missing": []}
        (stats,) = desk.told("queue", "stats", "far.test")["domains"]
        assert (stats["items"], stats["states"]) == (1, {"held": 1})
        with SmtpPeer() as peer:
            assert desk.told("queue", "reroute", item, "--to", f"127.0.0.1:{peer.port}")["done"] == 1
            assert desk.told("queue", "resume", "--all") == {"domain": "*", "changed": True}
            assert desk.states() == ["held"]
            assert desk.told("queue", "release", item)["done"] == 1
            wait_until(lambda: not desk.states())
            assert b"Hello" in peer.taken[0].data
        for event in ("MailQueued", "ItemsParked", "ItemsRerouted", "ItemsRescheduled", "QueueResumed"):
            assert desk.authors(event) == {OURS}, event

    at_desk(run, tmp_path, story)


def test_what_was_put_off_is_tried_again_given_up_or_deleted(run: Run, tmp_path: Path) -> None:
    def story(desk: Desk) -> None:
        with SmtpPeer({"RCPT": "450 4.2.0 Later"}) as peer:
            for name in ("far", "near", "lost"):
                desk.ask("queue", "reroute", desk.send(f"bob@{name}.test"), "--to", f"127.0.0.1:{peer.port}")
            desk.ask("queue", "resume", "--all")
            wait_until(lambda: all(one["attempts"] for one in desk.told("queue", "list")["items"]))
            assert desk.told("queue", "suspend", "near.test", "--reason", "its week end") == {
                "domain": "near.test", "changed": True,
            }  # fmt: skip
            assert desk.told("queue", "suspend", "near.test")["changed"] is False
            desk.told("queue", "suspend", "lost.test")
            wait_until(lambda: desk.states().count("suspended") == 2)  # what was under way has come to its end
            wait_until(lambda: desk.told("queue", "retry", "--domain", "far.test")["done"] == 1)
            peer.replies["RCPT"] = "250 2.1.5 Ok"
            wait_until(lambda: not desk.told("queue", "list", "--domain", "far.test")["items"])
        assert desk.told("queue", "delete", "--domain", "lost.test")["done"] == 1
        assert [one["state"] for one in desk.told("queue", "list", "--domain", "near.test")["items"]] == ["suspended"]
        assert desk.told("queue", "bounce", "--domain", "near.test", "--reason", "it is gone")["done"] == 1
        wait_until(lambda: desk.states() == [])
        assert len(desk.site.inbox()) == 1  # the report on what was given up, and nothing of what was deleted
        (stats,) = desk.told("queue", "stats", "near.test")["domains"]
        assert (stats["last_7_days"]["failed"], stats["bounce_rate"]) == (1, 1.0)
        assert "100.0 %" in desk.ask("queue", "stats").output
        for event in ("QueueSuspended", "ItemsRescheduled", "ItemRemoved", "MessageDelivered"):
            assert OURS in desk.authors(event), event

    at_desk(run, tmp_path, story)


def test_what_is_not_there_or_no_id_is_named_and_fails(run: Run, tmp_path: Path) -> None:
    def story(desk: Desk) -> None:
        for action in ("retry", "hold", "release", "delete", "bounce", "reroute"):
            more = ("--to", "127.0.0.1:25") if action == "reroute" else ()
            for wrong, text in ((MISSING, f"not in the queue: {MISSING}"), ("zz", "is not the id")):
                done = desk.ask("queue", action, wrong, *more)
                assert (done.exit_code, text in done.output) == (1, True), done.output
            assert desk.ask("queue", action, *more).exit_code != 0  # nothing is named
        for wrong, text in ((MISSING, f"the queue has no message {MISSING}"), ("zz", "is not the id")):
            done = desk.ask("queue", "show", wrong)
            assert (done.exit_code, text in done.output) == (1, True), done.output
        for words in (("suspend",), ("resume",), ("suspend", "not a domain"), ("stats", "not a domain")):
            assert desk.ask("queue", *words).exit_code != 0, words
        assert desk.ask("send", "--from", ALICE, "--to", "nobody@example.test", "--body", "x").exit_code == 1

    at_desk(run, tmp_path, story)
