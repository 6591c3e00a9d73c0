"""A small asynchronous client of the admin API: one node, one request, one connection, nothing tried again.

`cli.client` goes from node to node until one answers; a history must know which node said what, so this one does not.
It speaks HTTP/1.0: an answer is what comes until the connection is closed.
"""

import asyncio
import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from chaos.history import Outcome
from cli import layout
from nodes.tls.links import admin_client_context, peer_node_name

BODY_LIMIT = 64 * 1024 * 1024
HEAD_LIMIT = 16 * 1024
STALE_HEADER = b"mailraft-stale:"


class AdminAnswer(NamedTuple):
    """What came back. `status` is 0 where nothing did; `stale`: the node could not tell whether it is up to date."""

    outcome: Outcome
    status: int
    category: str
    text: str
    body: Any = None
    stale: bool = False


@dataclass(frozen=True)
class AdminAccess:
    """Who may ask, and whom: the TLS context with the administrator's certificate, and the cell that must answer."""

    tls: ssl.SSLContext
    cluster_id: str

    @classmethod
    def of_folder(cls, folder: Path) -> "AdminAccess":
        """That of a cluster's DIR. Raises OSError, ssl.SSLError or CommandError."""
        admin = folder / "admin"
        context = admin_client_context(folder / "ca" / "ca.pem", admin / "admin.pem", admin / "admin.key")
        return cls(context, layout.load(folder).id)

    async def ask(
        self,
        node: str,
        endpoint: str,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        timeout_s: float = 30.0,
    ) -> AdminAnswer:
        """Asks `node` once. Raises nothing that a network can cause."""
        writer: asyncio.StreamWriter | None = None
        asked = False
        try:
            async with asyncio.timeout(timeout_s):
                reader, writer = await self._connect(node, endpoint)
                asked = True
                writer.write(_request(method, path, body))
                return _answer(await _whole(reader))
        except (OSError, EOFError, ValueError, KeyError, TimeoutError) as error:
            outcome = Outcome.UNKNOWN if asked and method != "GET" else Outcome.REFUSED
            return AdminAnswer(outcome, 0, "", f"{type(error).__name__}: {error}")
        finally:
            if writer is not None:
                writer.transport.abort()

    async def _connect(self, node: str, endpoint: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        host, _, port = endpoint.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port), ssl=self.tls, limit=HEAD_LIMIT)
        found = peer_node_name(writer.get_extra_info("ssl_object"), self.cluster_id)
        if found != node:
            writer.transport.abort()
            raise ConnectionRefusedError(f"another node answered there ({found or 'of another cell'})")
        return reader, writer


def _request(method: str, path: str, body: Mapping[str, Any] | None) -> bytes:
    data = b"" if body is None else json.dumps(body).encode()
    head = f"{method} {path} HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
    return head.encode("ascii") + data


async def _whole(reader: asyncio.StreamReader) -> bytes:
    pieces: list[bytes] = []
    size = 0
    while piece := await reader.read(256 * 1024):
        pieces.append(piece)
        size += len(piece)
        if size > BODY_LIMIT:
            raise ValueError(f"an answer of more than {BODY_LIMIT} bytes")
    return b"".join(pieces)


def _answer(data: bytes) -> AdminAnswer:
    """Raises ValueError for what is no whole answer with JSON in it."""
    head, end, text = data.partition(b"\r\n\r\n")
    words = head.split(b"\r\n", 1)[0].split(b" ")
    if not end or len(words) < 2:
        raise ValueError("the answer was cut off")
    status, body = int(words[1]), json.loads(text)
    stale = any(line.lower().startswith(STALE_HEADER) for line in head.split(b"\r\n"))
    if status < 400:
        return AdminAnswer(Outcome.ACKNOWLEDGED, status, "", str(status), body, stale)
    category = str(body["category"])
    outcome = Outcome.UNKNOWN if category in ("unknown", "internal") else Outcome.REFUSED
    return AdminAnswer(outcome, status, category, f"{status} {category}: {body['detail']}", None, stale)
