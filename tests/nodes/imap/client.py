"""A client that hides nothing: it sends what it is told and gives the lines that come back."""

import re
import socket
import ssl

_LITERAL = re.compile(rb"\{(\d+)\}\r\n\Z")


class RawClient:
    """Lines are responses with their literals inside, without the last line end."""

    def __init__(self, port: int, tls: ssl.SSLContext | None = None) -> None:
        self.socket: socket.socket = socket.create_connection(("127.0.0.1", port), timeout=20)
        self._file = self.socket.makefile("rb")
        self.tags = 0
        if tls is not None:
            self.wrap(tls)
        self.greeting = self.response()

    def wrap(self, tls: ssl.SSLContext) -> None:
        """The client's side of the handshake."""
        self._file.close()
        self.socket = tls.wrap_socket(self.socket, server_hostname="localhost")
        self._file = self.socket.makefile("rb")

    def close(self) -> None:
        self._file.close()
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def response(self) -> bytes:
        """One response, b"" when the server has closed."""
        line = self._file.readline()
        whole = line
        while found := _LITERAL.search(line):
            whole += self._file.read(int(found[1]))
            line = self._file.readline()
            whole += line
        return whole.removesuffix(b"\r\n")

    def command(self, text: str | bytes) -> list[bytes]:
        """Sends a command without a tag; gives all responses, the last without its tag."""
        self.tags += 1
        tag = b"t%d" % self.tags
        self.send(tag + b" " + (text.encode() if isinstance(text, str) else text) + b"\r\n")
        return self.until(tag)

    def until(self, tag: bytes) -> list[bytes]:
        lines: list[bytes] = []
        while True:
            line = self.response()
            if not line:
                raise EOFError(lines)
            if line.startswith(tag + b" "):
                return [*lines, line.removeprefix(tag + b" ")]
            lines.append(line)

    def ok(self, text: str | bytes) -> list[bytes]:
        """The untagged responses of a command that must succeed."""
        *untagged, last = self.command(text)
        assert last.startswith(b"OK "), (text, untagged, last)
        return untagged

    def append(self, folder: str, message: bytes, options: str = "") -> bytes:
        """APPEND with a literal that does not wait; gives the tagged reply."""
        head = f"APPEND {folder} {options}{{{len(message)}+}}\r\n".encode()
        return self.command(head + message)[-1]
