"""A renewal of a node's certificate that is interrupted anywhere leaves a pair that fits."""

from pathlib import Path

import pytest

from nodes.files import finish, staged

STEPS = ("key staged", "both staged", "key replaced", "both replaced")


@pytest.mark.parametrize("step", STEPS)
def test_an_interrupted_renewal_is_finished_or_forgotten_whole(tmp_path: Path, step: str) -> None:
    certificate, key = tmp_path / "node.pem", tmp_path / "node.key"
    certificate.write_text("old")
    key.write_text("old")
    reached = STEPS.index(step)
    staged(key).write_text("new")
    if reached >= 1:
        staged(certificate).write_text("new")
    if reached >= 2:
        staged(key).replace(key)
    if reached >= 3:
        staged(certificate).replace(certificate)
    finish(certificate, key)
    assert certificate.read_text() == key.read_text() == ("old" if reached == 0 else "new")
