"""Other people's mail servers for tests: a small real SMTP server that answers as it is told, and a transport to it.

The transport is for tests of the queue alone: no DNS, one server for all domains, a connection for each message.
"""

from __future__ import annotations

import asyncio
import smtplib
from collections.abc import Callable
from typing import NamedTuple

from nodes.delivery.attempt import Attempt, AttemptResult, OutcomeStatus, RecipientOutcome


class Received(NamedTuple):
    sender: str
    recipients: tuple[str, ...]
    data: bytes


Reply = Callable[[str], str]


class Peer:
    """Takes mail on 127.0.0.1; `reply` says how each RCPT is answered."""

    def __init__(self, reply: Reply = lambda address: "250 2.1.5 ok") -> None:
        self.reply = reply
        self.received: list[Received] = []
        self.data_reply = "250 2.0.0 taken"
        self.port = 0

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        def say(line: str) -> None:
            writer.write(f"{line}\r\n".encode())

        say("220 peer.test ESMTP")
        sender, recipients = "", list[str]()
        while line := (await reader.readline()).decode().strip():
            verb = line.upper()
            if verb.startswith("EHLO"):
                say("250-peer.test\r\n250 8BITMIME")
            elif verb.startswith("MAIL"):
                sender, recipients = line.split("<")[1].split(">")[0], []
                say("250 2.1.0 ok")
            elif verb.startswith("RCPT"):
                address = line.split("<")[1].split(">")[0]
                answer = self.reply(address)
                if answer.startswith("2"):
                    recipients.append(address)
                say(answer)
            elif verb == "DATA":
                say("354 go on")
                data = await reader.readuntil(b"\r\n.\r\n")
                if not self.data_reply:
                    break
                if self.data_reply.startswith("2"):
                    self.received.append(Received(sender, tuple(recipients), data[:-3]))
                say(self.data_reply)
            elif verb == "QUIT":
                say("221 bye")
                break
            else:
                say("250 ok")
        writer.close()


_STATUS: dict[int, OutcomeStatus] = {2: "delivered", 4: "deferred", 5: "failed"}


class PeerTransport:
    """Sends everything to one peer."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.attempts: list[Attempt] = []

    async def send(self, attempt: Attempt) -> AttemptResult:
        self.attempts.append(attempt)
        data = b"".join([part async for part in attempt.read()])
        return await asyncio.to_thread(self._send, attempt.sender, [address for address, _ in attempt.recipients], data)

    def _send(self, sender: str, addresses: list[str], data: bytes) -> AttemptResult:
        refused: dict[str, tuple[int, bytes]] = {}
        code, text = 250, b"2.0.0 taken"
        try:
            with smtplib.SMTP("127.0.0.1", self.port, timeout=5) as client:
                refused = client.sendmail(sender, addresses, data)
        except smtplib.SMTPRecipientsRefused as error:
            refused = error.recipients
        except smtplib.SMTPResponseException as error:
            code, text = error.smtp_code, error.smtp_error if isinstance(error.smtp_error, bytes) else b""
        except (smtplib.SMTPException, OSError) as error:
            status: OutcomeStatus = "unknown" if isinstance(error, smtplib.SMTPServerDisconnected) else "deferred"
            return AttemptResult(
                tuple(RecipientOutcome(one, status, 0, "4.4.2", str(error), "", "") for one in addresses)
            )
        said = [(one, *refused.get(one, (code, text))) for one in addresses]
        return AttemptResult(tuple(_outcome(one, number, words.decode()) for one, number, words in said))


def _outcome(address: str, code: int, text: str) -> RecipientOutcome:
    first = text.split(" ")[0]
    enhanced = first if first.count(".") == 2 else ""
    status = _STATUS[code // 100]
    relayed = status == "delivered"  # the peer does not offer DSN
    return RecipientOutcome(address, status, code, enhanced, f"{code} {text}", "peer.test", "", relayed)
