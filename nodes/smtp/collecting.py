"""How a connection takes in a message: after DATA up to the dot, after BDAT by octets; and how much it may hold.

What is beyond a limit is read and thrown away, so that the client hears why; but not for ever.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from nodes.smtp import replies
from nodes.smtp.chunks import Chunk, ChunkedMessage
from nodes.smtp.content import Content, DataScanner
from nodes.smtp.session import Envelope, Session
from nodes.smtp.states import State
from nodes.smtp.wire import Wire

if TYPE_CHECKING:
    from nodes.smtp.server import SmtpListener

DISCARDED_TIMES = 4  # content beyond the limit is read so many times it, or so many bytes, before the client is closed
DISCARDED_BYTES = 64 * 1024 * 1024
PERMANENT = ord("5")
REFUSES = ord("4")  # and beyond
MOST_ASKED = 200  # octets of a command in a line of the log

Waiting = Coroutine[Any, Any, bytes]


class Collecting(Wire):
    """The part of a connection that collects messages."""

    session: Session
    envelope: Envelope

    def __init__(self, listener: SmtpListener) -> None:
        self._content: DataScanner | ChunkedMessage | None = None  # what takes the input instead of commands
        self._chunks: ChunkedMessage | None = None
        self._counted_bytes = 0  # what the listener knows of the content held here
        self._no_room = False
        self._errors = 0
        self._told = ""  # the kind of error that the present command was refused for
        self._asked = b""  # the present command, as far as it may be logged
        self._idle_commands = 0
        self.transactions = 0
        super().__init__(listener)

    def _create_envelope(self) -> Envelope:
        return Envelope()

    def _set_rset_state(self) -> None:
        self.envelope = Envelope()
        if self._chunks is not None:
            self._chunks = None
            self._count_content(0)

    def _forget_content(self) -> None:
        self._content = self._chunks = None
        self._count_content(0)

    def _in_content(self) -> bool:
        return self._content is not None

    def expect_content(self) -> None:
        """DATA was accepted: what follows is content."""
        self._begin_content(DataScanner(self.limits.message_bytes))

    def expect_chunk(self, chunk: Chunk, refusal: bytes | None) -> None:
        """BDAT was read: its octets follow, to be thrown away where there is a refusal."""
        chunks = self._chunks or ChunkedMessage(self.limits.message_bytes)
        self._chunks = chunks
        chunks.begin(chunk)
        if refusal is not None:
            chunks.refuse(refusal)
        self._begin_content(chunks)
        if chunk.size_bytes == 0:
            self._end_chunk(chunks)

    def _begin_content(self, content: DataScanner | ChunkedMessage) -> None:
        self._content = content
        self._content_began_s, self._content_bytes = self._heard_s, 0
        self._no_room = False

    def _take_content(self, content: DataScanner | ChunkedMessage, data: bytes) -> bytes:
        """Gives `data` to what collects the message; returns what is left for the commands after it."""
        self._heard_s = self.loop.time()
        self._content_bytes += len(data)
        if isinstance(content, DataScanner):
            complete = content.feed(data)
            if complete is not None:
                self._content = None
                self._count_content(0)
                self._begin(self._deliver(complete), State.READY, State.READY)
                return complete.rest
        else:
            rest = content.feed(data)
            if rest is not None:
                self._make_room(content)
                self._end_chunk(content)
                return rest
        self._make_room(content)
        if self._content_bytes > max(DISCARDED_TIMES * self.limits.message_bytes, DISCARDED_BYTES):
            self.close_with(replies.TOO_BIG + replies.CLOSING)
        return b""

    def _make_room(self, content: DataScanner | ChunkedMessage) -> None:
        """What all connections hold together is limited; a message that is one too many is not kept."""
        if self._count_content(content.held_bytes):
            return
        if isinstance(content, ChunkedMessage):
            content.refuse(replies.TOO_MUCH_AT_ONCE)
        else:
            content.discard()
            self._no_room = True

    def _count_content(self, held_bytes: int) -> bool:
        grown, self._counted_bytes = held_bytes - self._counted_bytes, held_bytes
        return grown == 0 or self.listener.hold(grown)

    def _end_chunk(self, chunks: ChunkedMessage) -> None:
        """A chunk has come whole: the message goes on, is complete, or is lost (RFC 3030 2)."""
        self._content = None
        session = self.session
        in_transaction = session.state in (State.RCPT, State.CHUNKS)
        if chunks.refusal is None and chunks.last:
            self._begin(self._deliver(Content(chunks.data(), False, False, b"")), State.READY, State.READY)
        elif chunks.refusal is None:
            session.state = State.CHUNKS
            self.say(replies.chunk_taken(chunks.chunk_bytes))
        elif not in_transaction:
            self._chunks = None
            self.say(chunks.refusal)
        else:
            copies = len(self.envelope.accepted) if chunks.last and self.listener.profile.lmtp else 1
            self._count_content(0)
            session.state = State.READY if chunks.last else State.CHUNKS
            self.say(chunks.refusal * copies)
            if chunks.last:
                self._set_rset_state()

    def _deliver(self, content: Content) -> Waiting:
        """The message is complete; whatever becomes of it, the transaction is over."""
        envelope = self.envelope
        self._set_rset_state()
        self._idle_commands = 0
        self.transactions += 1
        if self._no_room:
            return known(replies.TOO_MUCH_AT_ONCE)
        return self.listener.intake.handle_DATA(self, self.session, envelope, content)

    def _begin(self, waiting: Waiting, on_failure: State, on_success: State) -> None:
        raise NotImplementedError

    def say(self, reply: bytes) -> None:
        """Adds a reply; too many permanent refusals end the connection."""
        self._replies.append(reply)
        if reply[0] >= REFUSES:
            self._note(reply)
        if reply[0] == PERMANENT:
            self._errors += 1
            if self._errors >= self.limits.errors:
                self.close_with(replies.TOO_MANY_ERRORS)

    def close_with(self, reply: bytes) -> None:
        if reply[0] >= REFUSES:
            self._note(reply)
        super().close_with(reply)

    def _note(self, reply: bytes) -> None:
        """What LMTP says of each recipient is one refusal, where it is the same of all."""
        said = reply[: reply.find(b"\r")].decode("utf-8", "replace")
        asked = self._asked[:MOST_ASKED].decode("utf-8", "replace")
        shown = "".join(c if c.isprintable() else "\ufffd" for c in asked)
        self._told = replies.error_of(reply)
        self.listener.services.refusals.note(self._told, command=shown, reply=said, **self.session.trail.facts())


async def known(reply: bytes) -> bytes:
    """A reply that waits for nothing, where one is waited for."""
    return reply
