"""How much a worker may have under way, and which limits of the configuration its workers share out.

A limit of things that go on at one time (connections to a filter, questions to name servers) is a node's: each worker
has its part of it. What is counted over time, and connections of clients, are counted together (hub.py).
"""

from __future__ import annotations

from nodes.config.node import NodeConfig

IN_FLIGHT_BYTES = 32 * 1024 * 1024  # proposals of one worker that have no answer yet; others wait in the worker
MOST_AT_ONCE = 8 * 1024 * 1024  # of one proposal: that much more may be under way

SHARED_OUT = (
    ("dns", "questions"),
    ("filters", "held_bytes"),
    ("rspamd", "at_once"),
    ("clamav", "at_once"),
    ("milter", "connections"),
)


def share_of(config: NodeConfig) -> NodeConfig:
    """The configuration as one of its workers obeys it: parts are rounded up, so that each has one."""
    updates: dict[str, dict[str, int]] = {}
    for section, key in SHARED_OUT:
        whole = getattr(getattr(config, section), key)
        updates.setdefault(section, {})[key] = -(-whole // config.node.workers)
    sections = {name: getattr(config, name).model_copy(update=update) for name, update in updates.items()}
    return config.model_copy(update=sections)
