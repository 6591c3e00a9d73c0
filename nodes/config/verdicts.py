"""The [verdicts] section: whose mail this node judges, and what a judgement may cost. What is then done with the mail
is the cell's policy and stands in the log (mailraft verdicts)."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from nodes.config.values import Section


class VerdictsSection(Section):
    """SPF, DKIM, ARC and DMARC of mail that arrives at the `smtp` listener."""

    RELOADS: ClassVar[bool | frozenset[str]] = True
    CLUSTER: ClassVar[frozenset[str]] = frozenset({"judge", "authserv_id", "timeout_s", "signatures"})

    judge: Literal["off", "remote", "always"] = Field(
        default="remote",
        description="Whose mail is judged: nobody's, that of clients on other machines, or everybody's. A client that "
        "has logged in is never judged.",
    )
    authserv_id: str = Field(
        default="",
        max_length=253,
        description="The name in Authentication-Results (RFC 8601 2.5), the same on every node; node.hostname if "
        "empty.",
    )
    timeout_s: float = Field(
        default=10.0,
        gt=0,
        le=60,
        description="How long the DNS may take for one message; what is open then is a temperror.",
    )
    signatures: int = Field(
        default=8, ge=1, le=50, description="DKIM signatures of one message that are verified, the topmost first."
    )
