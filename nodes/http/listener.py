"""One aiohttp application on one address. Each connection has an id; what is no HTTP is answered with a problem."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from aiohttp import web
from aiohttp.http_exceptions import LineTooLong
from aiohttp.web_protocol import RequestHandler

from nodes.http.errors import REFUSALS, TRACING, of_code
from nodes.listening import place
from nodes.trail import TRAIL, Trail

if TYPE_CHECKING:
    from nodes.tracing import Tracing

BACKLOG = 128

_TOO_LONG = "a line of the request, its path or a header, is longer than the node reads"
_NO_HTTP = "that is no HTTP request"
MOST_LINE_BYTES = 32 * 1024  # of a path with its query: names in UTF-8, each byte written as three


class Door(NamedTuple):
    """How many connections there may be, and who may come nevertheless."""

    most: Callable[[], int]
    is_ours: Callable[[ssl.SSLObject | None], bool]


DOOR = web.AppKey("door", Door)


class Connection(RequestHandler):
    """aiohttp's side of one connection; `trail` is what its lines in the log have in common."""

    trail: Trail

    def __init__(self, server: Server, **settings: Any) -> None:
        super().__init__(server, **settings)
        self._kind, self._refusals, self._find_tracing = server.kind, server.refusals, server.find_tracing
        self._is_full = server.is_full
        self._tracing: Tracing | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        peer = transport.get_extra_info("peername")
        self.trail = Trail(self._kind, peer[0] if isinstance(peer, tuple) else "")
        super().connection_made(transport)
        if self._is_full(transport):
            if self._refusals is not None:
                self._refusals.note("too_many_connections", **self.trail.facts())
            transport.abort()  # type: ignore[attr-defined]
            return
        self._tracing = self._find_tracing()
        if self._tracing is not None:
            self._tracing.opened(self.trail)

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        if self._tracing is not None:
            self._tracing.closed(self.trail)

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """What aiohttp itself refuses: no HTTP, a line or a header over its limits. It quotes what came; we do not."""
        if request.writer.output_size > 0:
            return super().handle_error(request, status, exc, message)  # raises: an answer is under way
        TRAIL.set(self.trail)
        response = self._refuse(request, exc)
        response.force_close()
        return response

    def _refuse(self, request: web.BaseRequest, exc: BaseException | None) -> web.Response:
        too_long = isinstance(exc, LineTooLong)
        error = of_code("request_too_long" if too_long else "no_http", _TOO_LONG if too_long else _NO_HTTP)
        if self._refusals is not None:
            self._refusals.note(error.code)
        return error.response()


class Server(web.Server):
    """Makes a Connection for each client of one listener."""

    def __init__(self, like: web.Server, app: web.Application, kind: str) -> None:
        super().__init__(
            like.request_handler,
            request_factory=like.request_factory,
            handler_cancellation=like.handler_cancellation,
            **like._kwargs,
        )
        self.kind = kind
        self.refusals = app.get(REFUSALS)
        self.find_tracing = app.get(TRACING, lambda: None)
        self._door = app.get(DOOR)

    def is_full(self, transport: asyncio.BaseTransport) -> bool:
        """Whether a connection that has just been made is one too many; it is counted already."""
        door = self._door
        if door is None or len(self._connections) <= door.most():
            return False
        return not door.is_ours(transport.get_extra_info("ssl_object"))

    def __call__(self) -> Connection:
        return Connection(self, loop=self._loop, **self._kwargs)


class Runner(web.AppRunner):
    """An application's, with connections of ours."""

    def __init__(self, app: web.Application, kind: str, **settings: Any) -> None:
        super().__init__(app, **settings)
        self._kind = kind

    async def _make_server(self) -> web.Server:
        return Server(await super()._make_server(), self.app, self._kind)


class HttpListener:
    """Made by start()."""

    def __init__(self, runner: web.AppRunner, address: str) -> None:
        self._runner = runner
        self.address = address

    async def stop(self, grace_s: float) -> None:
        """Accepts no more; requests under way have `grace_s` seconds to be answered."""
        try:
            async with asyncio.timeout(grace_s):
                await self._runner.cleanup()
        except TimeoutError:
            pass


async def start(
    app: web.Application, address: str, tls: ssl.SSLContext | None = None, kind: str = "http"
) -> HttpListener:
    """Listens on host:port; `kind` names the listener in the log. Raises OSError when the address can not be bound."""
    where = place(address, BACKLOG)
    runner = Runner(
        app, kind, access_log=None, handle_signals=False, shutdown_timeout=1.0, max_line_size=MOST_LINE_BYTES
    )
    await runner.setup()
    try:
        if "sock" in where:
            await web.SockSite(runner, ssl_context=tls, **where).start()
        else:
            await web.TCPSite(runner, ssl_context=tls, **where).start()
    except BaseException:
        await runner.cleanup()
        raise
    bound = runner.addresses[0]
    return HttpListener(runner, f"{where.get('host', bound[0])}:{bound[1]}")
