"""A node's own log lines: structlog, one line each, for people or as JSON, on standard error.

Libraries that use the standard library's logging come out the same way. Nothing that sounds like a
secret is written, whoever passes it. What is logged for a client's connection carries its id; a failure, its code.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Callable
from typing import Any, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from nodes.config.node import LogSection
from nodes.errors.registry import INTERNAL, kind_of
from nodes.trail import TRAIL

_SECRET = re.compile(r"password|passphrase|secret|token|credential|^(login_)?key$|initial_response", re.IGNORECASE)
_FAILURES = ("error", "exception", "critical")
_QUIET = {"aiohttp.access": logging.WARNING, "asyncio": logging.WARNING, "mail.log": logging.WARNING}


def configure(settings: LogSection, stream: TextIO = sys.stderr) -> None:
    """Sends all logging of this process to `stream` in the configured format."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        follow,
        classify,
        redact,
    ]
    render: list[Processor]
    if settings.format == "json":
        render = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(default=_plain)]
    else:
        colours = stream.isatty()
        # rich's own tracebacks would show local variables, passwords among them
        plain = structlog.dev.plain_traceback
        render = [structlog.dev.ConsoleRenderer(colors=colours, pad_event_to=0, exception_formatter=plain)]
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared, processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render]
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    level = getattr(logging, settings.level.upper())
    logging.basicConfig(handlers=[handler], level=level, force=True)
    for name, least in _QUIET.items():
        logging.getLogger(name).setLevel(max(least, level))
    logging.getLogger("aiohttp.server").addFilter(not_a_strangers_fault)
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )


def not_a_strangers_fault(record: logging.LogRecord) -> bool:
    """Leaves out what aiohttp says of a request that is no HTTP: it quotes the request, perhaps a token in it."""
    from aiohttp.http_exceptions import HttpProcessingError

    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


def logger(node: str) -> structlog.stdlib.BoundLogger:
    """The node's logger."""
    bound: structlog.stdlib.BoundLogger = structlog.get_logger("mailraft").bind(node=node)
    return bound


def _uncounted(_code: str) -> None:
    """Until there is somebody who counts."""


_count: Callable[[str], None] = _uncounted


def count_errors(count: Callable[[str], None]) -> None:
    """From now on each line of the level error or above is counted, by its code."""
    global _count
    _count = count


def follow(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Whose connection a line is about: its id, and what else is known of it."""
    trail = TRAIL.get()
    return event if trail is None else {**trail.facts(), **event}


def classify(_logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """A line with a code says how severe it is; a failure of ours has one always, and is counted."""
    failed = event.get("level", method) in _FAILURES
    if "code" not in event:
        if not failed:
            return event
        event["code"] = INTERNAL.code
    event["severity"] = kind_of(event["code"]).severity
    if failed:
        _count(event["code"])
    return event


def redact(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Hides the value of every fact whose name sounds like a secret."""
    for name in event:
        if _SECRET.search(name):
            event[name] = "(hidden)"
    return event


def _plain(value: Any) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)
