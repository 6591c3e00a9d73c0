"""The command line's side of the admin API: asks one node after the other until one answers.

What was certainly not done is tried elsewhere. What may have been done is asked for again under the same idempotency
key, so that it is done once; where no node can tell, it is reported as unknown (exit code 3).
"""

from __future__ import annotations

import http.client
import json
import secrets
import socket
import ssl
from collections.abc import Iterator
from typing import IO, Any, NamedTuple

import click

from cli.layout import Cluster, Node
from cli.output import FAILED, UNKNOWN, CommandError, say
from cli.paths import page_after
from nodes.addresses import split_address
from nodes.errors.kinds import EXIT_NOT_NOW, EXITS
from nodes.files import finish, steady
from nodes.tls.links import admin_client_context, peer_node_name

CONNECT_TIMEOUT_S = 3.0
ANSWER_TIMEOUT_S = 30.0
KEY_HEADER = "Idempotency-Key"
LEVEL_OF_KEYS = 3  # the feature level from which on the log knows requests by their keys
STALE_HEADER = "Mailraft-Stale"  # as nodes/http/errors.py has it; importing that would be slow
# the node is certain that nothing was done; another node may be able to
_ELSEWHERE = {"rejected", "not_ready", "quarantined"}


API_DESCRIBED = "/v1/openapi.json describes it"  # what nodes say to programs; who types a command has its --help
_MAY_BE_OLD = "no majority of the nodes answers; this is what one node knows, and may be old"


class Unreachable(Exception):
    """Nothing was asked of this node: it did not answer, or it is not the one it should be."""


class Refusing(Unreachable):
    """It answers, and does not know yet who asks."""


class _MayBeDone(Exception):
    """The answer was lost; asked again under the same key, it is done once."""

    def __init__(self, error: CommandError) -> None:
        super().__init__(str(error))
        self.error = error


class NothingDone(CommandError):
    """No node could do it now, and none did any of it: it may be asked for again."""


class Refused(NamedTuple):
    """A problem (RFC 9457) that a node answered with; `said`: all its members."""

    category: str
    message: str
    hint: str
    code: str = ""
    said: dict[str, Any] = {}  # noqa: RUF012


class AdminClient:
    """Talks to the nodes of one cluster with the administrator's certificate."""

    def __init__(self, cluster: Cluster, *, timeout_s: float = ANSWER_TIMEOUT_S) -> None:
        self._cluster = cluster
        self._timeout_s = timeout_s
        self._headers = {"Content-Type": "application/json"}
        self._tls = self._context(cluster)
        self._knows_keys: set[str] = set()

    def _context(self, cluster: Cluster) -> ssl.SSLContext:
        """Raises CommandError."""
        admin = cluster.folder / "admin"
        try:
            finish(admin / "admin.pem", admin / "admin.key")  # what an interrupted renewal has left
            with steady(admin / "admin.pem"):
                return admin_client_context(cluster.folder / "ca" / "ca.pem", admin / "admin.pem", admin / "admin.key")
        except (OSError, ssl.SSLError) as error:
            raise CommandError(
                f"the administrator's certificate in {admin} can not be used: {error}",
                f"mailraft cluster renew {cluster.folder}, where its ca/ is whole",
            ) from None

    @property
    def cluster(self) -> Cluster:
        """Whom it asks."""
        return self._cluster

    @property
    def node_names(self) -> tuple[str, ...]:
        return tuple(node.name for node in self._cluster.nodes)

    def node(self, name: str) -> Node:
        """The node of this name. Raises CommandError."""
        return self._cluster.node(name)

    def without(self, name: str) -> AdminClient:
        """The same, asking every node but this one."""
        others = tuple(one for one in self._cluster.nodes if one.name != name)
        return self._of(self._cluster._replace(nodes=others))

    def _of(self, cluster: Cluster) -> AdminClient:
        return AdminClient(cluster, timeout_s=self._timeout_s)

    def every_node(self) -> AdminClient:
        """The same, knowing every node of the cell by its name. Raises CommandError."""
        return self

    def get(self, path: str, node: str | None = None) -> Any:
        """Reads from any node, or from the one that is named."""
        return json.loads(self.get_text(path, node))

    def get_text(self, path: str, node: str | None = None) -> bytes:
        """The same, as the JSON text that the node sent."""
        response = self._first_response("GET", path, None, node)
        if response.headers.get(STALE_HEADER):
            say(f"note: {_MAY_BE_OLD}")
        return self._read("GET", response)

    def pages(self, path: str, name: str, node: str | None = None) -> Iterator[Any]:
        """The items of a list, which each page of it has under `name`."""
        page = self.get(path, node)
        yield from page[name]
        while page["next"]:
            page = self.get(page_after(path, page["next"]), node)
            yield from page[name]

    def by_address(self, path: str, name: str) -> list[Any]:
        """The items of a list over tenants, which comes in the order of their making, by tenant and address."""
        return sorted(self.pages(path, name), key=lambda one: (one["tenant"], one["address"]))

    def whole(self, path: str, name: str, node: str | None = None) -> dict[str, Any]:
        """A list with what else is told beside it; `name` has the items of all pages."""
        found: dict[str, Any] = self.get(path, node)
        following = found.pop("next", None)
        while following:
            page = self.get(page_after(path, following), node)
            found[name] += page[name]
            following = page["next"]
        return found

    def change(self, method: str, path: str, body: Any = None, node: str | None = None) -> Any:
        """Changes something through any node, or the one that is named.

        Raises CommandError (exit code 3: unknown) if it is not certain.
        """
        response = self._first_response(method, path, body, node, secrets.token_hex(16))
        return json.loads(self._read(method, response) or b"null")

    def stream(self, path: str, node: str | None = None, body: Any = None) -> Iterator[Any]:
        """Starts a long task; yields its JSON lines as they come."""
        response = self._first_response("POST", path, body, node)
        try:
            while line := response.readline():
                yield json.loads(line)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise CommandError(f"the node went away before it was done ({error})", "the command again") from None

    def open(self, path: str, node: str | None, method: str = "POST", body: Any = None) -> http.client.HTTPResponse:
        """Starts a long answer that is no JSON; the caller reads it. Raises CommandError."""
        return self._first_response(method, path, body, node)

    def send(self, path: str, data: bytes) -> Any:
        """Sends bytes to any node. Raises CommandError (exit code 3: unknown)."""
        return json.loads(self._read("POST", self._first_response("POST", path, data, None)))

    def upload(self, path: str, node: str, file: IO[bytes]) -> Any:
        """Sends a file to a node. Raises CommandError."""
        return json.loads(self._read("PUT", self._first_response("PUT", path, file, node)) or b"null")

    def status(self, node: Node, timeout_s: float = 2.0) -> dict[str, Any]:
        """What one node says of itself. Raises Unreachable."""
        try:
            response = self._exchange(self._connect(node, timeout_s), "GET", "/v1/status", None, timeout_s)
            if response.status >= 400:
                raise Refusing(_refusal(response).message)
            answer: dict[str, Any] = json.loads(response.read())
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise Unreachable(_reason(error)) from None
        return answer

    def _read(self, method: str, response: http.client.HTTPResponse) -> bytes:
        try:
            return response.read()
        except (OSError, http.client.HTTPException) as error:
            raise _lost(method, _reason(error)) from None

    def _first_response(
        self, method: str, path: str, body: Any, node: str | None, key: str = ""
    ) -> http.client.HTTPResponse:
        """Of the first node that can say what became of it; `key`: that of a request that may be asked for again."""
        nodes = self._cluster.nodes if node is None else (self.node(node),)
        failures: list[str] = []
        unknown: CommandError | None = None  # what was asked of a node that did not say whether it was done
        for candidate in nodes if not key else (*nodes, *nodes):
            try:
                response = self._ask(candidate, method, path, body, key)
            except Unreachable as failure:
                failures.append(f"{candidate.name}: {failure}")
                continue
            except _MayBeDone as lost:
                unknown = lost.error
                continue
            if response.status < 400:
                return response
            refused = _refusal(response)
            if refused.category == "unknown" and candidate.name in self._knows_keys and key:
                unknown = _error(refused)
            elif refused.category not in _ELSEWHERE:
                old = f"; {_MAY_BE_OLD}" if response.headers.get(STALE_HEADER) else ""
                raise _error(refused._replace(message=refused.message + old))
            else:
                failures.append(f"{candidate.name}: {refused.message}")
            if len(failures) == len(nodes) and unknown is None:
                break
        if unknown is not None:
            raise unknown
        text = failures[0] if node is not None else "\n  ".join(["no node could do it:", *failures[: len(nodes)]])
        raise NothingDone(text, f"mailraft cluster status {self._cluster.folder}", EXIT_NOT_NOW, "unreachable")

    def _ask(self, node: Node, method: str, path: str, body: Any, key: str) -> http.client.HTTPResponse:
        """Raises Unreachable; _MayBeDone where it may be asked for again under the same key; CommandError."""
        knows_keys = False
        try:
            connection = self._connect(node, CONNECT_TIMEOUT_S)
            if method != "GET":
                # with TLS 1.3 a server that refuses us says so after the handshake: ask something harmless first,
                # so that a connection that is lost afterwards is known to have been lost with the request
                said = self._exchange(connection, "GET", "/v1/status", None, CONNECT_TIMEOUT_S).read()
                knows_keys = bool(key) and _level_of(said) >= LEVEL_OF_KEYS
        except (OSError, http.client.HTTPException) as error:
            raise Unreachable(_reason(error)) from None
        if knows_keys:
            self._knows_keys.add(node.name)
        try:
            return self._exchange(connection, method, path, body, self._timeout_s, key if knows_keys else "")
        except (OSError, http.client.HTTPException) as error:
            if method == "GET":
                raise Unreachable(_reason(error)) from None
            lost = _lost(method, f"{node.name}: {_reason(error)}")
            raise _MayBeDone(lost) if knows_keys else lost from None

    def _connect(self, node: Node, timeout_s: float) -> http.client.HTTPConnection:
        if not node.addresses.get("admin"):
            raise ConnectionRefusedError("nobody says where it listens")
        plain = socket.create_connection(split_address(node.addresses["admin"]), timeout=timeout_s)
        # or the request waits for the handshake's end to be acknowledged, and a body for its header: 40 ms each
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            secure = self._tls.wrap_socket(plain, server_hostname=self._server_name(node))
        except BaseException:
            plain.close()
            raise
        self._check_peer(secure, node)
        connection = http.client.HTTPConnection(node.name)
        connection.sock = secure
        connection.auto_open = 0  # never a second connection behind our back, and never one in clear
        return connection

    def _server_name(self, node: Node) -> str | None:
        """What the certificate is checked for; None: only its URI, by _check_peer()."""
        return None

    def _check_peer(self, secure: ssl.SSLSocket, node: Node) -> None:
        """Raises ConnectionRefusedError where somebody else than the node answered."""
        found = peer_node_name(secure, self._cluster.id)
        if found != node.name:
            secure.close()
            raise ConnectionRefusedError(f"another node answered there ({found or 'of another cell'})")

    def _exchange(
        self, connection: http.client.HTTPConnection, method: str, path: str, body: Any, timeout_s: float, key: str = ""
    ) -> http.client.HTTPResponse:
        connection.sock.settimeout(timeout_s)
        raw = body is None or isinstance(body, bytes) or hasattr(body, "read")
        data = body if raw else _json(body)
        connection.request(method, path, data, self._headers | ({KEY_HEADER: key} if key else {}))
        return connection.getresponse()


def _json(body: Any) -> bytes:
    try:
        return json.dumps(body, ensure_ascii=False).encode()
    except UnicodeEncodeError:  # from the command line or standard input; it may be a secret, and is not shown
        raise CommandError("what was given is not text in UTF-8", "names and passwords in UTF-8") from None


def _refusal(response: http.client.HTTPResponse) -> Refused:
    try:
        problem = json.loads(response.read())
        category, detail, hint, code = (str(problem[name]) for name in ("category", "detail", "hint", "code"))
        return Refused(category, detail, hint, code, problem)
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError):
        return Refused("error", f"the node answered {response.status} {response.reason}", "")


def _level_of(status: bytes) -> int:
    """The feature level that a status tells; 0 where it tells none."""
    try:
        level = json.loads(status).get("feature_level")
    except (ValueError, AttributeError):
        return 0
    return level if isinstance(level, int) else 0


def _error(refused: Refused) -> CommandError:
    exit_code = EXITS.get(refused.category, FAILED)
    context = click.get_current_context(silent=True)
    described = context is not None and refused.hint == API_DESCRIBED
    hint = f"{context.command_path} --help" if context is not None and described else refused.hint
    return CommandError(refused.message, hint, exit_code, refused.code, refused.said)


def _lost(method: str, reason: str) -> CommandError:
    if method == "GET":
        return CommandError(f"the answer was lost ({reason})", "the command again", EXIT_NOT_NOW, "unreachable")
    return CommandError(
        f"the outcome is unknown: it may have been done, or may yet be ({reason})",
        "mailraft log tail tells whether it was done; look before you do it again",
        UNKNOWN,
        "outcome_unknown",
    )


def _reason(error: Exception) -> str:
    match error:
        case ssl.SSLCertVerificationError():
            return "its certificate is not of this cluster's CA"
        case ssl.SSLError():
            return f"TLS failed ({error.reason or error})"
        case TimeoutError():
            return "no answer in time"
        case ConnectionRefusedError() if error.errno is not None:
            return "nothing listens there"
        case _:
            return str(error) or type(error).__name__
