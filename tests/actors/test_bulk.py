"""Many accounts at once: each has an outcome, and a batch that is given again does no harm."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from actors import usage
from actors.bulk import MOST_AT_ONCE, Wanted, add_accounts
from tests.actors.cell import ADMIN, example_cell

Run = Callable[[Any], Any]


def test_a_batch_is_one_record_and_may_be_given_again(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with example_cell(tmp_path) as cell:
            before = cell.position
            wanted = [Wanted(f"u{number}@example.test") for number in range(MOST_AT_ONCE)]
            found = await add_accounts(cell.directory, wanted, ADMIN)
            assert {one.outcome for one in found} == {"added"}
            assert cell.position == before + 1
            again = await add_accounts(cell.directory, [*wanted[:3], Wanted("new@example.test")], ADMIN)
            assert [one.outcome for one in again] == ["exists", "exists", "exists", "added"]
            with cell.log.snapshot() as snapshot:
                sums = snapshot.view(usage.usage_stream(cell.tenant("u0@example.test")))
                assert usage.used(sums) == usage.count(snapshot.view, cell.tenant("u0@example.test"))

    run(scenario())


def test_one_that_can_not_be_does_not_keep_the_others_out(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with example_cell(tmp_path) as cell:
            await cell.directory.add_alias("info@example.test", ["alice@example.test"], ADMIN)
            await cell.directory.tenants.set_quotas("example", {"accounts": 5}, (), None, ADMIN)
            names = ["a@example.test", "a@elsewhere.test", "info@example.test", "no address"]
            names += ["b@example.test", "c@example.test"]
            found = await add_accounts(cell.directory, [Wanted(name) for name in names], ADMIN)
            assert [one.outcome for one in found] == ["added", "refused", "refused", "refused", "added", "refused"]
            assert "as many accounts as it may" in found[-1].detail

    run(scenario())


def test_an_administrator_of_one_tenant_adds_accounts_to_no_other(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with example_cell(tmp_path) as cell:
            other = await cell.directory.add_tenant("other", ["other.test"], ADMIN)
            names = ("x@example.test", "x@other.test", "x@nowhere.test")
            found = await add_accounts(cell.directory, [Wanted(name) for name in names], ADMIN, other)
            assert [one.outcome for one in found] == ["refused", "added", "refused"]
            assert found[0].detail.replace("example", "nowhere") == found[2].detail

    run(scenario())
