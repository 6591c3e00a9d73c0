"""[heads]: how often a node signs the head of its log, and how many it keeps."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from nodes.config.values import Count, Section


class HeadsSection(Section):
    """Signed heads of the log: what a later log can be compared with (`mailraft log verify --anchor`)."""

    RELOADS: ClassVar[bool | frozenset[str]] = True

    every_s: Annotated[float, Field(ge=1, le=7 * 86400, allow_inf_nan=False)] = Field(
        default=3600.0, description="How often the head is signed, if it has moved; also when the node stops."
    )
    keep: Count = Field(
        default=1000, description="How many are kept in the folder `heads` of node.data_dir; the oldest go first."
    )
