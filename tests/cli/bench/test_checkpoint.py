"""`bench checkpoint`: a node that runs is asked for its database as a new node asks for it, and the rate is told."""

from cli.bench.checkpoint import MIB, bench_checkpoint


def test_a_checkpoint_of_the_wanted_size_is_fetched_and_its_rate_told() -> None:
    said: list[str] = []
    rate, cost = bench_checkpoint(20 * MIB, said.append)
    assert (rate.unit, rate.higher_is_better) == ("MiB/s", True)
    assert (cost.unit, cost.higher_is_better) == ("ms/MiB", False)
    assert rate.value > 0
    assert cost.value > 0
    assert int(rate.note.split(" MiB")[0].split()[-1]) >= 20
    assert said == ["a database of 20 MiB", "a checkpoint of it"]
