"""A maildrop: INBOX as it was at log-in, numbered from 1 (RFC 1939 3), with the session's own marks for deletion.

It is a list in memory, so what others deliver or expunge meanwhile does not move a number. Nothing is removed here:
`marked` is what QUIT asks to be removed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple


class Entry(NamedTuple):
    """One message; `size` and what is sent are trace lines and body together."""

    uid: int
    id: bytes
    digest: bytes
    size: int
    trace: bytes


class NoSuchEntry(Exception):
    """No message has this number, or it is marked as deleted."""


class Maildrop:
    """The messages of one session, in UID order."""

    def __init__(
        self,
        tenant: bytes,
        account: bytes,
        folder_id: bytes,
        entries: list[Entry],
        as_of: str | None = None,
        read_only: str | None = None,
    ) -> None:
        self.as_of = as_of  # the moment that it shows, where that is not now: nothing can then be marked
        self.read_only = read_only  # why nothing can be marked, where nothing can
        self.tenant = tenant
        self.account = account
        self.folder_id = folder_id
        self._entries = entries
        self._marked: set[int] = set()
        self._octets = sum(entry.size for entry in entries)
        self._marked_octets = 0

    def entry(self, number: int) -> Entry:
        """Raises NoSuchEntry."""
        if not 1 <= number <= len(self._entries) or number in self._marked:
            raise NoSuchEntry(number)
        return self._entries[number - 1]

    def present(self) -> Iterator[tuple[int, Entry]]:
        """Number and message of all that are not marked."""
        return ((number, entry) for number, entry in enumerate(self._entries, 1) if number not in self._marked)

    def total(self) -> tuple[int, int]:
        """Messages and octets that are not marked."""
        return len(self._entries) - len(self._marked), self._octets - self._marked_octets

    def mark(self, number: int) -> None:
        """DELE. Raises NoSuchEntry."""
        self._marked_octets += self.entry(number).size
        self._marked.add(number)

    def unmark_all(self) -> None:
        """RSET."""
        self._marked.clear()
        self._marked_octets = 0

    def marked(self) -> tuple[int, ...]:
        """The UIDs of marked messages."""
        return tuple(self._entries[number - 1].uid for number in sorted(self._marked))


def unique_id(entry: Entry) -> str:
    """A function of the message alone, whatever else comes or goes: at most 43 characters of 0x21 to 0x7E.

    Copies of a message have its id, so the UID is added, which INBOX never gives twice; and an account that is made
    anew gives other ids.
    """
    return f"{entry.id.hex()}-{entry.uid}"
