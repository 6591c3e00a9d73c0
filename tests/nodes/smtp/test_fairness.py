"""One client that sends as fast as it can does not keep the others, or the log, from their turn."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable

import pytest

from tests.nodes.smtp.cell import Cell
from tests.nodes.smtp.dialogue import Dialogue

FLOOD = 40_000  # commands: more than one read brings


async def _turns(seconds: float) -> int:
    """How often a task of the event loop had its turn."""
    turns, until = 0, time.monotonic() + seconds
    while time.monotonic() < until:
        await asyncio.sleep(0)
        turns += 1
    return turns


@pytest.mark.parametrize(("kind", "command", "greeting"), [("smtp", b"RSET\r\n", True), ("pop3", b"CAPA\r\n", False)])
def test_the_event_loop_turns_while_a_client_floods_it(
    cell: Cell, talk: Callable[..., Dialogue], kind: str, command: bytes, greeting: bool
) -> None:
    client = talk(kind, greet=greeting)
    sender = threading.Thread(target=lambda: client.send(command * FLOOD))
    answered = 0

    def read() -> None:
        nonlocal answered
        while answered < FLOOD:
            if client.line().startswith((b"250 ", b"+OK")):
                answered += 1

    reader = threading.Thread(target=read)
    reader.start()
    sender.start()
    turns = 0
    while reader.is_alive():
        turns += cell.call(_turns(0.05))
    sender.join(30)
    assert answered == FLOOD
    assert turns >= FLOOD // 1000  # about one for every hundred commands, less what was not looked at


def test_what_was_sent_before_the_end_of_input_is_answered(cell: Cell, talk: Callable[..., Dialogue]) -> None:
    client = talk("smtp")
    client.send(b"NOOP\r\n" * 1000)
    client.finish()
    answers = []
    while line := client.line():
        answers.append(line)
    assert sum(line.startswith(b"250 ") for line in answers) == 1000
