"""What the tables of the configuration are made of: the base class and the types of their values.

A table with a topic of its own stands in nodes/config/<topic>.py, built on this; nodes/config/node.py names them all.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from nodes.addresses import split_address

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB
TIB = 1024 * GIB

_SIZE_UNITS = {"": 1, "b": 1, "kib": KIB, "mib": MIB, "gib": GIB, "tib": TIB}
_SIZE = re.compile(r"(\d+)\s*([a-z]*)", re.IGNORECASE)
_PASSED = re.compile(r"fd:[A-Za-z0-9._-]{1,64}")
_NAME = re.compile(r"[a-z][a-z0-9-]{0,31}")


def check_address(value: str) -> str:
    split_address(value)
    return value


def check_listen(value: str) -> str:
    if value.startswith("fd:"):
        if not _PASSED.fullmatch(value):
            raise ValueError("a socket that is passed is fd: and its name, as in fd:smtp")
        return value
    return check_address(value) if value else value


def check_name(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise ValueError("must be 1 to 32 lower-case letters, digits and dashes, beginning with a letter")
    return value


def parse_size(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    match = _SIZE.fullmatch(value.strip())
    if match is None or match[2].lower() not in _SIZE_UNITS:
        raise ValueError('must be a number of bytes, or a number with a unit, as in "50 MiB"')
    return int(match[1]) * _SIZE_UNITS[match[2].lower()]


def parse_peers(value: Any) -> Any:
    """Text (environment, --set) is `n1=127.0.0.1:20000,n2=...`; a TOML table passes unchanged."""
    if not isinstance(value, str):
        return value
    pairs = [part.partition("=") for part in value.split(",") if part.strip()]
    if any(not equals for _, equals, _ in pairs):
        raise ValueError("must be name=host:port, several of them separated by commas")
    return {name.strip(): address.strip() for name, _, address in pairs}


def parse_list(value: Any) -> Any:
    return [part.strip() for part in value.split(",")] if isinstance(value, str) else value


def check_range(value: tuple[int, int]) -> tuple[int, int]:
    if not 0 < value[0] < value[1]:
        raise ValueError("must be two numbers of milliseconds, the first above 0 and below the second")
    return value


Name = Annotated[str, AfterValidator(check_name)]
Address = Annotated[str, AfterValidator(check_address)]
Listen = Annotated[str, AfterValidator(check_listen)]
Size = Annotated[int, BeforeValidator(parse_size)]
# a bound stands in one place only: pydantic takes one of two bounds of a kind, and not always the narrower
Seconds = Annotated[float, Field(ge=0, le=7 * 86400, allow_inf_nan=False)]
Patience = Annotated[float, Field(gt=0, le=7 * 86400, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1, le=1_000_000)]


class Section(BaseModel):
    """A table of the file: frozen, and a key that it does not know is an error.

    RELOADS: the keys that a running node can be told anew (nodes/config/reloading.py); every one for True, but for
    RESTART. CLUSTER: those that can be set for the whole cell, in its log (actors/settings.py).
    """

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=False)
    RELOADS: ClassVar[bool | frozenset[str]] = False
    RESTART: ClassVar[frozenset[str]] = frozenset()
    CLUSTER: ClassVar[frozenset[str]] = frozenset()

    @classmethod
    def reloads(cls, key: str) -> bool:
        """Whether the node need not be started again for a change of this key."""
        return key not in cls.RESTART and (cls.RELOADS if isinstance(cls.RELOADS, bool) else key in cls.RELOADS)
