"""`mailraft bench imap`: the commands that clients send most, to our nodes and to Dovecot, by turns.

All servers get the same messages over IMAP from the same client, then the same commands, one server after the other in
each round, so that a ratio holds when the machine's speed drifts. A ratio above 1 means faster than Dovecot.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import NamedTuple

from cli.bench.imap_client import ImapClient, append_all, fill, message
from cli.bench.imap_idle import idle_memory, notices
from cli.bench.imap_servers import DOVECOT, Server, servers
from cli.bench.results import Row

FILL_AT_ONCE = 100  # messages of one APPEND
COPY_AT_ONCE = 1000
SMALL_BYTES = 512  # of the messages of the large mailbox, which nobody reads
SESSIONS = 16

Say = Callable[[str], None]
Step = Callable[[ImapClient], object]


@dataclass(frozen=True)
class Amounts:
    """How much there is of everything. `large`: messages of the mailbox that is selected; 0 leaves a part out."""

    messages: int = 10_000
    size_bytes: int = 4096
    large: int = 100_000
    appends: int = 1000
    notices: int = 50
    idle: int = 10_000
    rounds: int = 3

    def quick(self, given: Collection[str]) -> Amounts:
        """A tenth of each, in one round, but for those that are named in `given`."""
        tenths = {name: getattr(self, name) // 10 for name in ("messages", "large", "appends", "notices", "idle")}
        less = {**tenths, "rounds": 1}
        return replace(self, **{name: value for name, value in less.items() if name not in given})


class Took(NamedTuple):
    """What a step took in one round: on the clock, and of the processors by the server."""

    seconds: float
    cpu_s: float


@dataclass
class Measured:
    """Rounds by step and server, in the order in which the steps came."""

    names: list[str]
    steps: dict[str, dict[str, list[Took]]] = field(default_factory=dict)

    def add(self, step: str, server: str, took: Took) -> None:
        self.steps.setdefault(step, {}).setdefault(server, []).append(took)

    def rows(self) -> list[Row]:
        return [row for step in self.steps for row in self._rows(step)]

    def _rows(self, step: str) -> Iterator[Row]:
        by_server = self.steps[step]
        for name in self.names:
            note = f"CPU {_median_ms([one.cpu_s for one in by_server[name]]):.0f} ms"
            yield Row(f"{step}, {name}", _median_ms([one.seconds for one in by_server[name]]), "ms", False, note)
        if DOVECOT not in by_server:
            return
        for name in self.names:
            if name != DOVECOT:
                theirs, ours = by_server[DOVECOT], by_server[name]
                by_cpu = sum(one.cpu_s for one in theirs) / max(0.01, sum(one.cpu_s for one in ours))
                pairs = zip(theirs, ours, strict=True)
                ratio = statistics.median(other.seconds / own.seconds for other, own in pairs)
                yield Row(f"{step}, {name} against Dovecot", ratio, "ratio", True, f"by CPU {by_cpu:.2f}")


def _median_ms(values: Sequence[float]) -> float:
    return statistics.median(values) * 1000


def bench_imap(amounts: Amounts, sizes: Sequence[int], with_dovecot: bool, say: Say) -> list[Row]:
    """Rows of one run. Raises ImapFailed, PeerError, ClusterError, BenchError or OSError."""
    with servers(sizes, with_dovecot, 0) as found:
        measured = Measured([server.name for server in found])
        _read_and_search(found, amounts, measured, say)
        _large(found, amounts, measured, say)
        _append(found, amounts, measured, say)
        rows = measured.rows()
        if amounts.notices:
            say("IDLE: how soon a delivery is told")
            rows += notices(found, amounts.notices, message(0, amounts.size_bytes))
    if amounts.idle:
        say(f"{amounts.idle} connections in IDLE")
        rows += idle_memory(amounts.idle, with_dovecot)
    return rows


def _timed(server: Server, work: Callable[[], object]) -> Took:
    before_s, began_s = server.cpu_seconds(), time.perf_counter()
    work()
    seconds = time.perf_counter() - began_s
    return Took(seconds, server.cpu_seconds() - before_s)


@contextmanager
def _sessions(found: Sequence[Server]) -> Iterator[list[tuple[Server, ImapClient]]]:
    opened = [(server, server.open()) for server in found]
    try:
        yield opened
    finally:
        for _, client in opened:
            client.close()


def _run(
    opened: Sequence[tuple[Server, ImapClient]], measured: Measured, rounds: int, steps: Sequence[tuple[str, Step]]
) -> None:
    for _ in range(rounds):
        for name, step in steps:
            for server, client in opened:
                measured.add(name, server.name, _timed(server, partial(step, client)))


# -- what is measured


def _read_and_search(found: Sequence[Server], amounts: Amounts, measured: Measured, say: Say) -> None:
    count = f"{amounts.messages:,}"
    with _sessions(found) as opened:
        for server, client in opened:
            say(f"{server.name}: {count} messages of {amounts.size_bytes} bytes")
            client.do("CREATE bench")
            sent = (message(number, amounts.size_bytes) for number in range(amounts.messages))
            fill(client, "bench", sent, FILL_AT_ONCE)
            server.index()
            client.do("SELECT bench")
        envelopes = "FETCH 1:* (UID ENVELOPE INTERNALDATE RFC822.SIZE)"
        structures = "FETCH 1:* (UID BODYSTRUCTURE)"
        first: list[tuple[str, Step]] = [
            (f"FETCH of {count} envelopes, the first time", lambda client: client.do(envelopes)),
            (f"FETCH of {count} structures, the first time", lambda client: client.do(structures)),
        ]
        steps: list[tuple[str, Step]] = [
            (f"FETCH of {count} envelopes", lambda client: client.do(envelopes)),
            (f"FETCH of {count} structures", lambda client: client.do(structures)),
            (f"FETCH of {count} bodies", lambda client: client.do("FETCH 1:* (UID BODY.PEEK[])")),
            (f"STORE of {count} flags", _store),
            (f"SEARCH SUBJECT in {count}", lambda client: client.do('SEARCH SUBJECT "number 42"')),
            (f"SEARCH TEXT in {count}", lambda client: client.do("SEARCH TEXT needleinhay")),
        ]
        say("FETCH, STORE and SEARCH, by turns")
        _run(opened, measured, 1, first)
        _run(opened, measured, amounts.rounds, steps)


def _store(client: ImapClient) -> None:
    """There and back, so that each round finds the same."""
    client.do(r"STORE 1:* +FLAGS.SILENT (\Flagged)")
    client.do(r"STORE 1:* -FLAGS.SILENT (\Flagged)")


def _large(found: Sequence[Server], amounts: Amounts, measured: Measured, say: Say) -> None:
    if not amounts.large:
        return
    count = f"{amounts.large:,}"
    with _sessions(found) as opened:
        for server, client in opened:
            say(f"{server.name}: a mailbox of {count} messages")
            _fill_large(client, amounts.large)
        first: list[tuple[str, Step]] = [
            (f"SELECT of {count} messages, the first time", lambda client: client.do("SELECT large"))
        ]
        steps: list[tuple[str, Step]] = [
            (f"SELECT of {count} messages", lambda client: client.do("SELECT large")),
            (f"FETCH of {count} flags", lambda client: client.do("FETCH 1:* (UID FLAGS)")),
        ]
        say("SELECT and FETCH of flags, by turns")
        _run(opened, measured, 1, first)
        _run(opened, measured, amounts.rounds, steps)


def _fill_large(client: ImapClient, count: int) -> None:
    """A few messages, copied until there are enough."""
    few = min(count, COPY_AT_ONCE)
    for name in ("few", "large"):
        client.do(f"CREATE {name}")
    fill(client, "few", (message(number, SMALL_BYTES) for number in range(few)), FILL_AT_ONCE)
    client.do("SELECT few")
    for at in range(0, count, few):
        client.do(f"COPY 1:{min(few, count - at)} large")


def _append(found: Sequence[Server], amounts: Amounts, measured: Measured, say: Say) -> None:
    say(f"APPEND of {amounts.appends} messages, by turns")
    serial = iter(range(amounts.messages, 1 << 62))
    for server in found:
        with closing(server.open()) as client:
            client.do("CREATE appended")
    for _ in range(amounts.rounds):
        for sessions in (1, SESSIONS):
            batch = [message(next(serial), amounts.size_bytes) for _ in range(amounts.appends)]
            name = f"APPEND of {amounts.appends:,}, {'one session' if sessions == 1 else f'{sessions} sessions'}"
            for server in found:
                clients = [server.open(number) for number in range(sessions)]
                measured.add(name, server.name, _timed(server, partial(append_all, clients, "appended", batch)))
                for client in clients:
                    client.do("LOGOUT")
                    client.close()
