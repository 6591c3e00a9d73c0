"""How schemathesis writes bodies of kinds that it does not know: lines of JSON, one of them, and mail messages."""

import json
from typing import Any

import schemathesis


@schemathesis.serializer("application/x-ndjson", "application/jsonl")
def line(_context: Any, value: Any) -> bytes:
    """One line."""
    return json.dumps(value).encode()


@schemathesis.serializer("message/rfc822")
def message(_context: Any, value: Any) -> bytes:
    """Whatever bytes it makes."""
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")
