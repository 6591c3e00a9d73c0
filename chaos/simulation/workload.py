"""Clients at every node: opaque records, commands to the actors, reads. What they do is drawn, what they get is not.

Commands go through the production runtime (decide on the node's snapshot, guards of what was read, propose, decide
again) and directory; a client looks at its node's tables to choose, as a front end does.
"""

from __future__ import annotations

import random
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from actors import mailbox, tenant
from actors.errors import CommandRefused
from actors.kind import Command
from actors.mailbox_terms import NewMessage
from actors.runtime import Context, NewBody
from chaos.simulation import opaque
from eventlog.errors import OutcomeUnknown, Rejected
from eventlog.record import By, Guard, digest_of, new_id

if TYPE_CHECKING:
    from chaos.simulation.node import SimulatedNode
    from chaos.simulation.run import Simulation
    from eventlog.store import Snapshot

TIMEOUT_S = 4.0
TENANT, DOMAIN = "simulated", "sim.test"
LOCAL_PARTS = ("alice", "bob", "carol")
BURSTS = (1, 1, 1, 1, 3, 8)
FLAGS = ("\\Seen", "\\Flagged", "\\Deleted", "$work")
MODES: tuple[mailbox.Mode, ...] = ("add", "remove", "replace")
FOLDERS = ("Work", "Work/2026", "Lists", "Old")
BY = By("client", b"", "simulation")
Work = tuple[bytes, Command, tuple[NewBody, ...]]


class Workload:
    """Clients of one run; `stop` ends what they begin."""

    def __init__(self, sim: Simulation, rng: random.Random) -> None:
        self.sim = sim
        self.rng = rng
        self.records: list[opaque.Opaque] = []
        self.bodies: dict[bytes, bytes] = {}  # digest -> bytes that a record must give back
        self.done = 0
        self._going = True

    def begin(self) -> None:
        config = self.sim.config
        self._every(config.records_every_s, self._record)
        self._every(config.commands_every_s, self._command)
        self._every(config.reads_every_s, self.read)

    def stop(self) -> None:
        self._going = False

    def _every(self, gap_s: float, make: Any) -> None:
        self.sim.clock.after(self.rng.uniform(0.0, 2.0) * gap_s, self._again, gap_s, make)

    def _again(self, gap_s: float, make: Any) -> None:
        if not self._going:
            return
        node = self._where()
        if node.up:
            for _ in range(self.rng.choice(BURSTS)):
                node.loop.spawn(self.tried(make(node)))
        self._every(gap_s, make)

    async def tried(self, work: Coroutine[Any, Any, None]) -> None:
        """What a client must be ready for; anything else is a fault of the program and ends the run."""
        try:
            await work
            self.done += 1
        except (CommandRefused, Rejected, OutcomeUnknown):
            pass

    def _where(self) -> SimulatedNode:
        """A node; more often one that leads, or believes that it does."""
        nodes = [self.sim.nodes[name] for name in self.sim.names]
        leaders = [node for node in nodes if node.up and node.raft.is_leader]
        return self.rng.choice(leaders if leaders and self.rng.random() < 0.4 else nodes)

    # -- opaque records ---------------------------------------------------------------------------------------------

    async def _record(self, node: SimulatedNode) -> None:
        """A new record, or an old one again under its id."""
        if self.records and self.rng.random() < 0.15:
            found = self.rng.choice(self.records[-30:])
        else:
            found = opaque.draw(self.rng, self._now_ms(), self._guards(node))
            self.records.append(found)
            self._keep(found)
        await node.log.propose(found.record, found.data, TIMEOUT_S)

    async def write(self, node: SimulatedNode) -> None:
        """A record that nothing can refuse."""
        await node.log.propose(opaque.plain(self.rng, self._now_ms()), (), TIMEOUT_S)

    def _guards(self, node: SimulatedNode) -> tuple[Guard, ...]:
        if self.rng.random() > 0.3:
            return ()
        stream = self.rng.choice(opaque.STREAMS)
        with node.log.snapshot() as snapshot:
            return (Guard(stream, opaque.COUNT, snapshot.view(stream).version(opaque.COUNT)),)

    def _keep(self, found: opaque.Opaque) -> None:
        for body, data in zip(found.record.bodies, found.data, strict=True):
            if not body.chunks:
                self.bodies[body.digest] = data

    def _now_ms(self) -> int:
        return int(self.sim.clock.wall_s() * 1000)

    # -- actors --------------------------------------------------------------------------------------------------------

    async def _command(self, node: SimulatedNode) -> None:
        if self.rng.random() < 0.12:
            await self._administer(node)
            return
        work = self._mailbox_work(node)
        if work is None:
            await self._administer(node)
            return
        stream, command, bodies = work
        await node.runtime.ask(stream, command, Context(BY, "", timeout_s=TIMEOUT_S), bodies)

    async def _administer(self, node: SimulatedNode) -> None:
        """A tenant, accounts, aliases: created, deleted, created again, through several nodes at once."""
        directory, context = node.directory, Context(BY, "", timeout_s=TIMEOUT_S)
        address = f"{self.rng.choice(LOCAL_PARTS)}@{DOMAIN}"
        match self.rng.randrange(8):
            case 0 | 1:
                await directory.add_tenant(TENANT, [DOMAIN], context)
            case 2 | 3 | 4:
                await directory.add_account(address, None, self.rng.choice((None, 20_000)), context)
            case 5:
                await directory.delete_account(address, context)
            case 6:
                await directory.add_alias(f"all@{DOMAIN}", [f"{name}@{DOMAIN}" for name in LOCAL_PARTS], context)
            case _:
                await directory.delete_alias(f"all@{DOMAIN}", context)

    def _mailbox_work(self, node: SimulatedNode) -> Work | None:
        """A command to some mailbox that this node knows of, and the body that goes with it."""
        with node.log.snapshot() as snapshot:
            accounts = _accounts(snapshot)
            if not accounts:
                return None
            account, owner = self.rng.choice(accounts)
            view = snapshot.view(account)
            folders = mailbox.folders(view)
            if not folders:
                return None
            folder, target = self.rng.choice(folders), self.rng.choice(folders)
            found = [message.uid for message in mailbox.messages(view, folder.id)][-20:]
        uids = tuple(sorted(self.rng.sample(found, min(len(found), self.rng.randint(1, 3)))))
        return self._choose(account, owner, folder, target, uids)

    def _choose(self, account: bytes, owner: bytes, folder: Any, target: Any, uids: tuple[int, ...]) -> Work:
        rng = self.rng
        if not uids or rng.random() < 0.3:
            message, body = self._message(owner)
            flags = (rng.choice(FLAGS),)
            if rng.random() < 0.5:
                return account, mailbox.Append(folder.id, message, flags), (body,)
            return account, mailbox.Deliver(message, folder.name, flags), (body,)
        command: Command
        match rng.randrange(9):
            case 0 | 1 | 2:
                command = mailbox.ChangeFlags(folder.id, uids, rng.choice(MODES), (rng.choice(FLAGS),))
            case 3:
                command = mailbox.Expunge(folder.id, uids, force=rng.random() < 0.5)
            case 4:
                command = mailbox.MoveMessages(folder.id, uids, target.id)
            case 5:
                command = mailbox.CopyMessages(folder.id, uids, target.id)
            case 6:
                command = mailbox.CreateFolder(new_id(), rng.choice(FOLDERS), None, ((new_id(), "Work"),))
            case 7:
                command = mailbox.RenameFolder(folder.id, rng.choice(FOLDERS), new_id(), ((new_id(), "Work"),))
            case _:
                command = mailbox.DeleteFolder(folder.id)
        return account, command, ()

    def _message(self, owner: bytes) -> tuple[NewMessage, NewBody]:
        data = b"Subject: %d\r\n\r\n" % self.rng.randint(0, 500) + b"x" * self.rng.randint(0, 600)
        digest = digest_of(data)
        self.bodies[digest] = data
        return NewMessage(new_id(), digest, len(data), self._now_ms()), NewBody(owner, data, digest)

    # -- reads ---------------------------------------------------------------------------------------------------------

    async def read(self, node: SimulatedNode) -> None:
        """A linearizable read: what is acknowledged when it begins must be in what it shows."""
        oracle = self.sim.oracle
        before = oracle.highest_acknowledged
        index = await node.log.barrier(TIMEOUT_S)
        with node.log.snapshot() as snapshot:
            oracle.read_done(node.name, before, index, snapshot.position)


def _accounts(snapshot: Snapshot) -> list[tuple[bytes, bytes]]:
    """Account and tenant of each account, as of a snapshot."""
    return [
        (account.id, entry.id)
        for entry in tenant.tenants(snapshot)
        for account in tenant.accounts(snapshot.view(entry.id))
    ]
