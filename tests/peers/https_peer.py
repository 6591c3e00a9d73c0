"""A web server on loopback over TLS that serves a few texts: where policies are fetched."""

from __future__ import annotations

import http.server
import ssl
import threading
from collections.abc import Mapping
from types import TracebackType
from typing import Self


class HttpsPeer:
    """`texts` by path; `status`, `content_type` and `modified` are those of every answer. `asked`: the paths so far."""

    def __init__(self, texts: Mapping[str, str], context: ssl.SSLContext) -> None:
        self.texts = dict(texts)
        self.status = 200
        self.content_type = "text/plain"
        self.modified = ""
        self.asked: list[str] = []
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self._server.handle_error = lambda request, client_address: None  # type: ignore[method-assign]
        self.port: int = self._server.server_address[1]

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _tb: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()


def _handler(peer: HttpsPeer) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            peer.asked.append(self.path)
            text = peer.texts.get(self.path, "")
            self.send_response(peer.status if text else 404)
            self.send_header("Content-Type", peer.content_type)
            self.send_header("Location", "/elsewhere")
            if peer.modified:
                self.send_header("Last-Modified", peer.modified)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, format: str, *args: object) -> None:
            """Tests have enough to say."""

    return Handler
