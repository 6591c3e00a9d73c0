"""One aiohttp application on one address."""

from __future__ import annotations

import asyncio
import ssl

from aiohttp import web

from nodes.listening import place

BACKLOG = 128

MOST_LINE_BYTES = 32 * 1024  # of a path with its query: names in UTF-8, each byte written as three


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


async def start(app: web.Application, address: str, tls: ssl.SSLContext | None = None) -> HttpListener:
    """Listens on host:port. Raises OSError when the address can not be bound."""
    where = place(address, BACKLOG)
    runner = web.AppRunner(
        app, access_log=None, handle_signals=False, shutdown_timeout=1.0, max_line_size=MOST_LINE_BYTES
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
