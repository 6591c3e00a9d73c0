"""An answer of a node that could not ask a majority says so: also where it is that something is not there."""

from pathlib import Path
from typing import Any

import pytest

from chaos.cluster import free_base_port
from cli import layout
from eventlog.errors import OutcomeUnknown
from eventlog.log import EventLog
from tests.nodes.http.one_node import Run
from tests.nodes.http.test_once import Site, during, with_tenant

PRESENT, ABSENT = "/v1/accounts/postmaster@example.test", "/v1/accounts/nobody@example.test"


class Asker(Site):
    """A client that looks at the header."""

    def said(self, method: str, path: str) -> tuple[int, str | None]:
        (node,) = self._cluster.nodes
        connection = self._connect(node, 5.0)
        try:
            connection.request(method, path)
            answer = connection.getresponse()
            answer.read()
            return answer.status, answer.headers["Mailraft-Stale"]
        finally:
            connection.close()


def test_a_node_without_a_majority_marks_what_it_shows_and_what_it_does_not_find_and_changes_nothing(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = layout.create(tmp_path / "cell", 1, free_base_port(1))

    async def no_majority(*_: Any) -> int:
        raise OutcomeUnknown("no majority answered in time")

    def story(site: Site) -> None:
        with_tenant(site)
        asker = Asker(cell)
        assert (asker.said("GET", PRESENT), asker.said("GET", ABSENT)) == ((200, None), (404, None))
        with monkeypatch.context() as patch:
            patch.setattr(EventLog, "barrier", no_majority)
            assert (asker.said("GET", PRESENT), asker.said("GET", ABSENT)) == ((200, "1"), (404, "1"))
            assert asker.said("DELETE", ABSENT) == (503, None)

    during(run, cell, story)
