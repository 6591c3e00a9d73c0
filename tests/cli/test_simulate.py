"""`mailraft chaos simulate`: what it prints and how it exits."""

import json

from click.testing import CliRunner, Result

from cli.main import main


def simulate(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["chaos", "simulate", "--seconds", "2", "--jobs", "1", *arguments])


def test_clean_seeds_end_well() -> None:
    done = simulate("--seeds", "1,3")
    assert done.exit_code == 0, done.output
    assert "2 of 2 seeds kept every promise" in done.output


def test_a_departure_that_is_found_ends_well_and_says_what_broke() -> None:
    done = simulate("--seeds", "1..4", "--departure", "no-pre-vote", "--json")
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert report["failed"] > 0
    assert set(report["rules"]) == {"a healthy leader stays"}


def test_a_departure_that_no_seed_finds_is_a_failure() -> None:
    done = simulate("--seeds", "3", "--departure", "members-before-noop")
    assert done.exit_code == 1
    assert "no seed found members-before-noop" in done.output


def test_the_trace_of_one_seed_is_whole() -> None:
    done = simulate("--seeds", "3", "--trace")
    lines = [line for line in done.stdout.splitlines() if line.startswith(" ")]
    assert len(lines) == int(done.stdout.splitlines()[-1].split(" steps")[0])


def test_what_does_not_exist_is_named() -> None:
    for arguments in (["--without", "rain"], ["--departure", "hurry"], ["--seeds", "9..1"], ["--trace"]):
        done = simulate(*arguments)
        assert done.exit_code in (1, 2), done.output
        assert "one of" in done.output or "--seeds" in done.output
