"""Counts, on this node, what reports will tell, and puts the counts into the log every few seconds.

A node that is killed loses what it counted since then, never mail: reports are statistics. Nothing is counted before
somebody is named who reports (mailraft report set).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from actors.errors import CommandRefused
from actors.reports import DAY_MS, REPORTS, CountResults, Subject, settings
from actors.runtime import Context
from eventlog.errors import OutcomeUnknown, Rejected
from eventlog.record import By, stream_id
from nodes.delivery.tls_results import TlsResult
from nodes.reports.results import DmarcResult

if TYPE_CHECKING:
    from actors.runtime import Runtime
    from eventlog.log import EventLog
    from nodes.services import Logger
    from nodes.verdicts.dmarc import Policy

FLUSH_S = 5.0
MOST_LINES = 20_000  # in memory; what is beyond is counted as left out
LINES_AT_ONCE = 500  # in one event, and in one record
MOST_REASON = 200


class _Group(NamedTuple):
    subject: Subject
    policy: tuple[Any, ...]


class Collector:
    """Made on the event loop; `stop` puts what is left into the log."""

    def __init__(self, log: EventLog, runtime: Runtime, logger: Logger, node: str, flush_s: float = FLUSH_S) -> None:
        self._log = log
        self._runtime = runtime
        self._logger = logger
        self._context = Context(By("node", stream_id("node", node), f"node {node}"), "reports")
        self._flush_s = flush_s
        self._counts: dict[_Group, dict[tuple[Any, ...], int]] = {}
        self._since_ms: dict[Subject, int] = {}
        self._lines = 0
        self._left_out = 0
        self._task = asyncio.get_running_loop().create_task(self._run())

    def count_dmarc(self, policy: Policy, result: DmarcResult) -> None:
        """One message whose author's domain wants reports. Never waits."""
        if policy.rua:
            told = (policy.adkim, policy.aspf, policy.p, policy.sp or policy.p, policy.pct, policy.fo)
            self._count("dmarc", policy.domain, told, tuple(result))

    def record_tls_result(self, result: TlsResult) -> None:
        """One connection to a host of the recipients' domain, or one that failed. Never waits."""
        self._count("tls", result.domain, (), tuple(result._replace(reason=result.reason[:MOST_REASON]))[1:])

    def _count(self, kind: str, domain: str, policy: tuple[Any, ...], line: tuple[Any, ...]) -> None:
        now_ms = time.time_ns() // 1_000_000
        subject = Subject(kind, now_ms // DAY_MS, domain)
        lines = self._counts.get(_Group(subject, policy), {})
        if line not in lines and self._lines >= MOST_LINES:
            self._left_out += 1
            return
        self._counts.setdefault(_Group(subject, policy), lines)
        self._since_ms.setdefault(subject, now_ms)
        self._lines += line not in lines
        lines[line] = lines.get(line, 0) + 1

    async def stop(self) -> None:
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        await self.flush()

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._flush_s)
            try:
                await self.flush()
            except Exception:  # nothing may end this for good
                self._logger.exception("counts for reports could not be kept", code="reports_failed")

    async def flush(self) -> None:
        """Puts what was counted into the log; what the log does not take is lost, and said."""
        counts, since_ms = self._counts, self._since_ms
        left_out, self._left_out = self._left_out, 0
        self._counts, self._since_ms, self._lines = {}, {}, 0
        if left_out:
            self._logger.warning("too many different results to report them all", left_out=left_out)
        if not counts or not self._wanted():
            return
        lost = 0
        for commands in _batches(_commands(counts, since_ms, time.time_ns() // 1_000_000)):
            try:
                await self._runtime.transact([(REPORTS, one) for one in commands], self._context)
            except (CommandRefused, Rejected, OutcomeUnknown):
                lost += sum(count for one in commands for _, count in one.lines)
        if lost:
            self._logger.warning("counts for reports were lost: the log did not take them", results=lost)

    def _wanted(self) -> bool:
        with self._log.snapshot() as snapshot:
            return bool(settings(snapshot.view(REPORTS)).sender)


def _commands(
    counts: dict[_Group, dict[tuple[Any, ...], int]], since_ms: dict[Subject, int], now_ms: int
) -> Iterator[CountResults]:
    for (subject, policy), lines in counts.items():
        found = list(lines.items())
        for at in range(0, len(found), LINES_AT_ONCE):
            yield CountResults(*subject, policy, since_ms[subject], now_ms, tuple(found[at : at + LINES_AT_ONCE]))


def _batches(commands: Iterator[CountResults]) -> Iterator[list[CountResults]]:
    """What goes into one record: mail to many domains is not as many records."""
    batch: list[CountResults] = []
    for one in commands:
        if batch and sum(len(other.lines) for other in batch) + len(one.lines) > LINES_AT_ONCE:
            yield batch
            batch = []
        batch.append(one)
    if batch:
        yield batch
