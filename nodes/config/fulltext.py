"""[fulltext]: whether a node keeps an index of the texts of its messages, and how soon what is new is in it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from nodes.config.values import Section


class FullTextSection(Section):
    """The full-text index: without it a search of texts reads every message (`mailraft search status`)."""

    index: bool = Field(
        default=True,
        description="Whether there is one, in the folder `fulltext` of node.data_dir; needs `mailraft[search]`.",
    )
    delay_s: Annotated[float, Field(ge=0, le=3600, allow_inf_nan=False)] = Field(
        default=30.0,
        description="How long new messages are gathered before they are indexed; until then searches read them.",
    )
    niceness: Annotated[int, Field(ge=0, le=19)] = Field(
        default=19,
        description="Of the process that indexes. At 19 it takes what nobody else wants, and falls behind where a node "
        "is never idle: searches then read more.",
    )
