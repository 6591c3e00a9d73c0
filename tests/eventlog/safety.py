"""What must hold of engines that a script drives, whatever it does to them: looked at after each of its commands."""

from tests.eventlog.engines import Cell, Engine


class SafetyBroken(AssertionError):
    """Named by the property of figure 3 of the Raft paper that does not hold."""


class Safety:
    """Election safety, the votes behind each leader, and state-machine safety of one cell, over a whole script."""

    def __init__(self) -> None:
        self._committed: list[tuple[int, str]] = []  # the term of each entry, and who was first to know
        self._leaders: dict[int, str] = {}

    def __call__(self, cell: Cell) -> None:
        for engine in cell.engines.values():
            if engine.raft.is_leader and self._leaders.get(engine.raft.term) != engine.name:
                self._new_leader(cell, engine)
            self._commits(engine)

    def _new_leader(self, cell: Cell, leader: Engine) -> None:
        term, name = leader.raft.term, leader.name
        first = self._leaders.setdefault(term, name)
        if first != name:
            raise SafetyBroken(f"election safety: {first} and {name} lead in term {term}")
        voters = [cell.engines[member.name].journal for member in leader.raft.config.members if member.voter]
        votes = [log for log in voters if (log.getCurrentTerm(), log.getVotedForNodeId()) == (term, name)]
        later = [log for log in voters if log.getCurrentTerm() > term]  # may have voted for it before
        if len(votes) + len(later) <= len(voters) // 2:
            raise SafetyBroken(f"election safety: {name} leads in term {term} with {len(votes)} of {len(voters)} votes")

    def _commits(self, engine: Engine) -> None:
        for index in range(1, engine.raft.commit_index + 1):
            term = engine.journal.entry(index)[2]
            if index > len(self._committed):
                self._committed.append((term, engine.name))
            elif self._committed[index - 1][0] != term:
                both = f"{self._committed[index - 1][1]} and {engine.name}"
                raise SafetyBroken(f"state-machine safety: {both} committed different entries {index}")
