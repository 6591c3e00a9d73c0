"""A raw line dialogue over a socket, to say what no client library would."""

from __future__ import annotations

import socket
import ssl


class Dialogue:
    """One connection. Replies of several lines are read whole."""

    def __init__(self, port: int, *, timeout_s: float = 10.0, tls: ssl.SSLContext | None = None) -> None:
        self._socket: socket.socket = socket.create_connection(("127.0.0.1", port), timeout_s)
        if tls is not None:
            self._socket = tls.wrap_socket(self._socket, server_hostname="localhost")
        self._file = self._socket.makefile("rb")

    def send(self, data: bytes) -> None:
        """Sends bytes as they are."""
        self._socket.sendall(data)

    def line(self) -> bytes:
        """The next line, b"" when the server has closed."""
        try:
            return self._file.readline()
        except ConnectionResetError:
            return b""

    def read(self) -> str:
        """The next SMTP reply without line ends; "" when the server has closed."""
        lines = [self.line().decode()]
        while lines[-1][3:4] == "-":
            lines.append(self.line().decode())
        return "\n".join(line.rstrip("\r\n") for line in lines)

    def ask(self, line: str) -> str:
        """Sends a line and reads the reply."""
        self.send(line.encode() + b"\r\n")
        return self.read()

    def begin(self, *recipients: str, sender: str = "sender@remote.test") -> list[str]:
        """MAIL and RCPT; the replies to RCPT."""
        assert self.ask(f"MAIL FROM:<{sender}>") == "250 2.1.0 Ok"
        return [self.ask(f"RCPT TO:<{recipient}>") for recipient in recipients]

    def transfer(self, data: bytes) -> str:
        """DATA with this content, which must end its last line; the reply after it."""
        assert self.ask("DATA").startswith("354 ")
        self.send(data + b".\r\n")
        return self.read()

    def upgrade(self, tls: ssl.SSLContext) -> None:
        """The TLS handshake of STARTTLS or STLS."""
        self._socket = tls.wrap_socket(self._socket, server_hostname="localhost")
        self._file = self._socket.makefile("rb")

    def finish(self) -> None:
        """Sends no more, but goes on reading."""
        self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Closes without a farewell."""
        self._file.close()
        self._socket.close()
