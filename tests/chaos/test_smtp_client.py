"""The client knows what it may conclude (acknowledged, refused, unknown), and never more than it was told."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from chaos.history import Outcome
from chaos.messages import make_message
from chaos.smtp_client import SmtpConnection

MESSAGE = make_message(1, 1, ("a@chaos.test", "b@chaos.test"))
Script = dict[str, str]
HAPPY: Script = {
    "banner": "220-two lines\r\n220 ready",
    "EHLO": "250-hello\r\n250 SIZE",
    "MAIL": "250 ok",
    "RCPT": "250 ok",
    "DATA": "354 go on",
    ".": "250 2.0.0 taken",
}


@asynccontextmanager
async def server(script: Script, received: list[bytes]) -> AsyncIterator[str]:
    """Answers each command from the script; an empty answer hangs up."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await converse(reader, writer, script, received)
        except EOFError:
            pass
        finally:
            writer.close()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    finally:
        listener.close()


async def converse(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, script: Script, received: list[bytes]
) -> None:
    word = "banner"
    while answer := script[word]:
        writer.write(answer.encode() + b"\r\n")
        if word == "DATA" and answer.startswith("354"):
            received.append(await reader.readuntil(b"\r\n.\r\n"))
            word = "."
        else:
            line = (await reader.readuntil(b"\r\n")).decode()
            word = line[:4]


async def deliver(script: Script, received: list[bytes]) -> Outcome:
    async with server(script, received) as endpoint:
        connection = await SmtpConnection.open(endpoint)
        outcome, _ = await connection.deliver(MESSAGE)
        connection.close()
        return outcome


@pytest.mark.parametrize(
    ("at", "answer", "outcome"),
    [
        (".", "250 2.0.0 taken", Outcome.ACKNOWLEDGED),
        (".", "451 4.3.0 outcome unknown", Outcome.UNKNOWN),
        (".", "", Outcome.UNKNOWN),
        (".", "554 5.6.0 no", Outcome.REFUSED),
        ("DATA", "451 4.3.0 not now", Outcome.REFUSED),
        ("RCPT", "550 5.1.1 nobody", Outcome.REFUSED),
        ("RCPT", "", Outcome.REFUSED),
        ("MAIL", "421 4.3.2 stopping", Outcome.REFUSED),
    ],
)
def test_an_outcome_is_as_strong_as_the_last_answer(
    run: Callable[[Any], Any], at: str, answer: str, outcome: Outcome
) -> None:
    assert run(deliver(HAPPY | {at: answer}, [])) is outcome


def test_a_server_that_undoes_dot_stuffing_gets_the_message_byte_for_byte(run: Callable[[Any], Any]) -> None:
    received: list[bytes] = []
    run(deliver(HAPPY, received))
    unstuffed = received[0].removesuffix(b".\r\n").replace(b"\r\n..", b"\r\n.")
    assert unstuffed == MESSAGE.data
