"""Golden scripts: commands over hand-carried engines, each followed by `----` and the full trace of what it did.

Engine, journal and store are the real ones. `deliver` changes a node in its open transaction only; `tick` makes that
durable and sends, as the writer does: so a crash that loses what is unsynced is an LMDB abort. Time moves with `tick`
alone. Format, after the tests of etcd's raft: comments and blank lines, a command, `----`, the trace, a blank line.

    nodes n1 n2 n3             begins; the other commands are:
    write n1 1 1 2 [in term 3] entries of these terms, as an earlier life of the node left them, which voted for nobody
    tick [n1] [300ms]          lets time pass, then ticks this node (or all once, in the order of their names)
    campaign n1                the election timeout of this node passes, and of no other
    propose n1 a               | read n1 | transfer n1->n2: asks a node for it; `tick` sends what it leads to
    n1 names                   the log begins to name the members, as the leader of a new cell sees to
    n1 adds n4                 | n1 promotes n4 | n1 removes n4: asks a leader to change the members
    join n4                    a node that is no member yet
    deliver n1->n2 [n]         the first n (or the last, or all) letters that wait on this link | deliver all
    drop n1->n2 [n]            | drop all | duplicate n1->n2: the same letters once more, at the end
    hold n1->n2 | release n1->n2     letters wait, whatever `deliver all` and `stabilize` do
    isolate n1 | heal          what goes from or to n1 is lost, and no connection notices
    pause n1 | resume n1       neither ticks nor receives
    crash n1 losing unsynced   at once | crash n1 losing unsent: after its commit, before it sends
    restart n1                 on what its disk holds
    stabilize [n1 n2]          ticks and delivers among these (or all) until nothing is left to do; no time passes
    log n1 | status            what a node holds, where all stand
    one entry a message        from here on
    quietly CMD; CMD; ...      any of these, without a trace
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from pysyncobj.node import Node

import eventlog.replication
from eventlog.journal import KIND_CONFIG, KIND_RECORD, Command
from eventlog.members import Members, added, change_record, promoted, removed
from eventlog.raft import ConsensusViolation, Raft
from eventlog.record import encode
from tests.eventlog import ledger
from tests.eventlog.engines import NOW_MS, TIMING, Cell, Engine, Letter
from tests.eventlog.trace import Seen, describe

NOTHING = "nothing happens"
MAX_ROUNDS = 100


class ScriptError(Exception):
    """A script asks for what can not be."""


Watch = Callable[[Cell], None]


def nobody(_: Cell) -> None:
    """Looks at nothing."""


class Step(NamedTuple):
    """A command with the comments and blank lines in front of it."""

    comments: tuple[str, ...]
    command: str


def parse(text: str) -> tuple[list[Step], tuple[str, ...]]:
    """The steps of a script without their traces, and the comments at its end. A new script needs no `----` yet."""
    steps: list[Step] = []
    comments: list[str] = []
    in_trace = False
    for line in text.splitlines():
        if in_trace:
            in_trace = bool(line)  # a blank line ends it
        elif line == "----":
            in_trace = True
        elif not line or line.startswith("#"):
            comments.append(line)
        else:
            steps.append(Step(tuple(comments), line))
            comments = []
    return steps, tuple(comments)


def run(
    text: str, folder: Path, monkeypatch: pytest.MonkeyPatch, raft_class: type[Raft] = Raft, watch: Watch = nobody
) -> str:
    """Runs a script and gives its text with the traces as they are now. Raises ScriptError.

    `watch` sees the cell after each command, and raises if it should not be so.
    """
    steps, comments = parse(text)
    lines: list[str] = []
    script = Script(folder, monkeypatch, raft_class, watch)
    try:
        for step in steps:
            comments = step.comments[1:] if lines and step.comments[:1] == ("",) else step.comments
            lines += [*comments, step.command, "----", *(script.run(step.command) or [NOTHING]), ""]
    finally:
        script.close()
    return "\n".join([*lines, *comments]).rstrip("\n") + "\n"


class Script:
    """A cell, and what a script has done to the links and nodes of it."""

    def __init__(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, raft_class: type[Raft] = Raft, watch: Watch = nobody
    ) -> None:
        self._folder = folder
        self._monkeypatch = monkeypatch
        self._cell: Cell | None = None
        self._held: set[str] = set()
        self._paused: set[str] = set()
        self._isolated: set[str] = set()
        self._down: set[str] = set()
        self._reads = 0
        self._raft_class = raft_class
        self._watch = watch

    def close(self) -> None:
        if self._cell is not None:
            self._cell.close()

    @property
    def cell(self) -> Cell:
        if self._cell is None:
            raise ScriptError("a script begins with nodes")
        return self._cell

    def run(self, command: str) -> list[str]:
        """Does what a command says; gives the lines of its trace."""
        if command.startswith("quietly "):
            for each in command.removeprefix("quietly ").split("; "):
                self.run(each)
            return ["ok"]
        for pattern, method in _COMMANDS.items():
            match = re.fullmatch(pattern, command)
            if match:
                lines = list(method(self, **match.groupdict()))
                self._watch(self.cell)
                return lines
        raise ScriptError(f"what does this mean: {command}")

    # -- nodes --------------------------------------------------------------------------------------------------------

    def _nodes(self, names: str) -> Iterator[str]:
        self._cell = Cell(self._folder, names.split(), self._raft_class)
        yield from self._status()

    def _engine(self, name: str) -> Engine:
        if name not in self.cell.engines:
            raise ScriptError(f"there is no {name}")
        return self.cell.engines[name]

    def _up(self, name: str) -> Engine:
        if name in self._down or name in self._paused:
            raise ScriptError(f"{name} is down or paused")
        return self._engine(name)

    def _running(self, names: str | None = None) -> list[str]:
        chosen = names.split() if names else list(self.cell.engines)
        return [name for name in chosen if self._engine(name) and name not in self._down | self._paused]

    def _write(self, name: str, terms: str, term: str | None) -> Iterator[str]:
        engine = self._up(name)

        def write() -> None:
            engine.write(*map(int, terms.split()), fact="")
            if term:
                engine.journal.setCurrentTerm(int(term), None)
                engine.store.commit()
            engine.raft.restart(self.cell.now)

        yield from self._act(name, write)

    def _status(self) -> Iterator[str]:
        for name, engine in self.cell.engines.items():
            yield f"{name} down" if name in self._down else f"{name} {Seen.of(engine)}"

    def _log(self, name: str) -> Iterator[str]:
        yield ", ".join(Seen.of(self._engine(name)).log) or "empty"

    def _one_entry(self) -> Iterator[str]:
        self._monkeypatch.setattr(eventlog.replication, "MAX_MESSAGE_BYTES", 1)
        yield "ok"

    # -- what a node does ---------------------------------------------------------------------------------------------

    def _act(self, name: str, act: Callable[[], object]) -> list[str]:
        """Has something done to a node: the lines say what that changed in it."""
        engine = self._engine(name)
        before = Seen.of(engine)
        stopped = []
        try:
            act()
        except ConsensusViolation as error:
            stopped = [f"  {name} stops: {error}"]
            self._take_down(name)
        changed = [f"  {name} {line}" for line in Seen.of(engine).changes(before)]
        return changed + stopped + self._reads_of(engine)

    def _reads_of(self, engine: Engine) -> list[str]:
        raft = engine.raft
        lines = [f"  {engine.name} serves {read.token.decode()} at {index}" for read, index in raft.reads_done]
        lines += [f"  {engine.name} fails {read.token.decode()}" for read in raft.reads_failed]
        raft.reads_done.clear()
        raft.reads_failed.clear()
        return lines

    def _tick(self, name: str | None, ms: str | None) -> Iterator[str]:
        self.cell.pass_time(int(ms or 0) / 1000)
        for each in [self._up(name).name] if name else self._running():
            yield from self._tick_one(each)

    def _tick_one(self, name: str) -> list[str]:
        posted = len(self.cell.mail)
        lines = self._act(name, lambda: self.cell.tick(name))
        lines += [f"  {describe(letter)}" for letter in self.cell.mail[posted:]]
        return [f"tick {name}", *lines] if lines else []

    def _campaign(self, name: str) -> Iterator[str]:
        self._up(name)
        for other, engine in self.cell.engines.items():
            engine.raft._SyncObj__raftElectionDeadline = self.cell.now + (0 if other == name else TIMING.election_max_s)
        yield from self._tick_one(name)

    def _propose(self, name: str, text: str) -> Iterator[str]:
        raft = self._up(name).raft
        if not raft.is_leader:
            raise ScriptError(f"{name} does not lead")
        command = Command(KIND_RECORD, NOW_MS, ledger.encoded(ledger.event(text)))
        yield from self._act(name, lambda: raft.propose(command))

    def _read(self, name: str) -> Iterator[str]:
        raft = self._up(name).raft
        self._reads += 1
        token = f"read {self._reads}"
        yield f"  {name} is asked for {token}"
        yield from self._act(name, lambda: raft.read("", token.encode()))

    def _transfer(self, source: str, target: str) -> Iterator[str]:
        raft = self._up(source).raft
        yield from self._act(source, lambda: raft.transferLeadership(Node(target)))

    # -- members ------------------------------------------------------------------------------------------------------

    def _join(self, name: str) -> Iterator[str]:
        self.cell.join(name)
        yield f"{name} {Seen.of(self._engine(name))}"

    def _change(self, name: str, change: Callable[[Members], Members]) -> Iterator[str]:
        raft = self._up(name).raft
        members = change(raft.config.members)
        reason = raft.why_no_change(members)
        if reason is not None:
            yield f"  {name} refuses: {reason.partition(':')[0]}"
            return
        record = change_record(members, ledger.CLIENT, "a script", NOW_MS, lambda count: bytes(count))
        yield from self._act(name, lambda: raft.change_members(Command(KIND_CONFIG, NOW_MS, encode(record))))

    def _names(self, name: str) -> Iterator[str]:
        yield from self._change(name, lambda members: members)

    def _adds(self, name: str, other: str) -> Iterator[str]:
        yield from self._change(name, lambda members: added(members, other, f"{other}.test:1"))

    def _promotes(self, name: str, other: str) -> Iterator[str]:
        yield from self._change(name, lambda members: promoted(members, other))

    def _removes(self, name: str, other: str) -> Iterator[str]:
        yield from self._change(name, lambda members: removed(members, other))

    # -- the post -----------------------------------------------------------------------------------------------------

    def _waiting(self, source: str, target: str, count: str | None) -> list[Letter]:
        found = [letter for letter in self.cell.mail if (letter.source, letter.target) == (source, target)]
        if not found:
            raise ScriptError(f"nothing waits on {source}->{target}")
        if count == "last":
            return found[-1:]
        return found[: int(count)] if count else found

    def _take(self, letters: list[Letter]) -> None:
        gone = {id(letter) for letter in letters}
        self.cell.mail = [letter for letter in self.cell.mail if id(letter) not in gone]

    def _deliver(self, source: str, target: str, count: str | None) -> Iterator[str]:
        for letter in self._waiting(source, target, count):
            yield from self._deliver_one(letter)

    def _deliver_all(self) -> Iterator[str]:
        yield from self._deliver_among(list(self.cell.engines))

    def _deliver_among(self, names: list[str]) -> Iterator[str]:
        for letter in list(self.cell.mail):
            if {letter.source, letter.target} <= set(names) and self._goes(letter):
                yield from self._deliver_one(letter)

    def _goes(self, letter: Letter) -> bool:
        return letter.target not in self._paused and f"{letter.source}->{letter.target}" not in self._held

    def _deliver_one(self, letter: Letter) -> list[str]:
        self._take([letter])
        if letter.target in self._down or {letter.source, letter.target} & self._isolated:
            return [f"lost {describe(letter)}"]
        return [f"{describe(letter)}", *self._act(letter.target, lambda: self.cell.deliver(letter))]

    def _drop(self, source: str, target: str, count: str | None) -> Iterator[str]:
        letters = self._waiting(source, target, count)
        self._take(letters)
        yield from (f"lost {describe(letter)}" for letter in letters)

    def _drop_all(self) -> Iterator[str]:
        letters, self.cell.mail = self.cell.mail, []
        yield from (f"lost {describe(letter)}" for letter in letters)

    def _duplicate(self, source: str, target: str) -> Iterator[str]:
        # a letter is known by its identity: the copies are tuples of their own
        copies = [letter._replace() for letter in self._waiting(source, target, None)]
        self.cell.mail += copies
        yield from (f"again {describe(letter)}" for letter in copies)

    def _stabilize(self, names: str | None) -> Iterator[str]:
        for _ in range(MAX_ROUNDS):
            lines = [line for name in self._running(names) for line in self._tick_one(name)]
            lines += self._deliver_among(names.split() if names else list(self.cell.engines))
            if not lines:
                return
            yield from lines
        raise ScriptError(f"no end after {MAX_ROUNDS} rounds")

    # -- faults -------------------------------------------------------------------------------------------------------

    def _hold(self, link: str) -> Iterator[str]:
        self._held.add(link)
        yield "ok"

    def _release(self, link: str) -> Iterator[str]:
        self._held.remove(link)
        yield "ok"

    def _pause(self, name: str) -> Iterator[str]:
        self._paused.add(self._up(name).name)
        yield "ok"

    def _resume(self, name: str) -> Iterator[str]:
        self._paused.remove(name)
        yield "ok"

    def _isolate(self, name: str) -> Iterator[str]:
        self._isolated.add(self._engine(name).name)
        yield "ok"

    def _heal(self) -> Iterator[str]:
        self._isolated.clear()
        yield "ok"

    def _crash(self, name: str, lost: str) -> Iterator[str]:
        engine = self._up(name)
        before = Seen.of(engine)
        if lost == "unsent":
            engine.store.commit()
        unsent = [Letter(name, peer, message) for peer, message in engine.raft.take_outbox()]
        yield from (f"never sent {describe(letter)}" for letter in unsent)
        self._take_down(name)
        yield f"{name} is down"
        yield from (f"  {name} {line}" for line in Seen.of(engine).changes(before))

    def _take_down(self, name: str) -> None:
        engine = self._engine(name)
        self._down.add(name)
        engine.start(self.cell.now)  # what its disk holds
        for other in self.cell.engines.values():
            if other is not engine:
                other.raft.disconnected(name)

    def _restart(self, name: str) -> Iterator[str]:
        if name not in self._down:
            raise ScriptError(f"{name} is not down")
        self._down.remove(name)
        self.cell.restart(name)
        yield f"{name} {Seen.of(self._engine(name))}"


_LINK = r"(?P<source>\w+)->(?P<target>\w+)"
_NAME = r"(?P<name>\w+)"
_COMMANDS: dict[str, Callable[..., Iterator[str]]] = {
    r"nodes (?P<names>.+)": Script._nodes,
    rf"write {_NAME} (?P<terms>\d+(?: \d+)*)(?: in term (?P<term>\d+))?": Script._write,
    r"one entry a message": Script._one_entry,
    r"status": Script._status,
    rf"log {_NAME}": Script._log,
    r"tick(?: (?P<name>[a-z]\w*))?(?: (?P<ms>\d+)ms)?": Script._tick,
    rf"campaign {_NAME}": Script._campaign,
    rf"propose {_NAME} (?P<text>.+)": Script._propose,
    rf"read {_NAME}": Script._read,
    rf"transfer {_LINK}": Script._transfer,
    r"deliver all": Script._deliver_all,
    rf"deliver {_LINK}(?: (?P<count>\d+|last))?": Script._deliver,
    r"drop all": Script._drop_all,
    rf"drop {_LINK}(?: (?P<count>\d+|last))?": Script._drop,
    rf"duplicate {_LINK}": Script._duplicate,
    r"stabilize(?: (?P<names>.+))?": Script._stabilize,
    r"hold (?P<link>\w+->\w+)": Script._hold,
    r"release (?P<link>\w+->\w+)": Script._release,
    rf"pause {_NAME}": Script._pause,
    rf"resume {_NAME}": Script._resume,
    rf"isolate {_NAME}": Script._isolate,
    r"heal": Script._heal,
    rf"crash {_NAME} losing (?P<lost>unsynced|unsent)": Script._crash,
    rf"restart {_NAME}": Script._restart,
    rf"join {_NAME}": Script._join,
    rf"{_NAME} names": Script._names,
    rf"{_NAME} adds (?P<other>\w+)": Script._adds,
    rf"{_NAME} promotes (?P<other>\w+)": Script._promotes,
    rf"{_NAME} removes (?P<other>\w+)": Script._removes,
}
