"""How a connection refuses a command: at once, or when checks that hold refusals back let it (a tarpit)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from nodes.smtp.collecting import PERMANENT, Collecting, known
from nodes.smtp.replies import Refused

if TYPE_CHECKING:
    from nodes.smtp.checks import Check
    from nodes.smtp.server import SmtpListener


class Refusing(Collecting):
    """The part of a connection that refuses."""

    def __init__(self, listener: SmtpListener) -> None:
        self._task: asyncio.Task[None] | None = None  # the command that waits
        self._pausing = False  # it is refused, and the refusal held back
        super().__init__(listener)

    def _may_command(self, checks: tuple[Check, ...]) -> bool:
        try:
            for check in checks:
                check.command(self.session)
        except Refused as refused:
            self.close_with(refused.reply)
            return False
        return True

    def _refuse(self, reply: bytes) -> None:
        """Says it, or has it wait where a check may hold it back."""
        if reply[0] == PERMANENT and self.listener.intake.checks.refused:
            state = self.session.state
            self._begin(known(reply), state, state)
        else:
            self.say(reply)

    async def _held_back(self) -> bool:
        """Waits as long as checks want a refusal to wait; False: the client has gone meanwhile."""
        for check in self.listener.intake.checks.refused:
            pause = check.refused(self.session)
            if pause is None:
                continue
            self._pausing = True
            try:
                await pause
            except asyncio.CancelledError:
                return False
            finally:
                self._pausing = False
        return True

    def _end_pause(self) -> None:
        if self._pausing and self._task is not None:
            self._task.cancel()
