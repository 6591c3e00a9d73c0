"""A fault is noted when it begins and ends, and is undone in every case; every scenario names faults that are."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from chaos.cluster import Cluster
from chaos.faults.kinds import FAULTS, Done, fault
from chaos.history import History
from chaos.scenarios import SCENARIOS
from chaos.site import Settings, Site


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """One whose cluster is never started."""
    settings = Settings(seed=1, duration_s=1.0, folder=tmp_path)
    return Site(settings, Cluster(tmp_path), History())


@pytest.fixture
def undone() -> list[str]:
    return []


@pytest.fixture(autouse=True)
def _forget_test_faults() -> Iterator[None]:
    known = dict(FAULTS)
    yield
    FAULTS.clear()
    FAULTS.update(known)


def test_a_fault_is_a_band_of_the_history_with_its_nodes(site: Site) -> None:
    @fault("test", "for a test")
    async def harm(_site: Site, *nodes: str) -> AsyncIterator[Done]:
        yield Done(nodes, "badly")

    asyncio.run(site.endure(harm(site, "n1", "n3")))
    (band,) = site.history.bands
    assert (band.fault, band.node, band.detail) == ("test", "n1 n3", "badly")
    assert band.ended_s is not None
    assert band.ended_s >= band.began_s


def test_a_fault_is_undone_when_what_stands_inside_fails(site: Site, undone: list[str]) -> None:
    @fault("test", "for a test")
    async def harm(_site: Site) -> AsyncIterator[Done]:
        try:
            yield Done(())
        finally:
            undone.append("yes")

    async def fail() -> None:
        async with harm(site):
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        asyncio.run(fail())
    assert undone == ["yes"]


def test_a_fault_is_undone_when_the_run_is_interrupted(site: Site, undone: list[str]) -> None:
    @fault("test", "for a test")
    async def harm(_site: Site) -> AsyncIterator[Done]:
        try:
            yield Done(())
        finally:
            undone.append("yes")

    async def interrupt() -> None:
        task = asyncio.create_task(site.endure(harm(site), 60.0))
        await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.wait({task})

    asyncio.run(interrupt())
    assert undone == ["yes"]


def test_there_are_as_many_faults_and_scenarios_as_are_promised() -> None:
    assert len(FAULTS) >= 16
    assert len(SCENARIOS) >= 10


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_scenario_names_faults_that_are(name: str) -> None:
    assert SCENARIOS[name].faults
    assert set(SCENARIOS[name].faults) <= set(FAULTS)


def test_a_seed_gives_the_same_choice_of_nodes(tmp_path: Path) -> None:
    def choices(seed: int) -> list[list[str]]:
        site = Site(Settings(seed, 1.0, tmp_path), Cluster(tmp_path), History())
        return [site.pick(["n1", "n2", "n3"]) for _ in range(20)]

    assert choices(7) == choices(7)
    assert choices(7) != choices(8)
