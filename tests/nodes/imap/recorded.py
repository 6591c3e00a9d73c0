"""Sessions of clients as they were on the wire: taken down by a relay, kept as text, played again without the client.

A line of a recording is the number of a connection, who said it (C or S) and what; responses are cut to their first
line, and what a client sent of a password stands as `{plain}`. A line that begins with `!` is what happened besides:
`! deliver SUBJECT`, or a command of somebody else's session. Lines that begin with `#` are for the reader.
"""

import base64
import re
import socket
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

from tests.nodes.imap.client import RawClient

SESSIONS = Path(__file__).parent / "sessions"
SHOWN = 200  # characters of a response

_LITERAL = re.compile(rb"\{(\d+)\+?\}\r\n\Z")
_INITIAL = re.compile(rb"(\S+ AUTHENTICATE PLAIN )\S+\Z", re.IGNORECASE)
_TAGGED = re.compile(rb"(?![*+])\S+ (OK|NO|BAD)\b(?: \[([A-Z]+))?")
_UNTAGGED = re.compile(rb"\* (?:\d+ )?([A-Z]+)")
_UNASKED = {b"EXISTS", b"RECENT", b"EXPUNGE", b"OK", b"VANISHED", b"FETCH"}  # may come with one command or the next


class Relay:
    """Stands between a client and a node and takes down what both say."""

    def __init__(self, port: int) -> None:
        self._node_port = port
        self._server = socket.create_server(("127.0.0.1", 0))
        self._lock = threading.Lock()
        self._connections = 0
        self.lines: list[str] = []
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def port(self) -> int:
        return int(self._server.getsockname()[1])

    def note(self, text: str) -> None:
        """What happened besides."""
        with self._lock:
            self.lines.append(f"! {text}")

    def close(self) -> None:
        self._server.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            node = socket.create_connection(("127.0.0.1", self._node_port))
            self._connections += 1
            for who, source, sink in (("C", client, node), ("S", node, client)):
                arguments = (self._connections, who, source, sink)
                threading.Thread(target=self._pass_on, args=arguments, daemon=True).start()

    def _pass_on(self, number: int, who: str, source: socket.socket, sink: socket.socket) -> None:
        file = source.makefile("rb")
        secret = False
        while line := file.readline():
            told = line
            if who == "S":
                while found := _LITERAL.search(line):
                    line = file.read(int(found[1])) + file.readline()
                    told += line
                shown = told.split(b"\r\n")[0][:SHOWN]
            else:
                shown = b"{plain}" if secret else _INITIAL.sub(rb"\1{plain}", line.rstrip(b"\r\n"))
                secret = line.upper().rstrip().endswith(b"AUTHENTICATE PLAIN")
            with self._lock:
                self.lines.append(f"{number} {who} {shown.decode('utf-8', 'surrogateescape')}")
            try:
                sink.sendall(told)
            except OSError:
                return
        sink.close()


def play(
    name: str, connect: Callable[[], RawClient], login: str, password: str, besides: Callable[[str], None]
) -> list[str]:
    """Says what the client said and listens where it listened; gives where the answers are other ones."""
    plain = base64.b64encode(f"\0{login}\0{password}".encode()).decode()
    text = (SESSIONS / f"{name}.txt").read_text(errors="surrogateescape")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    clients: dict[str, _Player] = {}
    wrong: list[str] = []
    for line in lines:
        if line.startswith("! "):
            besides(line[2:])
            continue
        number, who, said = line.split(" ", 2)
        if number not in clients:
            clients[number] = _Player(connect())
            if who == "S":
                continue  # the greeting
        data = said.replace("{plain}", plain).replace("{login}", login).replace("{password}", password)
        if who == "C":
            clients[number].client.send(data.encode("utf-8", "surrogateescape") + b"\r\n")
        elif problem := clients[number].hear(data.encode("utf-8", "surrogateescape")):
            wrong.append(f"{line}: {problem}")
    return wrong


class _Player:
    """One connection of a recording."""

    def __init__(self, client: RawClient) -> None:
        self.client = client
        self._heard: list[bytes] = []
        self._expected: set[bytes] = set()

    def hear(self, recorded: bytes) -> str | None:
        """Reads as far as the client read; what is wrong with it."""
        if recorded.startswith(b"* "):
            self._expected |= _kinds([recorded]) - _UNASKED
            return None
        tag = recorded.split(b" ", 1)[0]
        while not (line := self.client.response()).startswith(tag):
            if not line:
                return "the session has ended"
            self._heard.append(line)
        heard, self._heard = self._heard, []
        expected, self._expected = self._expected, set()
        if tag == b"+":
            self._heard, self._expected = heard, expected
            return None
        if missing := expected - _kinds(heard):
            return f"without {missing}"
        was, now = _TAGGED.match(recorded), _TAGGED.match(line)
        if was is None or now is None or was.groups() != now.groups():
            return line.decode("utf-8", "replace")
        return None


def _kinds(lines: Iterable[bytes]) -> set[bytes]:
    return {found[1] for line in lines if (found := _UNTAGGED.match(line))}
