"""A milter that says what a test tells it, by command letter; written from the protocol's description, not from ours.

    peer.script["R"] = [packet("y", b"550 5.7.1 No\\0")]      # what it answers; one packet or several
    peer.script["B"] = STALL                                 # or does: STALL, CLOSE, or the octets to send as they are

It continues at every step unless told otherwise. `heard` has, for each connection, what it was told: letter and data.
Run as a program it stalls at the letter it is given, and prints that it does: something to kill.
"""

from __future__ import annotations

import socket
import struct
import sys
import threading

from tests.peers.filter_peer import FilterPeer, read, reset

STALL = "stall"
CLOSE = "close"
ANSWERED = "CHMRTLNBE"
SILENT_AT = {"C": 0x1000, "H": 0x2000, "M": 0x4000, "R": 0x8000, "T": 0x10000, "L": 0x80, "N": 0x40000, "B": 0x80000}

Told = tuple[str, bytes]
Script = dict[str, list[bytes] | bytes | str]


def packet(letter: str, data: bytes = b"") -> bytes:
    return struct.pack(">I", len(data) + 1) + letter.encode() + data


class MilterPeer(FilterPeer):
    """`script` by letter; `negotiated`: its answer to the negotiation, version, actions, steps and what follows."""

    def __init__(self) -> None:
        super().__init__(self._converse)
        self.script: Script = {}
        self.negotiated: tuple[int, int, int, bytes] = (6, 0x1FF, 0, b"")
        self.heard: list[list[Told]] = []
        self.reached = threading.Event()  # a STALL

    def begin(self, script: Script | None = None, steps: int = 0, macros: bytes = b"") -> None:
        """Another test: what was heard is forgotten, what is open is dropped."""
        self.drop()
        self.script = script or {}
        self.negotiated = (6, 0x1FF, steps, macros)
        self.heard = []
        self.reached.clear()

    def said(self, connection: int = -1) -> str:
        """The letters that one connection brought, without macros."""
        return "".join(letter for letter, _ in self.heard[connection] if letter != "D")

    def data(self, letter: str, connection: int = -1) -> list[bytes]:
        return [data for told, data in self.heard[connection] if told == letter]

    def macros(self, letter: str, connection: int = -1) -> dict[str, str]:
        """What was told before the command."""
        found = [data[1:] for data in self.data("D", connection) if data[:1] == letter.encode()]
        parts = found[-1].decode().split("\0")[:-1] if found else []
        return dict(zip(parts[::2], parts[1::2], strict=True))

    def _converse(self, connection: socket.socket) -> None:
        heard: list[Told] = []
        self.heard.append(heard)
        while True:
            (size,) = struct.unpack(">I", read(connection, 4))
            told = read(connection, size)
            letter = told[:1].decode()
            heard.append((letter, told[1:]))
            if letter == "Q":
                return
            if not self._answer(connection, letter):
                return

    def _answer(self, connection: socket.socket, letter: str) -> bool:
        answer = self.script.get(letter)
        version, actions, steps, macros = self.negotiated
        if answer is None and letter == "O":
            answer = [packet("O", struct.pack(">III", version, actions, steps) + macros)]
        elif answer is None and letter in ANSWERED and not steps & SILENT_AT.get(letter, 0):
            answer = [packet("c")]
        if answer == STALL:
            self.reached.set()
            self.stall(connection)
        elif answer == CLOSE:
            reset(connection)
            return False
        elif isinstance(answer, bytes):
            connection.sendall(answer)
        elif answer:
            connection.sendall(b"".join(part for part in answer if isinstance(part, bytes)))
        return True


def main() -> None:
    """LETTER: where it stalls. Prints its address, and then when it does."""
    with MilterPeer() as peer:
        peer.script[sys.argv[1]] = STALL
        print(peer.address, flush=True)
        peer.reached.wait()
        print("stalls", flush=True)
        peer.over.wait()


if __name__ == "__main__":
    main()
