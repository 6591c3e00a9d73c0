"""A stage for one actor: its commands decided and their events folded, without a log, over any kind of view.

Each command is one record at a position of its own. Events pass through the codec, as they would on the log, and are
kept, so that a test can fold them again and compare.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from actors.kind import Command, Fact, encode
from actors.registry import fold_event, kind_of
from eventlog import levels
from eventlog.overlay import Overlay, OverlayView
from eventlog.record import NO_TENANT, By, Event, Guard, Stamp
from eventlog.store import Store
from eventlog.views import DictView, RecordingView, View

START_MS = 1_790_000_000_000
TENANT = b"t" * 16
ACCOUNT = b"a" * 16
_BY = By("client", b"", "test 127.0.0.1:1")

Refold = Callable[[list[tuple[Stamp, Event]]], dict[bytes, Any]]


class Tables(Protocol):
    """Where one stream's rows are kept."""

    def read(self) -> View: ...

    def fold(self, event: Event, stamp: Stamp) -> tuple[Fact, Any]: ...

    def close(self) -> None: ...


class DictTables:
    """Rows in memory, as in time travel."""

    def __init__(self, stream: bytes) -> None:
        self.view = DictView(stream)

    def read(self) -> View:
        return self.view

    def fold(self, event: Event, stamp: Stamp) -> tuple[Fact, Any]:
        return fold_event(self.view.at(stamp.position), event, stamp)

    def close(self) -> None:
        pass


class LmdbTables:
    """Rows in a node's own tables: written through the fold's overlay, read in snapshots."""

    def __init__(self, stream: bytes) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="mailraft-tables-")
        self._store = Store(Path(self._folder.name), 64 << 20, durable=False)
        self._overlay = Overlay(self._store)
        self._stream = stream

    def read(self) -> View:
        return self._store.snapshot().view(self._stream)

    def fold(self, event: Event, stamp: Stamp) -> tuple[Fact, Any]:
        folded = fold_event(OverlayView(self._overlay, self._stream, stamp.position), event, stamp)
        self._overlay.commit_record()
        self._overlay.flush()
        self._store.commit()
        return folded

    def close(self) -> None:
        self._store.close()
        self._folder.cleanup()


class Stage:
    """One stream and its history. `at_ms` is log time and may be moved on by a test."""

    def __init__(self, tables: Tables, stream: bytes = ACCOUNT) -> None:
        self.tables = tables
        self.stream = stream
        self.at_ms = START_MS
        self.position = 0
        self.level = levels.NEWEST
        self.history: list[tuple[Stamp, Event]] = []
        self.guards: tuple[Guard, ...] = ()

    @property
    def view(self) -> View:
        return self.tables.read()

    def decide(self, command: Command) -> tuple[Fact, ...]:
        """What the command would do now; the guards that it takes are kept for the test to see."""
        recording = RecordingView(self.view)
        facts = kind_of(command).decide(recording, command)
        self.guards = recording.guards
        return facts

    def fold(self, *facts: Fact) -> list[Any]:
        """Fold facts as one record, whether or not anybody would still decide them; gives their results."""
        self.position += 1
        stamp = Stamp(self.position, self.at_ms, 1, bytes(16), _BY, "test", self.level)
        results = []
        for fact in facts:
            event = Event(NO_TENANT, self.stream, fact.TYPE, fact.VERSION, encode(fact), bytes(16))
            self.history.append((stamp, event))
            results.append(self.tables.fold(event, stamp)[1])
        return results

    def do(self, command: Command) -> list[Any]:
        """Decide and fold; the results of its events, flattened where they are lists of changes."""
        results = self.fold(*self.decide(command))
        return [one for result in results for one in (result if isinstance(result, list) else [result])]

    def rows(self) -> dict[bytes, Any]:
        """Every row with its version."""
        view = self.view
        return {key: (view.version(key), value) for key, value in view.range(b"") if key}

    def refolded_rows(self) -> dict[bytes, Any]:
        """The rows that the same history gives from nothing, in memory."""
        view = DictView(self.stream)
        for stamp, event in self.history:
            fold_event(view.at(stamp.position), event, stamp)
        return dict(view.rows())
