"""`dataclass` for commands and facts that are made with each message: frozen for the type checker, plain underneath.

A frozen dataclass sets every field through `object.__setattr__`: the 14 fields of a delivery took 1.04 us in place of
0.12, and four are made a message (docs/ADR/0028). mypy, which checks everything here, refuses any assignment to them.
"""

import dataclasses
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass
else:

    def dataclass(*, frozen, slots):
        """`dataclasses.dataclass`: equality, hash and slots as of a frozen one."""
        return dataclasses.dataclass(slots=slots, unsafe_hash=frozen)
