"""A cell behind filters, and mail for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from actors.directory import account_of
from actors.mailbox import folder_by_name, messages
from nodes.filters import Filters
from nodes.record_json import record_json
from nodes.smtp.checks import Check
from tests.nodes.smtp.cell import Cell
from tests.nodes.smtp.dialogue import Dialogue

LETTER = b"From: a@remote.test\r\nSubject: hello\r\n\r\nHello.\r\n"
ALICE = "alice@example.test"


@contextmanager
def filtered(
    folder: Path,
    sections: Mapping[str, Any],
    *,
    dns: Mapping[str, Any] | None = None,
    before: Callable[[Cell], tuple[Check, ...]] = lambda _: (),
) -> Iterator[Cell]:
    """`sections` are tables of the configuration: filters, rspamd, clamav, milter. `before`: checks that come first."""
    folder.mkdir(parents=True, exist_ok=True)
    made: list[Filters] = []

    def checks(cell: Cell) -> tuple[Check, ...]:
        made.append(Filters(cell.config, cell.metrics, lambda _: "client.remote.test"))
        return (*before(cell), *made[0].checks)

    with Cell(folder, dns=dns, checks=checks, sections=sections) as cell:
        try:
            yield cell
        finally:
            cell.call(made[0].stop())


def send(cell: Cell, data: bytes = LETTER, *recipients: str, kind: str = "smtp", sender: str = "a@remote.test") -> str:
    """One message by a connection of its own; the reply to the first recipient that was refused, or to the message."""
    client = Dialogue(cell.port(kind), timeout_s=30)
    try:
        client.read()
        client.ask("LHLO client.test" if kind == "lmtp" else "EHLO client.test")
        refused = [reply for reply in client.begin(*(recipients or (ALICE,)), sender=sender) if reply[0] != "2"]
        return refused[0] if refused else client.transfer(data)
    finally:
        client.close()


def kept(cell: Cell, folder: str = "INBOX", address: str = ALICE) -> list[bytes]:
    """Each message of a folder as it is read, the newest last."""
    with cell.log.snapshot() as snapshot:
        target = account_of(snapshot, address)
        view = snapshot.view(target.account)
        found = folder_by_name(view, folder)
        assert found is not None
        listed = list(messages(view, found.id))
        return [one.trace + (snapshot.body(target.tenant, one.digest) or b"") for one in listed]


def found(cell: Cell) -> Any:
    """What the filters said of the newest message, as `log show` tells it."""
    with cell.log.snapshot() as snapshot:
        for position in range(snapshot.position, 0, -1):
            for event in record_json(snapshot, position).get("events", []):
                if event["type"] == "MessageDelivered":
                    return event["data"]["verdicts"]["filters"]
    return None


def counted(cell: Cell, name: str, outcome: str) -> float:
    """The metric of a filter's answers."""
    return (
        cell.metrics.registry.get_sample_value("mailraft_filter_answers_total", {"filter": name, "outcome": outcome})
        or 0.0
    )
