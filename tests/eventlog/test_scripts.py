"""Golden scripts: each file's traces are what the engine does now. `pytest --rewrite-scripts` writes them anew."""

from pathlib import Path

import pytest

from tests.eventlog.script import ScriptError, parse, run

SCRIPTS = sorted(Path(__file__).with_name("scripts").glob("*.txt"))


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_the_engine_does_what_the_script_says(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    ran = run(path.read_text(), tmp_path, monkeypatch)
    if request.config.getoption("--rewrite-scripts"):
        path.write_text(ran)
    assert ran == path.read_text()


def test_a_script_without_traces_is_given_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = run("# one node\nnodes n1\ntick\n", tmp_path, monkeypatch)
    assert ran.startswith("# one node\nnodes n1\n----\nn1 follower term=0 ")
    assert "  n1 log + 1/1 noop\n" in ran
    assert [step.command for step in parse(ran)[0]] == ["nodes n1", "tick"]


def test_a_trace_that_is_not_what_the_engine_does_is_a_difference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = run("nodes n1\ntick\n", tmp_path / "right", monkeypatch)
    wrong = right.replace("term 0 -> 1", "term 0 -> 2")
    assert wrong != right
    assert run(wrong, tmp_path / "wrong", monkeypatch) == right


@pytest.mark.parametrize("command", ["deliver n1->n2", "propose n2 a", "restart n1", "dance", "tick n9", "drop"])
def test_a_command_that_can_not_be_is_an_error(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ScriptError):
        run(f"nodes n1 n2 n3\n{command}\n", tmp_path, monkeypatch)
