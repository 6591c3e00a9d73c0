"""[tracing]: whether a node tells an OpenTelemetry collector what it does, and where that is."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from nodes.config.values import Patience, Section

MISSING = "needs OpenTelemetry, which is not installed: pip install 'mailraft[tracing]'"
_URL = re.compile(r"https?://[^\s/?#]+(/\S*)?")


def _check_url(value: str) -> str:
    if not _URL.fullmatch(value):
        raise ValueError('must be the URL of a collector, as in "http://127.0.0.1:4318/v1/traces"')
    return value


def is_installed() -> bool:
    """Whether what spans are made and sent with is there."""
    try:
        return importlib.util.find_spec("opentelemetry.exporter.otlp.proto.http.trace_exporter") is not None
    except ModuleNotFoundError:
        return False


class TracingSection(Section):
    """Spans of connections, commands, records and attempts to deliver, sent to a collector by OTLP over HTTP."""

    enabled: bool = Field(default=False, description="Whether spans are made; needs `mailraft[tracing]`.")
    endpoint: Annotated[str, AfterValidator(_check_url)] = Field(
        default="http://127.0.0.1:4318/v1/traces", description="Where the collector takes them."
    )
    ca: Path | None = Field(
        default=None, description="Authorities (PEM) that an https endpoint is checked against instead of the system's."
    )
    sample: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = Field(
        default=1.0,
        description="The share of connections that is traced; with a message that one brought, so are its deliveries.",
    )
    timeout_s: Patience = Field(default=10.0, description="How long the collector may take for a batch.")
