"""What Debian's Pebble lacks, in front of it: renewal information (RFC 9773), bound accounts (RFC 8555 7.3.4).

The directory is Pebble's, with one address more or one that is answered here. Signatures are checked with nothing but
the standard library, so that the client's own library is not what judges it.
"""

from __future__ import annotations

import base64
import datetime
import hmac
import json
import ssl
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.peers.pebble import Pebble

DAYS = datetime.timedelta(days=1)
KEY_ID, KEY = "our-account", b"k" * 32


class Front:
    """`due`: whether certificates are to be renewed now. `asked`: for which it was asked; `bound`: who was."""

    def __init__(self, address: str, directory: dict[str, Any], *, binds: bool) -> None:
        self.directory = f"{address}/dir"
        self.due = False
        self.asked: list[str] = []
        self.bound: list[dict[str, Any]] = []
        own = {"renewalInfo": f"{address}/renewal"}
        if binds:
            own |= {"newAccount": f"{address}/account", "newNonce": f"{address}/nonce"}
        self.shown = {**directory, **own, "meta": {**directory.get("meta", {}), "externalAccountRequired": binds}}

    def window(self, certificate: str) -> dict[str, Any]:
        self.asked.append(certificate)
        start = datetime.datetime.now(datetime.UTC) + (-2 if self.due else 1000) * DAYS
        return {"suggestedWindow": {"start": _time(start), "end": _time(start + DAYS)}}

    def account(self, outer: dict[str, str]) -> str | None:
        """Why it is refused, or None."""
        payload, protected = _json(outer["payload"]), _json(outer["protected"])
        bound = payload.get("externalAccountBinding")
        if bound is None:
            return "externalAccountRequired"
        head = _json(bound["protected"])
        signed = f"{bound['protected']}.{bound['payload']}".encode()
        right = hmac.compare_digest(hmac.digest(KEY, signed, "sha256"), _bytes(bound["signature"]))
        named = (head["alg"], head["kid"], head["url"]) == ("HS256", KEY_ID, protected["url"]) and "nonce" not in head
        if not right or not named or _json(bound["payload"]) != protected["jwk"]:
            return "unauthorized"
        self.bound.append(protected["jwk"])
        return None


@contextmanager
def front(authority: Pebble, *, binds: bool = False) -> Iterator[Front]:
    """With Pebble's own certificate, which is for localhost."""
    trust = ssl.create_default_context(cafile=str(authority.ca))
    with urllib.request.urlopen(authority.directory, context=trust, timeout=10) as answer:
        directory = json.load(answer)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority.ca.with_name("cert.pem"), authority.ca.with_name("key.pem"))
    server.socket = context.wrap_socket(server.socket, server_side=True)
    made = Front(f"https://localhost:{server.server_port}", directory, binds=binds)
    server.front = made  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    @property
    def front(self) -> Front:
        return self.server.front  # type: ignore[attr-defined, no-any-return]

    def do_HEAD(self) -> None:
        self._answer(200, {})

    def do_GET(self) -> None:
        part = self.path.strip("/").split("/")
        self._answer(200, self.front.window(part[1]) if part[0] == "renewal" else self.front.shown)

    def do_POST(self) -> None:
        outer = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        refused = self.front.account(outer)
        if refused is not None:
            problem = {"type": f"urn:ietf:params:acme:error:{refused}", "detail": f"{refused} by the tests"}
            self._answer(403, problem, "application/problem+json")
            return
        self._answer(201, {"status": "valid"}, location=f"{self.front.directory}/account/1")

    def _answer(self, status: int, body: Any, kind: str = "application/json", location: str = "") -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        for name, value in (("Content-Type", kind), ("Content-Length", str(len(data))), ("Replay-Nonce", "bm9uY2U")):
            self.send_header(name, value)
        if location:
            self.send_header("Location", location)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        pass


def _bytes(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _json(text: str) -> Any:
    return json.loads(_bytes(text))


def _time(moment: datetime.datetime) -> str:
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")
