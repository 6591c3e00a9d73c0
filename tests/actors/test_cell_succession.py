"""Another authority for the cell: each step waits for every member, and is the same asked for again."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from actors import cell_authority, cell_succession
from actors.cell_authority import AUTHORITY, CellAuthorityStored
from actors.cell_succession import NameSuccessor, PromoteSuccessor, RetireFormer, TellStanding, fingerprint
from actors.errors import NotAllowed
from eventlog.record import By, Stamp
from eventlog.views import DictView

MEMBERS = ("n1", "n2")


def pem(text: str) -> str:
    return f"-----BEGIN CERTIFICATE-----\n{base64.b64encode(text.encode()).decode()}\n-----END CERTIFICATE-----\n"


OLD, NEW, OTHER = pem("old"), pem("new"), pem("other")


class Cell:
    def __init__(self) -> None:
        self.view = DictView(AUTHORITY)
        stamp = Stamp(1, 1000, 1, b"", By("admin", b"", ""), "", 3)
        self._stamp = stamp
        cell_authority.evolve(self.view, CellAuthorityStored(OLD, b"sealed old"), stamp)

    def do(self, command: Any) -> int:
        facts = cell_succession.decide(self.view, command)
        for fact in facts:
            cell_succession.evolve(self.view, fact, self._stamp)
        return len(facts)

    def tell(self, node: str, trusted: tuple[str, ...], issuer: str) -> int:
        return self.do(TellStanding(node, tuple(map(fingerprint, trusted)), fingerprint(issuer)))


def test_an_authority_takes_the_place_of_another_step_by_step() -> None:
    cell = Cell()
    assert cell.do(NameSuccessor(NEW, b"sealed new")) == 1
    assert cell.do(NameSuccessor(NEW, b"sealed again")) == 0
    assert cell_succession.trusted(cell.view) == [OLD, NEW]
    cell.tell("n1", (OLD, NEW), OLD)
    with pytest.raises(NotAllowed, match="not trusted yet by n2"):
        cell.do(PromoteSuccessor(MEMBERS))
    cell.tell("n2", (OLD, NEW), OLD)
    assert cell.tell("n2", (OLD, NEW), OLD) == 0
    assert cell.do(PromoteSuccessor(MEMBERS)) == 1
    assert cell.do(PromoteSuccessor(MEMBERS)) == 0
    assert cell_authority.authority(cell.view) == (NEW, b"sealed new")
    assert cell_succession.trusted(cell.view) == [NEW, OLD]
    cell.tell("n1", (NEW, OLD), NEW)
    with pytest.raises(NotAllowed, match="still shown by n2"):
        cell.do(RetireFormer(MEMBERS))
    cell.tell("n2", (NEW, OLD), NEW)
    assert cell.do(RetireFormer(MEMBERS)) == 1
    assert cell.do(RetireFormer(MEMBERS)) == 0
    assert cell_succession.trusted(cell.view) == [NEW]
    assert cell_succession.standings(cell.view) == {}


def test_nothing_takes_the_place_of_one_that_took_it_while_the_one_before_is_trusted() -> None:
    cell = Cell()
    cell.do(NameSuccessor(NEW, b"sealed new"))
    cell.tell("n1", (OLD, NEW), OLD)
    cell.do(PromoteSuccessor(("n1",)))
    with pytest.raises(NotAllowed, match="still trusted"):
        cell.do(NameSuccessor(OTHER, b"sealed other"))


def test_one_that_is_named_instead_has_to_be_trusted_anew() -> None:
    cell = Cell()
    cell.do(NameSuccessor(NEW, b"sealed new"))
    cell.tell("n1", (OLD, NEW), OLD)
    assert cell.do(NameSuccessor(OTHER, b"sealed other")) == 1
    with pytest.raises(NotAllowed, match="not trusted yet by n1"):
        cell.do(PromoteSuccessor(("n1",)))


def test_without_an_authority_in_the_log_none_is_named() -> None:
    with pytest.raises(NotAllowed, match="is not in its log"):
        cell_succession.decide(DictView(AUTHORITY), NameSuccessor(NEW, b""))
