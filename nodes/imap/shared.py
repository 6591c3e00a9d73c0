"""What the sessions of one listener have in common."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nodes.imap.constants import Texts
from nodes.imap.scans import Scans
from nodes.imap.selected import RecentMarks
from nodes.imap.structures import StructureCache

if TYPE_CHECKING:
    from nodes.config.node import ListenerKind
    from nodes.imap.session import Session
    from nodes.services import Services

Handler = Callable[["Session", Any], Awaitable[str]]


@dataclass
class Held:
    """Bytes of commands that are still arriving, all sessions of a listener together."""

    bytes: int = 0


@dataclass(frozen=True)
class Shared:
    """What the sessions of one listener have in common."""

    services: Services
    kind: ListenerKind
    marks: RecentMarks
    structures: StructureCache
    scans: Scans
    texts: Texts
    handlers: dict[type, Handler]
    held: Held
