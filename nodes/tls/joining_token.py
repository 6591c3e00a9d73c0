"""The text with which a node joins a cell from a machine of its own: all that it must know to reach the cell, and to
know that it is the cell. Made by a node, read by `mailraft node join`."""

from __future__ import annotations

import base64
import binascii
import json
from typing import NamedTuple, Self

PREFIX = "mailraft-join-"


class JoiningToken(NamedTuple):
    """`authority`: certificates (PEM) of the cell's; `admin`: where its nodes take requests; the rest is the token."""

    cell: str
    authority: str
    admin: tuple[str, ...]
    name: str
    id: str
    secret: str

    def text(self) -> str:
        """One word."""
        document = json.dumps(self._asdict()).encode()
        return PREFIX + base64.urlsafe_b64encode(document).decode().rstrip("=")

    @classmethod
    def read(cls, text: str) -> Self:
        """Raises ValueError for what is none."""
        encoded = text.removeprefix(PREFIX)
        if encoded == text:
            raise ValueError("it does not begin like one")
        try:
            found = json.loads(base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)))
            admin = tuple(map(str, found["admin"]))
            return cls(**{name: str(found[name]) for name in cls._fields if name != "admin"}, admin=admin)
        except (binascii.Error, KeyError, TypeError) as error:
            raise ValueError("it is not whole") from error
