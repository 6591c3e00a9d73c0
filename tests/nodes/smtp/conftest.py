"""A cell for each module, and raw dialogues with its listeners."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.nodes.smtp.cell import Cell
from tests.nodes.smtp.dialogue import Dialogue


@pytest.fixture(scope="module")
def cell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cell]:
    """A node with default limits, but for floods of commands; it takes passwords in clear from this machine."""
    with Cell(tmp_path_factory.mktemp("cell"), sections={"smtp": {"idle_commands": 1_000_000}}) as started:
        yield started


@pytest.fixture
def talk(cell: Cell) -> Iterator[Callable[..., Dialogue]]:
    """Opens raw connections to the cell, and closes them."""
    opened: list[Dialogue] = []

    def connect(kind: str = "smtp", *, greet: bool = True) -> Dialogue:
        dialogue = Dialogue(cell.port(kind))
        opened.append(dialogue)
        dialogue.read()
        if greet:
            dialogue.ask("LHLO client.test" if kind == "lmtp" else "EHLO client.test")
        return dialogue

    yield connect
    for dialogue in opened:
        dialogue.close()


@pytest.fixture
def small_cell(tmp_path: Path) -> Iterator[Cell]:
    """A node with tight limits that takes no password in clear."""
    limits = {
        "message_bytes": 64 * 1024,
        "smtp_line_bytes": 1000,
        "smtp_idle_s": 0.6,
        "errors": 3,
        "connections_per_address": 4,
        "auth_failures": 2,
    }
    with Cell(tmp_path, limits, plaintext="never") as started:
        yield started
