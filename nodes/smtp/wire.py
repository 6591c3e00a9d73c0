"""The transport's side of a connection: replies out, reading paused and resumed, TLS begun, silence and trickles ended.

It knows bytes, pace and TLS, no command. aiosmtpd's own STARTTLS goes over asyncio's SSL protocol, which keeps 256 KiB
for each connection and lets a handshake be stalled for ever; the loop's `start_tls` has neither fault.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING, Any

import aiosmtpd.smtp

from nodes.policy.bandwidth import PIECE_BYTES, STEP_S
from nodes.smtp import replies

if TYPE_CHECKING:
    from nodes.policy.bandwidth import Flow
    from nodes.smtp.server import SmtpListener

TLS_SHUTDOWN_S = 5.0  # a peer that was told of the end of TLS has so long to say so too


class _NoHooks:
    """aiosmtpd looks through its handler in each new connection, which took a fifth of the time of a short one."""

    def __dir__(self) -> tuple[str, ...]:
        return ()


_NO_HOOKS = _NoHooks()


class Wire(aiosmtpd.smtp.SMTP):
    """What every connection does with its transport."""

    def __init__(self, listener: SmtpListener) -> None:
        config = listener.services.config
        self.listener = listener
        self.limits = config.limits
        self.rules = config.smtp
        self._replies: list[bytes] = []
        self._deaf = False  # what follows is not read: closing, or TLS begins
        self._held = False  # not read, since too much input waits
        self._unread = False  # not read, since it does not read its replies
        self._slowed_s = 0.0  # not read since then, since more was moved than may be; 0: it is read
        self._flow: Flow | None = None
        self._heard_s = 0.0  # since when we wait for what the client owes: a command, or the next piece of content
        self._content_began_s = 0.0
        self._content_bytes = 0
        super().__init__(
            _NO_HOOKS,
            hostname=config.node.hostname,
            ident="mailraft",
            enable_SMTPUTF8=True,
            tls_context=listener.services.tls,
            timeout=config.limits.smtp_idle_s,
            auth_require_tls=False,  # who may log in is decided by nodes.logins.security
            loop=listener.loop,
        )

    def __dir__(self) -> tuple[str, ...]:
        """Nothing: aiosmtpd looks for methods by their names' prefix in each new connection, and ours are in tables."""
        return ()

    # Pace

    def _reset_timeout(self, duration: float | None = None) -> None:
        self._heard_s = self.loop.time()
        if self._timeout_handle is None:
            self._timeout_handle = self.loop.call_later(self._timeout_duration, self._timeout_cb)

    def _timeout_cb(self) -> None:
        """One timer a connection, set again for what is left, instead of one for each command."""
        left_s = self._left_s()
        if left_s > 0:
            self._timeout_handle = self.loop.call_later(left_s, self._timeout_cb)
        else:
            self.close_with(replies.TIMED_OUT)

    def _left_s(self) -> float:
        """How long the client may still take: for its command as a whole, for content by what has come of it."""
        left_s = self._heard_s + self._timeout_duration - self.loop.time()
        if self._slowed_s or self._we_are_due():
            return float(self._timeout_duration)
        if not self._in_content():
            return float(left_s)
        earned_s = self._content_bytes / self.rules.content_bytes_per_s
        return float(min(left_s, self._content_began_s + self._timeout_duration + earned_s - self.loop.time()))

    def _we_are_due(self) -> bool:
        raise NotImplementedError

    def _in_content(self) -> bool:
        raise NotImplementedError

    # TLS

    async def _shake_hands(self) -> bool:
        """Begins TLS as the server; what the client sent in clear is forgotten (RFC 3207 4.2). False: it failed."""
        plain: Any = self.transport
        context = self.tls_context
        assert plain is not None
        assert context is not None
        try:
            secured = await self.loop.start_tls(
                plain,
                self,
                context,
                server_side=True,
                ssl_handshake_timeout=self.rules.tls_handshake_s,
                ssl_shutdown_timeout=TLS_SHUTDOWN_S,
            )
        except (OSError, ssl.SSLError, asyncio.CancelledError):
            plain.abort()
            self.connection_lost(None)  # nobody tells it of a handshake that failed
            return False
        self.transport = secured
        return secured is not None

    # Bytes out

    def close_with(self, reply: bytes) -> None:
        """The last reply of this connection."""
        self._replies.append(reply)
        self._flush()
        self._close()

    def _flush(self) -> None:
        pending, self._replies = self._replies, []
        self._write(pending[0] if len(pending) == 1 else b"".join(pending))

    def _write(self, data: bytes) -> None:
        transport = self.transport
        if transport is not None and not transport.is_closing():
            transport.write(data)  # type: ignore[attr-defined]
            self._count(len(data))

    def _close(self) -> None:
        self._deaf = True
        transport = self.transport
        if transport is not None and not transport.is_closing():
            transport.close()

    # Bytes in

    def _count(self, size_bytes: int) -> None:
        """So many octets came or went; whoever moves more than they may is not read for a while."""
        flow = self._flow
        if flow is None:
            return
        flow.uncounted_bytes += size_bytes  # as `Flow.moved` does, which would be a call for each line and each reply
        if flow.uncounted_bytes < PIECE_BYTES or flow.settle() <= 0 or self._slowed_s:
            return
        self._slowed_s = self.loop.time()
        self._stop_reading()
        self._slow(flow)

    def _slow(self, flow: Flow) -> None:
        """Looks again from time to time: a limit may be another one meanwhile."""
        transport: Any = self.transport
        if transport is None or transport.is_closing():
            return
        owed_s = flow.owed_s()
        if owed_s > 0:
            self.loop.call_later(min(owed_s, STEP_S), self._slow, flow)
            return
        rested_s, self._slowed_s = self.loop.time() - self._slowed_s, 0.0
        self._heard_s += rested_s  # the client does not owe what we did not read
        self._content_began_s += rested_s
        self._read_again()

    def pause_writing(self) -> None:
        """The client does not read its replies: it is not read either."""
        super().pause_writing()
        self._unread = True
        self._stop_reading()

    def resume_writing(self) -> None:
        """The client has read its replies."""
        super().resume_writing()
        self._unread = False
        self._read_again()

    def _stop_reading(self) -> None:
        transport: Any = self.transport
        if transport is not None and not transport.is_closing() and transport.is_reading():
            transport.pause_reading()

    def _read_again(self) -> None:
        transport: Any = self.transport
        if self._held or self._unread or self._slowed_s or transport is None or transport.is_closing():
            return
        if not transport.is_reading():
            transport.resume_reading()
