"""A cell for each module, with a mailbox to read."""

from collections.abc import Callable, Iterator

import pytest

from tests.nodes.smtp.cell import ADMIN, Cell
from tests.nodes.smtp.dialogue import Dialogue


@pytest.fixture(scope="module")
def cell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cell]:
    """A node with default limits, which takes passwords in clear from this machine."""
    with Cell(tmp_path_factory.mktemp("cell")) as started:
        yield started


_numbers = iter(range(1000))


@pytest.fixture
def user(cell: Cell) -> str:
    """A new account with the password `pw of it`."""
    address = f"user{next(_numbers)}@example.test"
    cell.call(cell.directory.add_account(address, "pw of it", None, ADMIN))
    return address


@pytest.fixture
def deliver(cell: Cell, user: str) -> Callable[[bytes], None]:
    """Sends the user a message over SMTP."""

    def send(body: bytes) -> None:
        client = Dialogue(cell.port("smtp"))
        client.read()
        client.ask("EHLO client.test")
        client.begin(user)
        assert client.transfer(body.replace(b"\r\n.", b"\r\n..")).startswith("250")
        client.close()

    return send


@pytest.fixture
def talk(cell: Cell) -> Iterator[Callable[..., Dialogue]]:
    """Opens raw POP3 connections, logged in if a user is given."""
    opened: list[Dialogue] = []

    def connect(login: str = "") -> Dialogue:
        dialogue = Dialogue(cell.port("pop3"))
        opened.append(dialogue)
        assert dialogue.line() == b"+OK mailraft POP3 ready\r\n"
        if login:
            dialogue.send(f"USER {login}\r\nPASS pw of it\r\n".encode())
            assert dialogue.line() == b"+OK Send PASS\r\n"
            assert dialogue.line().startswith(b"+OK ")
        return dialogue

    yield connect
    for dialogue in opened:
        dialogue.close()
