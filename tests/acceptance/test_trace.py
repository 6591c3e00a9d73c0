"""One id follows a message: the client's session in the log's record and the node's lines, its item to the outcome."""

from __future__ import annotations

import json
import re
import smtplib
import time
from pathlib import Path
from typing import Any

from aiosmtpd.controller import Controller

from chaos.cluster import Cluster, free_base_port
from nodes.addresses import split_address
from tests.acceptance.site import ALICE

MESSAGE = f"From: {ALICE}\r\nSubject: followed\r\n\r\nText.\r\n"


class Taking:
    """Another server, which takes everything."""

    def __init__(self) -> None:
        self.taken: list[bytes] = []

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:
        self.taken.append(envelope.content)
        return "250 2.0.0 taken"


def logged(cluster: Cluster, event_type: str) -> dict[str, Any]:
    """The one record with an event of that type, in full, once there is one."""
    deadline_s = time.monotonic() + 30
    while True:
        lines = cluster.command("log", "tail", "--type", event_type, "--json").splitlines()
        if lines:
            (line,) = lines
            shown = cluster.command("log", "show", str(json.loads(line)["position"]), "--json")
            found: dict[str, Any] = json.loads(shown)
            return found
        assert time.monotonic() < deadline_s
        time.sleep(0.2)


def data_of(record: dict[str, Any], event_type: str) -> dict[str, Any]:
    (found,) = (one["data"] for one in record["events"] if one["type"] == event_type)
    return dict(found)


def test_a_message_is_followed_from_its_session_to_its_outcome(tmp_path: Path) -> None:
    taking = Taking()
    server = Controller(taking, hostname="127.0.0.1", port=(port := free_base_port(1)))
    server.start()
    try:
        debug = {"MAILRAFT_LOG_LEVEL": "debug", "MAILRAFT_LOG_FORMAT": "json"}
        with Cluster(tmp_path / "cluster", nodes=1, environment=debug) as cluster:
            password = cluster.add_accounts("example", (ALICE,))
            cluster.command("route", "add", "default", "--host", "127.0.0.1", "--port", str(port), "--tls", "clear")
            address = cluster.status().node("n1").endpoints["submission"]
            with smtplib.SMTP(*split_address(address)) as client:
                client.login(ALICE, password)
                client.mail(ALICE)
                client.rcpt("bob@far.test")
                _, reply = client.data(MESSAGE)
            queued, tried = logged(cluster, "MailQueued"), logged(cluster, "Attempt*")
        lines = [json.loads(line) for line in (tmp_path / "cluster/n1/node.log").read_text().splitlines()
                 if line.startswith("{")]  # fmt: skip
    finally:
        server.stop()
    session = queued["cause"]
    assert re.fullmatch(r"submission session [0-9a-f]{32}", session)
    item = data_of(queued, "MailQueued")["item_id"]
    (message,) = (one["message"] for one in lines if one["event"] == "mail taken" and one["cause"] == session)
    assert message in reply.decode()
    assert message.encode() in taking.taken[0]  # in our Received line, for those who ask about it from outside
    assert item in json.dumps(tried["events"])
    assert [one["results"] for one in lines if one["event"] == "mail tried" and one["item"] == item] == [["delivered"]]
