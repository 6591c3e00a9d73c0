"""The IMAP client parses what servers say, strictly, and knows how far a command came."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from chaos.history import Outcome
from chaos.imap_client import LITERAL_LIMIT, Answer, ImapBroken, ImapSession, quoted

Run = Callable[[Any], Any]


@asynccontextmanager
async def server(answer: bytes, received: list[bytes], greeting: bytes = b"* OK ready\r\n") -> AsyncIterator[str]:
    """Greets, takes one command with its literal, answers with these bytes (TAG stands for the tag), and hangs up."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)
        line = await reader.readline()
        received.append(line)
        if line.endswith(b"+}\r\n"):
            size = int(line[line.rindex(b"{") + 1 : -4])
            received.append(await reader.readexactly(size + 2))
        writer.write(answer.replace(b"TAG", line.split(b" ")[0]))
        writer.close()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    finally:
        listener.close()


async def ask(answer: bytes, command: str = "NOOP") -> Answer:
    async with server(answer, []) as endpoint:
        session = await ImapSession.open(endpoint)
        try:
            return await session.command(command)
        finally:
            session.close()


def test_fetch_responses_give_uid_flags_and_literals(run: Run) -> None:
    answer = run(
        ask(
            b"* 2 FETCH (FLAGS (\\Seen w1))\r\n"
            b"* 3 FETCH (UID 9 FLAGS (\\Recent $Red \\Seen) BODY[] {11}\r\nUID 1 \r\n))x)\r\n"
            b"* 4 FETCH (BODY[] {2}\r\nhi UID 10)\r\nTAG OK done\r\n"
        )
    )
    assert [(one.number, one.uid, one.flags, one.literals) for one in answer.fetched()] == [
        (3, 9, ("$Red", "\\Seen"), (b"UID 1 \r\n))x",)),
        (4, 10, None, (b"hi",)),
    ]


def test_codes_are_found_in_tagged_and_untagged_lines(run: Run) -> None:
    answer = run(ask(b"* OK [COPYUID 7 3 12] moved\r\n* 3 EXPUNGE\r\n* 5 EXISTS\r\nTAG OK [READ-WRITE] done\r\n"))
    assert answer.code("COPYUID") == ["7", "3", "12"]
    assert answer.code("APPENDUID") is None
    assert answer.expunged() == [3]
    assert answer.exists() == 5


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (b"TAG OK done\r\n", Outcome.ACKNOWLEDGED),
        (b"TAG NO [NONEXISTENT] no such mailbox\r\n", Outcome.REFUSED),
        (b"TAG BAD what\r\n", Outcome.REFUSED),
        (b"TAG NO [UNAVAILABLE] no majority confirmed this in time\r\n", Outcome.UNKNOWN),
    ],
)
def test_an_outcome_is_as_strong_as_the_tagged_answer(run: Run, answer: bytes, outcome: Outcome) -> None:
    assert run(ask(answer)).outcome is outcome


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"* 1 EXISTS\r\n",
        b"* BYE shutting down\r\n",
        b"TAG MAYBE\r\n",
        b"nonsense\r\n",
        b"* 1 FETCH (BODY[] {5}\r\nabc",
        b"* 1 FETCH (BODY[] {%d}\r\n" % (LITERAL_LIMIT + 1),
        b"* " + b"x" * 100_000 + b"\r\n",
    ],
    ids=["silence", "cut off", "bye", "no status", "no response", "half a literal", "too large", "too long"],
)
def test_what_is_not_understood_ends_the_session_with_the_command_asked(run: Run, answer: bytes) -> None:
    with pytest.raises(ImapBroken) as broken:
        run(ask(answer))
    assert broken.value.asked


def test_a_server_without_a_greeting_was_asked_nothing(run: Run) -> None:
    async def open_it() -> None:
        async with server(b"", [], greeting=b"* BYE too many\r\n") as endpoint:
            await ImapSession.open(endpoint)

    with pytest.raises(ImapBroken) as broken:
        run(open_it())
    assert not broken.value.asked


def test_an_appended_message_goes_byte_for_byte(run: Run) -> None:
    received: list[bytes] = []
    data = b"Subject: x\r\n\r\n{3}\r\n\xff\x00"

    async def append() -> Answer:
        async with server(b"TAG OK [APPENDUID 7 4] done\r\n", received) as endpoint:
            session = await ImapSession.open(endpoint)
            return await session.append("INBOX", data, ("\\Seen", "$Red"))

    assert run(append()).code("APPENDUID") == ["7", "4"]
    assert received[0] == b'a1 APPEND "INBOX" (\\Seen $Red) {%d+}\r\n' % len(data)
    assert received[1] == data + b"\r\n"


def test_a_quoted_string_holds_no_line_break() -> None:
    assert quoted('a"b\\c') == '"a\\"b\\\\c"'
    with pytest.raises(ValueError, match="quoted"):
        quoted("a\r\nb")
