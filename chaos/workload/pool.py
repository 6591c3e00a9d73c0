"""Sessions that wait for their next use, by what they are open for; each has a name of its own in the history."""

import asyncio
from collections import defaultdict
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar


class Connection(Protocol):
    """What a pool must know of a session."""

    reader: asyncio.StreamReader
    usable: bool

    def close(self) -> None: ...


C = TypeVar("C", bound=Connection)


@dataclass
class Named(Generic[C]):
    """A session and the name under which the history knows it."""

    name: str
    connection: C


@dataclass
class Pool(Generic[C]):
    """Gives back what was given to it, while it is still open."""

    protocol: str
    _idle: dict[Hashable, list[Named[C]]] = field(default_factory=lambda: defaultdict(list))
    _opened: int = 0

    def take(self, key: Hashable) -> Named[C] | None:
        """An open session for `key`, None if there is none: then open one and `name` it."""
        while self._idle[key]:
            found = self._idle[key].pop()
            if found.connection.usable and not found.connection.reader.at_eof():
                return found
            found.connection.close()
        return None

    def name(self, node: str, connection: C) -> Named[C]:
        self._opened += 1
        return Named(f"{self.protocol}-{node}-{self._opened}", connection)

    def give(self, key: Hashable, session: Named[C]) -> None:
        """Back after use; one that broke is closed."""
        if session.connection.usable:
            self._idle[key].append(session)
        else:
            session.connection.close()

    def close(self) -> None:
        for sessions in self._idle.values():
            for session in sessions:
                session.connection.close()
        self._idle.clear()
