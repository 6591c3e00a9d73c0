"""What clients are refused is counted always, and written as long as it is not too much."""

from typing import Any

from nodes.metrics import Metrics
from nodes.refusals import LINES_AT_ONCE, LINES_PER_S, Refusals


class Lines:
    """A logger that keeps its lines."""

    def __init__(self) -> None:
        self.all: list[dict[str, Any]] = []

    def info(self, event: str, **facts: Any) -> None:
        self.all.append({"event": event, **facts})


def test_a_flood_of_refusals_is_counted_whole_and_written_in_part() -> None:
    metrics, lines, now = Metrics("n1"), Lines(), [0.0]
    refusals = Refusals(metrics, lines, lambda: now[0])
    for _ in range(LINES_AT_ONCE + 70):
        refusals.note("bad_command", session="5e55")
    assert len(lines.all) == LINES_AT_ONCE
    assert lines.all[-1] == {"event": "refused", "code": "bad_command", "session": "5e55"}
    now[0] = 1.0
    for _ in range(2 * LINES_PER_S):
        refusals.note("bad_command")
    assert len(lines.all) == LINES_AT_ONCE + LINES_PER_S
    assert lines.all[LINES_AT_ONCE]["left_out"] == 70
    shown = metrics.exposition().decode()
    wanted = 'mailraft_errors_total{category="bad_request",code="bad_command",severity="info"} '
    assert f"{wanted}{LINES_AT_ONCE + 70 + 2 * LINES_PER_S}.0" in shown


def test_only_codes_of_the_registry_become_labels() -> None:
    metrics = Metrics("n1")
    metrics.error("x" * 1000)
    shown = metrics.exposition().decode()
    assert 'mailraft_errors_total{category="internal",code="internal",severity="error"} 1.0' in shown
    assert "xxx" not in shown


def test_what_is_critical_is_there_from_the_start_so_that_an_alert_sees_the_first() -> None:
    shown = Metrics("n1").exposition().decode()
    assert 'mailraft_errors_total{category="internal",code="fold_stalled",severity="critical"} 0.0' in shown
