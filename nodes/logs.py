"""A node's own log lines: structlog, one line each, for people or as JSON, on standard error.

Libraries that use the standard library's logging come out the same way. Nothing that sounds like a
secret is written, whoever passes it.
"""

from __future__ import annotations

import logging
import re
import sys
from typing import Any, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from nodes.config.node import LogSection

_SECRET = re.compile(r"password|passphrase|secret|token|credential|^(login_)?key$|initial_response", re.IGNORECASE)
_QUIET = {"aiohttp.access": logging.WARNING, "asyncio": logging.WARNING, "mail.log": logging.WARNING}


def configure(settings: LogSection, stream: TextIO = sys.stderr) -> None:
    """Sends all logging of this process to `stream` in the configured format."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
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
    """The node's logger; front ends bind `session` to it, which then stands in each line of that session."""
    bound: structlog.stdlib.BoundLogger = structlog.get_logger("mailraft").bind(node=node)
    return bound


def redact(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Hides the value of every fact whose name sounds like a secret."""
    for name in event:
        if _SECRET.search(name):
            event[name] = "(hidden)"
    return event


def _plain(value: Any) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)
