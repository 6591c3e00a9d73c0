"""Engines whose messages a test carries by hand: what is sent waits in `mail` until it is delivered or dropped."""

import os
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from eventlog.journal import KIND_CONFIG, KIND_RECORD, Command, LmdbJournal
from eventlog.members import Members, change_record
from eventlog.raft import Raft, Timing
from eventlog.record import encode
from eventlog.store import Store
from tests.eventlog import ledger
from tests.eventlog.conftest import MAP_BYTES

TIMING = Timing(0.5, 1.0, 0.1, news_s=0.0)  # what is committed is told in the tick that learns it
NOW_MS = 1_700_000_000_000


class Letter(NamedTuple):
    """One message on its way."""

    source: str
    target: str
    message: dict[str, Any]

    @property
    def type(self) -> str:
        return str(self.message["type"])


class Engine:
    """An engine with its journal; a tick is made durable before anything leaves, as the writer does."""

    def __init__(self, name: str, names: Sequence[str], path: Path, now: float, raft_class: type[Raft] = Raft) -> None:
        self.name = name
        self.raft_class = raft_class
        self.names = names
        self.clock_off_ms = 0
        self.store = Store(path, MAP_BYTES, durable=False)
        self.start(now)

    def start(self, now: float) -> None:
        self.store.abort()
        self.journal = LmdbJournal(self.store)
        self.raft = self.raft_class(self.name, self.names, self.journal, TIMING, random.Random(self.name), now)

    def log(self) -> list[int]:
        """The terms of its entries."""
        return [self.journal.entry(i)[2] for i in range(1, self.journal.last_index + 1)]

    def write(self, *terms: int, fact: str | None = None) -> None:
        """Puts entries of these terms at the end of its log, as an earlier life left them."""
        for term in terms:
            text = f"{self.name} {self.journal.last_index}" if fact is None else fact
            data = ledger.encoded(ledger.event(text))
            self.journal.add(Command(KIND_RECORD, NOW_MS, data), self.journal.last_index + 1, term)
        self.journal.setCurrentTerm(max(terms), None)
        self.store.commit()


class Cell:
    """Engines and the post between them. Time moves only when a test says so."""

    def __init__(self, folder: Path, names: Sequence[str] = ("n1", "n2", "n3"), raft_class: type[Raft] = Raft) -> None:
        self.now = 100.0
        self.raft_class = raft_class
        self.folder = folder
        self.mail: list[Letter] = []
        self.engines = {name: Engine(name, names, folder / name, self.now, raft_class) for name in names}
        for engine in self.engines.values():
            self._connect(engine)

    def __getitem__(self, name: str) -> Raft:
        return self.engines[name].raft

    def close(self) -> None:
        for engine in self.engines.values():
            engine.store.close()

    def _connect(self, engine: Engine) -> None:
        for peer in self.engines:
            if peer != engine.name:
                engine.raft.connected(peer, self.now)

    def join(self, name: str) -> Raft:
        """An empty node that knows the others and can be reached by them; it is no member yet."""
        engine = self.engines[name] = Engine(name, tuple(self.engines), self.folder / name, self.now, self.raft_class)
        for other in self.engines:
            if other != name:
                self[other].connected(name, self.now)
        self._connect(engine)
        return engine.raft

    def restart(self, name: str) -> None:
        """A process starts again on what it had committed; its connections are made again."""
        engine = self.engines[name]
        engine.start(self.now)
        self._connect(engine)
        for other in self.engines.values():
            if other is not engine:
                other.raft.disconnected(name)
                other.raft.connected(name, self.now)

    # -- ticks and the post -----------------------------------------------------------------------------------------

    def tick(self, *names: str) -> None:
        """Ticks these nodes, or all: what they have to say is in the post afterwards."""
        for name in names or tuple(self.engines):
            engine = self.engines[name]
            engine.raft.tick(self.now, self._clock(engine))
            engine.raft.send_appends()
            engine.store.commit()
            self.mail += [Letter(name, peer, message) for peer, message in engine.raft.take_outbox()]

    def _clock(self, engine: Engine) -> int:
        return NOW_MS + int(self.now * 1000) + engine.clock_off_ms

    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    def time_out(self, name: str) -> None:
        """Lets this node's election timeout pass, and no other's, and ticks it alone."""
        self.pass_time(TIMING.election_min_s)  # nobody hears a leader any more
        for engine in self.engines.values():
            engine.raft._SyncObj__raftElectionDeadline = self.now + (0 if engine.name == name else 5)
        self.tick(name)

    def deliver(self, letter: Letter) -> None:
        self[letter.target].receive(letter.source, letter.message, self.now)

    def carry(self, wanted: Callable[[Letter], bool] = lambda _: True) -> list[Letter]:
        """Delivers the waiting letters that are wanted, drops the others; gives those delivered."""
        mail, self.mail = self.mail, []
        delivered = [letter for letter in mail if wanted(letter)]
        for letter in delivered:
            self.deliver(letter)
        return delivered

    def settle(self, among: Sequence[str] = (), rounds: int = 20) -> None:
        """Ticks and delivers among these nodes (or all) until nothing is on its way."""
        among = among or tuple(self.engines)
        for _ in range(rounds):
            self.tick(*among)
            if not self.carry(lambda letter: letter.source in among and letter.target in among):
                return

    def heartbeat(self, among: Sequence[str] = ()) -> None:
        self.pass_time(TIMING.heartbeat_s + 0.001)
        self.settle(among)

    # -- what tests begin with ----------------------------------------------------------------------------------------

    def elect(self, name: str, among: Sequence[str] = ()) -> Raft:
        """Has this node elected by these (or all)."""
        self.time_out(name)
        self.settle(among)
        assert self[name].is_leader
        return self[name]

    def propose(self, name: str, count: int = 1) -> int:
        """Appends records at a leader, without telling anybody yet."""
        index = 0
        for number in range(count):
            index = self[name].propose(Command(KIND_RECORD, NOW_MS, ledger.encoded(ledger.event(number))))
        return index

    def change(self, name: str, change: Callable[[Members], Members]) -> int:
        """Has a leader append a changed configuration, without telling anybody yet."""
        raft = self[name]
        members = change(raft.config.members)
        why_not = raft.why_no_change(members)
        assert why_not is None, why_not
        record = change_record(members, ledger.CLIENT, "a test", NOW_MS, os.urandom)
        return raft.change_members(Command(KIND_CONFIG, NOW_MS, encode(record)))

    def logs(self) -> list[list[int]]:
        return [engine.log() for engine in self.engines.values()]


@contextmanager
def cell(folder: Path, *names: str) -> Iterator[Cell]:
    made = Cell(folder, names or ("n1", "n2", "n3"))
    try:
        yield made
    finally:
        made.close()
