"""One id follows a message: the client's connection in the log's records and the node's lines, to the bounce."""

from __future__ import annotations

import contextlib
import gzip
import json
import re
import smtplib
import threading
import time
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

from aiosmtpd.controller import Controller
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from chaos.cluster import Cluster, free_base_port
from nodes.addresses import split_address
from tests.acceptance.site import ALICE

MESSAGE = f"From: {ALICE}\r\nSubject: followed\r\n\r\nText.\r\n"


class Taking:
    """Another server, which takes everything, but not for gone@."""

    def __init__(self) -> None:
        self.taken: list[bytes] = []

    async def handle_RCPT(self, _server: Any, _session: Any, envelope: Any, address: str, _options: Any) -> str:
        if address.startswith("gone@"):
            return "550 5.1.1 nobody of that name"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 ok"

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:
        self.taken.append(envelope.content)
        return "250 2.0.0 taken"


class Collector(BaseHTTPRequestHandler):
    """Takes what an OpenTelemetry exporter sends."""

    spans: ClassVar[list[Any]] = []

    def do_POST(self) -> None:
        data = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            data = gzip.decompress(data)
        request = ExportTraceServiceRequest()
        request.ParseFromString(data)
        scopes = [scope for resource in request.resource_spans for scope in resource.scope_spans]
        self.spans.extend(span for scope in scopes for span in scope.spans)
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Quiet."""


@contextlib.contextmanager
def collecting() -> Iterator[str]:
    """A collector; gives its URL."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Collector)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1/traces"
    finally:
        server.shutdown()
        server.server_close()


def attributes_of(span: Any) -> dict[str, Any]:
    found = {one.key: one.value for one in span.attributes}
    return {name: value.string_value or value.int_value for name, value in found.items()}


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
    with collecting() as url:
        follow(tmp_path, url)


def follow(tmp_path: Path, url: str) -> None:
    taking = Taking()
    server = Controller(taking, hostname="127.0.0.1", port=(port := free_base_port(1)))
    server.start()
    try:
        debug = {"MAILRAFT_LOG_LEVEL": "debug", "MAILRAFT_LOG_FORMAT": "json"}
        traced = {"MAILRAFT_TRACING__ENABLED": "true", "MAILRAFT_TRACING__ENDPOINT": url}
        with Cluster(tmp_path / "cluster", nodes=1, environment=debug | traced) as cluster:
            password = cluster.add_accounts("example", (ALICE,))
            cluster.command("route", "add", "default", "--host", "127.0.0.1", "--port", str(port), "--tls", "clear")
            address = cluster.status().node("n1").endpoints["submission"]
            with smtplib.SMTP(*split_address(address)) as client:
                client.login(ALICE, password)
                client.mail(ALICE)
                client.rcpt("bob@far.test")
                client.rcpt("gone@far.test")
                refused, _ = client.rcpt("bob@far..test")
                _, reply = client.data(MESSAGE)
            queued, tried = logged(cluster, "MailQueued"), logged(cluster, "Attempt*")
            told = logged(cluster, "MessageDelivered")
            metrics = urllib.request.urlopen(f"http://{cluster.status().node('n1').endpoints['http']}/metrics").read()
        lines = [json.loads(line) for line in (tmp_path / "cluster/n1/node.log").read_text().splitlines()
                 if line.startswith("{")]  # fmt: skip
    finally:
        server.stop()
    cause = queued["cause"]
    assert re.fullmatch(r"submission session [0-9a-f]{32}", cause)
    session = cause.split()[-1]
    item = data_of(queued, "MailQueued")["item_id"]
    of_it = {one["event"]: one for one in lines if one.get("session") == session}
    message = of_it["mail taken"]["message"]
    assert message in reply.decode()
    assert message.encode() in taking.taken[0]  # in our Received line, for those who ask about it from outside
    assert (of_it["mail taken"]["account"], of_it["mail taken"]["tenant"]) == (ALICE, "example")
    # what was refused meanwhile, under the code that stands in the metrics
    assert (refused, of_it["refused"]["code"]) == (553, "invalid_name")
    assert b'mailraft_errors_total{category="refused",code="invalid_name",severity="info"} 1.0' in metrics
    # the attempt, and the notice to the sender: the lines of whoever made them, and the records
    assert item in json.dumps(tried["events"])
    assert (of_it["mail tried"]["item"], sorted(of_it["mail tried"]["results"])) == (item, ["delivered", "failed"])
    assert (of_it["mail failed"]["code"], of_it["mail failed"]["item"]) == ("delivery_failed", item)
    assert "nobody of that name" in of_it["mail failed"]["reply"]
    assert of_it["sender told"]["kind"] == "failed"
    assert tried["cause"] == told["cause"] == f"queue session {session}"
    # and the trace has the same id: connection, commands, record, attempt
    spans = [one for one in Collector.spans if one.trace_id.hex() == session]
    by_name = {one.name: one for one in spans}
    assert {"connection", "EHLO", "AUTH", "MAIL", "RCPT", "DATA", "record", "delivery attempt"} <= set(by_name)
    connection, content, record = by_name["connection"], by_name["DATA"], by_name["record"]
    assert (content.parent_span_id, record.parent_span_id) == (connection.span_id, content.span_id)
    assert attributes_of(record)["mailraft.position"] == queued["position"]
    assert attributes_of(content)["mailraft.tenant"] == attributes_of(connection)["mailraft.tenant"] == "example"
    assert [attributes_of(one)["mailraft.code"] for one in spans if "mailraft.code" in attributes_of(one)] == [
        "invalid_name"
    ]
    assert attributes_of(by_name["delivery attempt"])["mailraft.item"] == item
    assert "far.test" not in str([attributes_of(one) for one in spans if one.name != "delivery attempt"])
