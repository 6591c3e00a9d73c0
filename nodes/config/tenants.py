"""[tenants]: front ends of this node that are for one tenant alone."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from nodes.config.values import Section

_TEXT = "The tenant whose accounts alone may log in at listen.{}; any, where none is named."


def _of(kind: str) -> str:
    text: str = Field(default="", max_length=63, description=_TEXT.format(kind))
    return text


class TenantsSection(Section):
    """Whose a front end is. Another tenant's account is refused there in the words of a wrong password."""

    RELOADS: ClassVar[bool | frozenset[str]] = True

    submission: str = _of("submission")
    submissions: str = _of("submissions")
    imap: str = _of("imap")
    imaps: str = _of("imaps")
    pop3: str = _of("pop3")
    pop3s: str = _of("pop3s")
