"""One module a scenario; each reads like its title. `SCENARIOS` is what `mailraft chaos list` shows."""

from collections.abc import Awaitable, Callable
from typing import NamedTuple

from chaos.report import Report
from chaos.scenarios import leader_kill
from chaos.scenarios.settings import Settings


class Scenario(NamedTuple):
    """A scenario's one-line description, how long it runs unless told otherwise, and itself."""

    summary: str
    duration_s: float
    run: Callable[[Settings], Awaitable[Report]]


SCENARIOS: dict[str, Scenario] = {
    "leader-kill": Scenario(leader_kill.SUMMARY, leader_kill.DURATION_S, leader_kill.run),
}
