"""The load of `mailraft bench log --peer etcd`: puts through sockets, one request a put, so many in flight.

    python -m cli.bench.put_client etcd|mailraft HOST:PORT COUNT IN_FLIGHT BYTES

Prints {"seconds": S}. Both servers are asked by the same program over as many connections, each in the cheapest form
of its own protocol: etcd's PutRequest (gRPC over HTTP/2, RFC 9113; only as much of it as puts need), mailraft's frames
of a length, a key and a value. The keys are alike. What is not answered as done ends the run.
"""

from __future__ import annotations

import asyncio
import json
import os
import struct
import sys
import time
from collections.abc import Callable
from typing import cast

import uvloop

from nodes.config.node import split_address

CONNECTIONS = 16
KEY_BYTES = 24
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, END_HEADERS, ACK = 0x1, 0x4, 0x1
FRAME_HEAD = 9
FIRST_WINDOW_BYTES = 65535
MOST_FRAME_BYTES = 16384
LENGTH = struct.Struct(">I")


class PutFailed(Exception):
    """The server refused a put, or closed the connection."""


class Puts(asyncio.Protocol):
    """One connection that keeps `width` puts in flight. A subclass speaks one protocol."""

    def __init__(self, take: Callable[[], bytes | None], width: int) -> None:
        self._take = take
        self._width = width
        self._in_flight = 0
        self._keys = 0
        self._received = bytearray()
        self.transport: asyncio.Transport | None = None
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.write(self.greeting())
        self.fill()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(PutFailed(f"the connection was closed: {exc}"))

    def data_received(self, data: bytes) -> None:
        self._received += data
        try:
            del self._received[: self.parse(self._received)]
        except PutFailed as error:
            if not self.done.done():
                self.done.set_exception(error)
            return
        self.fill()

    def fill(self) -> None:
        """Sends as many more as fit."""
        out = []
        while self._in_flight < self._width and self.may_send():
            value = self._take()
            if value is None:
                break
            self._in_flight += 1
            out.append(self.put(value))
        if out:
            self.write(b"".join(out))
        elif not self._in_flight and self._take_nothing() and not self.done.done():
            self.done.set_result(None)

    def answered(self) -> None:
        self._in_flight -= 1

    def write(self, data: bytes) -> None:
        if data and self.transport is not None:
            self.transport.write(data)

    def _take_nothing(self) -> bool:
        return self.may_send()

    def greeting(self) -> bytes:
        return b""

    def may_send(self) -> bool:
        return True

    def key(self) -> bytes:
        """A new one, beyond those that this connection has put."""
        self._keys += 1
        return b"k%015d" % self._keys + os.urandom(8)

    def put(self, value: bytes) -> bytes:
        raise NotImplementedError

    def parse(self, received: bytearray) -> int:
        """Takes whole answers; gives how many bytes they had."""
        raise NotImplementedError


class MailraftPuts(Puts):
    """Frames: four bytes of length, the key, the value. An answer is one byte, 0 if it is committed."""

    def put(self, value: bytes) -> bytes:
        return LENGTH.pack(KEY_BYTES + len(value)) + self.key() + value

    def parse(self, received: bytearray) -> int:
        for answer in received:
            if answer:
                raise PutFailed("a put was not committed")
            self.answered()
        return len(received)


class EtcdPuts(Puts):
    """etcdserverpb.KV/Put, a stream a put."""

    def __init__(self, take: Callable[[], bytes | None], width: int) -> None:
        super().__init__(take, width)
        self._stream = -1
        self._window_bytes = FIRST_WINDOW_BYTES
        self._put_bytes = FIRST_WINDOW_BYTES // 8  # the largest so far
        self._taken_bytes = 0
        self._with_body: set[int] = set()
        self._headers = _request_headers()

    def greeting(self) -> bytes:
        return PREFACE + _frame(SETTINGS, 0, 0, b"")

    def may_send(self) -> bool:
        return self._window_bytes >= self._put_bytes

    def put(self, value: bytes) -> bytes:
        self._stream += 2
        message = _field(1, self.key()) + _field(2, value)
        data = b"\0" + LENGTH.pack(len(message)) + message
        self._window_bytes -= len(data)
        self._put_bytes = max(self._put_bytes, len(data))
        frames = [_frame(HEADERS, END_HEADERS, self._stream, self._headers)]
        for at in range(0, len(data), MOST_FRAME_BYTES):
            end = END_STREAM if at + MOST_FRAME_BYTES >= len(data) else 0
            frames.append(_frame(DATA, end, self._stream, data[at : at + MOST_FRAME_BYTES]))
        return b"".join(frames)

    def parse(self, received: bytearray) -> int:
        at = 0
        while len(received) - at >= FRAME_HEAD:
            length = int.from_bytes(received[at : at + 3], "big")
            end = at + FRAME_HEAD + length
            if len(received) < end:
                break
            stream = int.from_bytes(received[at + 5 : at + 9], "big") & 0x7FFFFFFF
            self._frame(received[at + 3], received[at + 4], stream, bytes(received[at + FRAME_HEAD : end]))
            at = end
        return at

    def _frame(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        match kind:
            case 0:
                self._with_body.add(stream)
                self._taken_bytes += len(payload)
                if self._taken_bytes > FIRST_WINDOW_BYTES // 2:
                    self.write(_frame(WINDOW_UPDATE, 0, 0, LENGTH.pack(self._taken_bytes)))
                    self._taken_bytes = 0
            case 4 if not flags & ACK:
                self.write(_frame(SETTINGS, ACK, 0, b""))
            case 6 if not flags & ACK:
                self.write(_frame(PING, ACK, 0, payload))
            case 8 if stream == 0:
                self._window_bytes += LENGTH.unpack(payload)[0]
            case 3 | 7:
                raise PutFailed(f"etcd ended the {'stream' if kind == RST_STREAM else 'connection'}")
        if kind in (DATA, HEADERS) and flags & END_STREAM:
            if stream not in self._with_body:
                raise PutFailed("etcd refused a put")  # an error has trailers and no message
            self._with_body.discard(stream)
            self.answered()


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + LENGTH.pack(stream) + payload


def _request_headers() -> bytes:
    """HPACK (RFC 7541 6.2.2) without its dynamic table: indexed names, plain values."""
    pseudo = b"\x83\x86" + b"\x04" + _text(b"/etcdserverpb.KV/Put") + b"\x01" + _text(b"localhost")
    return pseudo + b"\x0f\x10" + _text(b"application/grpc") + b"\x00" + _text(b"te") + _text(b"trailers")


def _text(value: bytes) -> bytes:
    return bytes((len(value),)) + value


def _field(number: int, value: bytes) -> bytes:
    """A length-delimited field of Protocol Buffers."""
    size, length = len(value), bytearray()
    while size > 0x7F:
        length.append(size & 0x7F | 0x80)
        size >>= 7
    length.append(size)
    return bytes((number << 3 | 2,)) + bytes(length) + value


async def run(kind: type[Puts], address: str, count: int, in_flight: int, size_bytes: int) -> float:
    """Seconds from the first put to the last answer. Raises PutFailed, OSError."""
    block = os.urandom(1 << 20)
    left = iter(range(count))

    def take() -> bytes | None:
        number = next(left, None)
        if number is None:
            return None
        at = number * 4099 % (len(block) - size_bytes)
        return block[at : at + size_bytes]

    loop = asyncio.get_running_loop()
    host, port = split_address(address)
    began = time.perf_counter()
    connections = [
        (await loop.create_connection(lambda: kind(take, max(1, in_flight // CONNECTIONS)), host, port))[1]
        for _ in range(min(CONNECTIONS, in_flight))
    ]
    await asyncio.gather(*(one.done for one in connections))
    seconds = time.perf_counter() - began
    for one in connections:
        if one.transport is not None:
            one.transport.close()
    return seconds


def main(arguments: list[str]) -> None:
    server, address, count, in_flight, size_bytes = arguments
    kind: type[Puts] = {"etcd": EtcdPuts, "mailraft": MailraftPuts}[server]
    seconds = uvloop.run(run(kind, address, int(count), int(in_flight), int(size_bytes)))
    print(json.dumps({"seconds": seconds}))


if __name__ == "__main__":
    main(sys.argv[1:])
