"""Domains that nobody is given by a slip: everybody's, and those below another tenant's."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from actors.directory import tenant_named
from actors.errors import NotAllowed
from nodes.tenants.new_domains import require_sound
from tests.nodes.smtp.cell import Cell


@pytest.fixture(scope="module")
def cell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cell]:
    with Cell(tmp_path_factory.mktemp("cell")) as started:
        yield started


@pytest.mark.parametrize(
    ("domain", "why"),
    [
        ("co.uk", "public suffix"),
        ("COM", "public suffix"),
        ("github.io", "public suffix"),
        ("localhost", "every machine"),
        ("mail.localhost", "every machine"),
        ("localhost.localdomain", "every machine"),
        ("192.0.2.1", "network address"),
        ("[192.0.2.1]", "network address"),
        ("[IPv6:2001:db8::1]", "network address"),
        ("sub.example.test", "stands below example.test, which another tenant has"),
        ("a.b.Example.Test", "stands below example.test, which another tenant has"),
    ],
)
def test_a_domain_that_is_everybodys_or_below_anothers_is_refused_with_the_reason(
    cell: Cell, domain: str, why: str
) -> None:
    with pytest.raises(NotAllowed, match=why.replace("[", r"\[")):
        cell.call(require_sound(cell.log, (domain,), None))


@pytest.mark.parametrize(
    "domain", ["test", "other.test", "example.co.uk", "anexample.test", "intranet", "4u.example.com"]
)
def test_a_domain_of_ones_own_is_not(cell: Cell, domain: str) -> None:
    cell.call(require_sound(cell.log, (domain,), None))


def test_a_tenant_may_have_what_stands_below_its_own_domain(cell: Cell) -> None:
    with cell.log.snapshot() as snapshot:
        example = tenant_named(snapshot, "example")
    cell.call(require_sound(cell.log, ("sub.example.test",), example))
