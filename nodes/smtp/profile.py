"""What sets the four SMTP listeners apart, as data."""

from __future__ import annotations

from typing import NamedTuple

from nodes.config.node import ListenerKind


class Profile(NamedTuple):
    """One kind of listener. `submits`: its clients are our users, who authenticate and may send anywhere."""

    kind: ListenerKind
    lmtp: bool = False
    submits: bool = False
    implicit_tls: bool = False


PROFILES: dict[str, Profile] = {
    "smtp": Profile("smtp"),
    "submission": Profile("submission", submits=True),
    "submissions": Profile("submissions", submits=True, implicit_tls=True),
    "lmtp": Profile("lmtp", lmtp=True),
}
