"""[http]: how much a node does at a time for those who use its admin API."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from nodes.config.values import Patience, Section

Many = Annotated[int, Field(ge=1, le=100_000)]


class HttpSection(Section):
    """The admin API's door. Who shows a certificate of the cell (administrators, nodes) has a reserve of their own."""

    RELOADS: ClassVar[bool | frozenset[str]] = True

    connections: Many = Field(
        default=1024, description="Open connections of all who show no certificate of the cell; more are closed."
    )
    requests: Many = Field(default=128, description="Requests in work at a time; more are answered with 503.")
    requests_per_address: Many = Field(
        default=48, description="Those of one network address (IPv6: /64), without such a certificate; then 429."
    )
    reserved_requests: Many = Field(
        default=16, description="More, for who shows such a certificate: a flood by others does not lock them out."
    )
    wrong_tokens: Many = Field(
        default=20,
        description="Wrong tokens of one network address that are looked at; then none for a while (429).",
    )
    wrong_token_s: Patience = Field(default=3.0, description="After which time one more is.")
