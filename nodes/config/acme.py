"""[acme]: what one node needs to order certificates; the account and the names are the cluster's."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from nodes.config.values import Patience, Section


class AcmeSection(Section):
    """Ordering certificates (RFC 8555). The node that leads orders; any of them may come to lead."""

    dns_hook: Path | None = Field(
        default=None,
        description="Program that puts a TXT record into DNS for DNS-01: called as `HOOK add NAME VALUE`, and "
        "`HOOK remove NAME VALUE` when it was looked at; it returns when the record can be seen.",
    )
    dns_hook_timeout_s: Patience = Field(default=300.0, description="How long the program may take.")
    ca: Path | None = Field(
        default=None,
        description="Authorities (PEM) that the ACME server's own certificate is checked against, instead of the "
        "system's: for one of your own.",
    )
