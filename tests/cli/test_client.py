"""The CLI's client: another node where nothing was done, never again where something may have been."""

import http.server
import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from chaos.cluster import free_base_port
from cli import layout
from cli.client import API_DESCRIBED, AdminClient, Unreachable
from cli.main import main
from cli.output import CommandError
from nodes.config import sources as config_sources
from nodes.tls import contexts as tls

Handler = Callable[[http.server.BaseHTTPRequestHandler], None]


class Api:
    """An HTTPS server in a node's place, with that node's certificate, that answers as the test says."""

    def __init__(self, cluster: layout.Cluster, node: layout.Node, handler: Handler) -> None:
        self.requests: list[str] = []
        self.level = 2  # the feature level that it tells
        requests, api = self.requests, self

        class Handle(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                if self.path == "/v1/status":
                    reply(self, 200, {"name": node.name, "pid": 1, "feature_level": api.level})
                    return
                requests.append(f"{self.command} {self.path}")
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                handler(self)

            do_GET = do_POST = do_PUT = do_DELETE = answer

            def log_message(self, *_: object) -> None:
                """Quiet."""

        config = config_sources.load(node.config, {})
        address = node.addresses["admin"].rpartition(":")
        self.server = http.server.ThreadingHTTPServer((address[0], int(address[2])), Handle)
        self.server.daemon_threads = True
        self.server.socket = tls.admin_context(config.tls).wrap_socket(self.server.socket, server_side=True)
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()


def reply(request: http.server.BaseHTTPRequestHandler, status: int, body: object) -> None:
    data = json.dumps(body).encode()
    request.send_response(status)
    request.send_header("Content-Length", str(len(data)))
    request.end_headers()
    request.wfile.write(data)


def ok(request: http.server.BaseHTTPRequestHandler) -> None:
    reply(request, 200, {"answer": request.command})


def refuse(status: int, category: str) -> Handler:
    def handler(request: http.server.BaseHTTPRequestHandler) -> None:
        reply(request, status, {"category": category, "detail": f"it is {category}", "hint": "wait", "code": "x"})

    return handler


def hang_up(request: http.server.BaseHTTPRequestHandler) -> None:
    request.close_connection = True


Serve = Callable[[int, Handler], Api]


@pytest.fixture
def cluster(tmp_path: Path) -> layout.Cluster:
    return layout.create(tmp_path / "c", 3, free_base_port(3))


@pytest.fixture
def serve(cluster: layout.Cluster) -> Iterator[Serve]:
    apis: list[Api] = []

    def start(index: int, handler: Handler) -> Api:
        apis.append(Api(cluster, cluster.nodes[index], handler))
        return apis[-1]

    yield start
    for api in apis:
        api.stop()


def test_a_node_that_does_not_answer_is_passed_over(cluster: layout.Cluster, serve: Serve) -> None:
    serve(1, ok)
    assert AdminClient(cluster).get("/v1/x") == {"answer": "GET"}
    assert AdminClient(cluster).change("POST", "/v1/x", {}) == {"answer": "POST"}


def test_a_request_does_not_wait_until_the_handshake_is_acknowledged(cluster: layout.Cluster, serve: Serve) -> None:
    """Nagle's algorithm against delayed acknowledgements takes 40 ms of each connection, and again before each body."""
    serve(0, ok)
    connection = AdminClient(cluster)._connect(cluster.nodes[0], 5.0)
    assert connection.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    connection.close()


@pytest.mark.parametrize("category", ["rejected", "not_ready", "quarantined"])
def test_what_was_certainly_not_done_is_tried_on_another_node(
    cluster: layout.Cluster, serve: Serve, category: str
) -> None:
    first, second = serve(0, refuse(503, category)), serve(1, ok)
    assert AdminClient(cluster).change("POST", "/v1/x", {}) == {"answer": "POST"}
    assert (first.requests, second.requests) == (["POST /v1/x"], ["POST /v1/x"])


def test_an_unknown_outcome_is_never_tried_again_and_exits_3(cluster: layout.Cluster, serve: Serve) -> None:
    serve(0, refuse(504, "unknown"))
    second = serve(1, ok)
    with pytest.raises(CommandError) as caught:
        AdminClient(cluster).change("POST", "/v1/x", {})
    assert (caught.value.exit_code, second.requests) == (3, [])


def test_a_change_whose_answer_is_lost_is_unknown(cluster: layout.Cluster, serve: Serve) -> None:
    first, second = serve(0, hang_up), serve(1, ok)
    with pytest.raises(CommandError, match="the outcome is unknown: it may have been done") as caught:
        AdminClient(cluster).change("POST", "/v1/x", {})
    assert caught.value.exit_code == 3
    assert (first.requests, second.requests) == (["POST /v1/x"], [])


def test_a_read_whose_answer_is_lost_is_asked_of_another_node(cluster: layout.Cluster, serve: Serve) -> None:
    serve(0, hang_up)
    serve(1, ok)
    assert AdminClient(cluster).get("/v1/x") == {"answer": "GET"}


def test_a_refusal_is_final_and_tells_what_to_do(cluster: layout.Cluster, serve: Serve) -> None:
    serve(0, refuse(409, "conflict"))
    second = serve(1, ok)
    with pytest.raises(CommandError, match="it is conflict") as caught:
        AdminClient(cluster).change("POST", "/v1/x", {})
    assert (caught.value.exit_code, caught.value.hint, second.requests) == (1, "wait", [])


def test_who_types_a_command_is_sent_to_its_help_and_not_to_the_description_of_the_api(
    cluster: layout.Cluster, serve: Serve
) -> None:
    problem = {"category": "bad_request", "detail": "no such type", "hint": API_DESCRIBED, "code": "bad_request"}
    serve(0, lambda request: reply(request, 400, problem))
    found = CliRunner().invoke(main, ["log", "tail", "--type", "x", "--cluster", str(cluster.folder)])
    assert "no such type" in found.stderr
    assert "log tail --help" in found.stderr


def test_that_a_thing_is_not_there_may_be_old_too(cluster: layout.Cluster, serve: Serve) -> None:
    def no_such(request: http.server.BaseHTTPRequestHandler) -> None:
        data = json.dumps(
            {"category": "not_found", "detail": "there is no x", "hint": "", "code": "not_found"}
        ).encode()
        request.send_response(404)
        request.send_header("Mailraft-Stale", "1")
        request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        request.wfile.write(data)

    serve(0, no_such)
    with pytest.raises(CommandError, match=r"there is no x; no majority of the nodes answers; .* may be old"):
        AdminClient(cluster).get("/v1/x")


def test_what_is_no_text_is_not_sent(cluster: layout.Cluster, serve: Serve) -> None:
    api = serve(0, ok)
    with pytest.raises(CommandError, match=r"^what was given is not text in UTF-8$"):
        AdminClient(cluster).change("POST", "/v1/x", {"password": "secret\udcff"})
    assert api.requests == []


def test_every_node_is_named_when_none_can_do_it(cluster: layout.Cluster, serve: Serve) -> None:
    serve(1, refuse(503, "not_ready"))
    with pytest.raises(CommandError) as caught:
        AdminClient(cluster).change("POST", "/v1/x", {})
    assert str(caught.value).splitlines() == [
        "no node could do it:",
        "  n1: nothing listens there",
        "  n2: it is not_ready",
        "  n3: nothing listens there",
    ]


def test_a_node_of_another_cluster_is_not_believed(cluster: layout.Cluster, tmp_path: Path) -> None:
    other = layout.create(tmp_path / "other", 1, 20000)
    stranger = other.nodes[0]._replace(addresses=cluster.nodes[0].addresses)
    api = Api(other, stranger, ok)
    try:
        with pytest.raises(Unreachable, match="its certificate is not of this cluster's CA"):
            AdminClient(cluster).status(cluster.nodes[0])
    finally:
        api.stop()


def test_another_node_of_the_cluster_in_its_place_is_not_believed(cluster: layout.Cluster) -> None:
    api = Api(cluster, cluster.nodes[1]._replace(addresses=cluster.nodes[0].addresses), ok)
    try:
        with pytest.raises(Unreachable, match=r"another node answered there \(n2\)"):
            AdminClient(cluster).status(cluster.nodes[0])
    finally:
        api.stop()


def key_of(request: http.server.BaseHTTPRequestHandler) -> str:
    return request.headers.get("Idempotency-Key", "")


def test_a_lost_answer_is_asked_for_again_under_the_same_key_where_the_log_knows_keys(
    cluster: layout.Cluster, serve: Serve
) -> None:
    keys: list[str] = []

    def lose(request: http.server.BaseHTTPRequestHandler) -> None:
        keys.append(key_of(request))
        request.close_connection = True

    def answer(request: http.server.BaseHTTPRequestHandler) -> None:
        keys.append(key_of(request))
        ok(request)

    serve(0, lose).level = 3
    serve(1, answer).level = 3
    assert AdminClient(cluster).change("POST", "/v1/x", {}) == {"answer": "POST"}
    assert keys[0]
    assert keys == [keys[0]] * 2


def test_an_outcome_that_no_node_knows_is_unknown_after_each_was_asked_twice(
    cluster: layout.Cluster, serve: Serve
) -> None:
    apis = [serve(index, refuse(504, "unknown")) for index in range(3)]
    for api in apis:
        api.level = 3
    with pytest.raises(CommandError) as caught:
        AdminClient(cluster).change("POST", "/v1/x", {})
    assert caught.value.exit_code == 3
    assert [len(api.requests) for api in apis] == [2, 2, 2]
