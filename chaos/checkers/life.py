"""One message in one mailbox, as a model: which folders hold it, with which flags.

The workload gives a message to a folder at most once, by delivery, APPEND, COPY or MOVE, so a folder holds it once or
not at all. The state is a frozenset of (folder, frozenset of flags). Copies take the flags along (RFC 3501 6.4.7), and
EXPUNGE removes what carries \\Deleted at that moment (RFC 3501 6.4.3).
"""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

DELETED = "\\Deleted"
Flags = frozenset[str]
State = frozenset[tuple[str, Flags]]


@dataclass(frozen=True)
class Life:
    """Operations: ("add", folder, flags), ("store", folder, mode, flags), ("copy" or "move", folder, target),
    ("expunge", folder), ("read",) gives the whole state, ("read", folder) gives (flags,) or (None,).

    A store, copy or move that succeeded tells that the message was there.
    """

    def initial(self) -> Hashable:
        return frozenset[tuple[str, Flags]]()

    def step(self, state: Any, asked: Any, result: Any) -> tuple[bool, Hashable]:
        held = dict(state)
        match asked:
            case ("read",):
                return result is None or result == state, state
            case ("read", folder):
                return result is None or result == (held.get(folder),), state
            case ("add", folder, flags):
                held[folder] = flags
            case ("expunge", folder):
                if DELETED in held.get(folder, ()):
                    del held[folder]
            case (_, folder, *_) if folder not in held:
                return result is None, state
            case ("store", folder, mode, flags):
                held[folder] = _stored(held[folder], mode, flags)
            case ("copy", folder, target):
                held[target] = held[folder]
            case ("move", folder, target):
                held[target] = held.pop(folder)
            case _:
                raise ValueError(f"not an operation on a message: {asked!r}")
        return True, frozenset(held.items())

    def is_read(self, asked: Any) -> bool:
        return bool(asked[0] == "read")

    def helps(self, asked: Any, read: Any, seen: Any) -> bool:
        return bool(asked[0] != "read")


def _stored(before: Flags, mode: str, flags: Flags) -> Flags:
    match mode:
        case "add":
            return before | flags
        case "remove":
            return before - flags
        case _:
            return flags
