"""`bench restore`: a log of deliveries is restored both ways, and the rates are told beside that of a plain copy."""

from cli.bench.restore_rates import MIB, bench_restore


def test_a_restore_is_measured_beside_a_plain_copy_of_the_same_database() -> None:
    rows = {row.name: row for row in bench_restore(2 * MIB, 4096, lambda _: None)}
    assert {row.unit for row in rows.values()} == {"MiB/s", "ms/MiB", "x"}
    assert all(row.value > 0 for row in rows.values())
    assert {"plain copy of the database", "restore, folded from zero", "restore, tables kept"} < rows.keys()
