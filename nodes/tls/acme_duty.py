"""The duty of the node that leads: certificates are ordered and renewed, and their challenges answered.

Everything that must not be forgotten is in the log before the authority is asked to look: a node that is killed in the
middle leaves an order that the next leader goes on with. A failure is an event too, with the time of the next attempt
(one minute, doubling, a day at most), so a change of leaders hurries nothing.
"""

from __future__ import annotations

import asyncio
import datetime
import time
from typing import TYPE_CHECKING

from actors import acme
from actors.acme import ACME, FailOrder, FinishOrder, Managed, PlaceOrder, PlanRenewal, account_place, order_place
from actors.certificates import CERTIFICATES, AddCertificate, certificate_place
from actors.errors import CommandRefused
from actors.runtime import Context
from actors.sealing import SealBroken
from eventlog.errors import LogError
from eventlog.record import By
from nodes.tls.acme_client import Acme, OrderProblem, dns_record, new_key
from nodes.tls.certificates import CertificateAdmin
from nodes.tls.chain import BadCertificate, Chain, read_chain

if TYPE_CHECKING:
    from acme.messages import OrderResource

    from nodes.services import Services

LOOK_S = 5.0
ASK_S = 6 * 3600.0  # the authority when it would have a certificate renewed
HOOK_OUTPUT_BYTES = 4096


class AcmeDuty:
    """Begins when it is made; `stop` ends it."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._wake = asyncio.Event()
        self._asked_s: dict[bytes, float] = {}
        self._unsubscribe = services.log.subscribe(ACME, lambda _: self._wake.set())
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        self._unsubscribe()
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            status = self._services.log.status()
            if status.leader == status.name:
                await self._look()
            try:
                await asyncio.wait_for(self._wake.wait(), LOOK_S)
            except TimeoutError:
                continue

    async def _look(self) -> None:
        with self._services.log.snapshot() as snapshot:
            view = snapshot.view(ACME)
            account, kept = acme.account(view), acme.managed(view)
        if account is None:
            return
        for one in kept:
            try:
                if one.order or one.due_ms <= time.time() * 1000:
                    await self._order(account, one)
                else:
                    await self._ask_when(account, one)
            except (CommandRefused, LogError, SealBroken) as error:
                self._services.logger.warning(
                    "a certificate could not be ordered",
                    code="certificate_not_renewed",
                    names=one.names,
                    error=str(error),
                )
            except Exception:
                self._services.logger.exception(
                    "a certificate could not be ordered", code="certificate_not_renewed", names=one.names
                )

    async def _order(self, account: acme.Account, one: Managed) -> None:
        """From wherever it is to its end, good or bad."""
        try:
            chain, one = await self._chain(account, one)
        except OrderProblem as problem:
            with self._services.log.snapshot() as snapshot:
                now = next((each for each in acme.managed(snapshot.view(ACME)) if each.id == one.id), one)
            await self._end_answers(now)
            await self._ask(FailOrder(one.id, now.order, str(problem)), one)
            self._services.logger.error(
                "no certificate", names=one.names, reason=str(problem), failures=one.failures + 1
            )
            return
        await self._end_answers(one)
        end = chain.leaf.not_valid_after_utc
        due = chain.leaf.not_valid_before_utc + (end - chain.leaf.not_valid_before_utc) * 2 / 3
        add = AddCertificate(
            one.tenant,
            chain.fingerprint,
            chain.names,
            chain.chain_pem().decode(),
            self._services.directory.seal(chain.key_pem(), certificate_place(chain.fingerprint)),
            "acme",
            _ms(chain.leaf.not_valid_before_utc),
            _ms(end),
        )
        finish = FinishOrder(one.id, one.order, chain.fingerprint, _ms(due))
        await self._services.runtime.transact([(CERTIFICATES, add), (ACME, finish)], self._context(one))
        self._services.logger.info("a certificate was got", names=one.names, until=end.isoformat())

    async def _chain(self, account: acme.Account, one: Managed) -> tuple[Chain, Managed]:
        """Raises OrderProblem."""
        directory = self._services.directory
        client = await self._client(account)
        if one.order:
            key = directory.unseal(one.sealed, order_place(one.id))
            order: OrderResource = await asyncio.to_thread(client.found, one.order, key, one.names)
        else:
            key = new_key()
            placed = await asyncio.to_thread(client.place, key, one.names, one.challenge)
            sealed = directory.seal(key, order_place(one.id))
            await self._ask(PlaceOrder(one.id, placed.url, sealed, placed.answers), one)
            one, order = one._replace(order=placed.url, sealed=sealed, answers=placed.answers), placed.order
        if one.challenge == "dns-01":
            await self._hooks("add", one)
        pem = await asyncio.to_thread(client.fulfil, order, one.challenge)
        try:
            now = datetime.datetime.now(datetime.UTC)
            return read_chain(pem.encode(), key, now, names=one.names, known_issuer=True), one
        except BadCertificate as error:
            raise OrderProblem(f"what the authority issued can not be used: {error}") from None

    async def _ask_when(self, account: acme.Account, one: Managed) -> None:
        """Now and then: the authority may want a certificate renewed before two thirds of its life are over."""
        if time.monotonic() - self._asked_s.get(one.id, -ASK_S) < ASK_S or not one.fingerprint:
            return
        self._asked_s[one.id] = time.monotonic()
        try:
            stored = CertificateAdmin(self._services).require(one.fingerprint.hex())
            client = await self._client(account)
            at = await asyncio.to_thread(client.renew_at, stored.chain.encode())
        except (OrderProblem, CommandRefused) as error:
            self._services.logger.debug("no renewal information", names=one.names, reason=str(error))
            return
        if at is not None and _ms(at) < one.due_ms:
            await self._ask(PlanRenewal(one.id, _ms(at)), one)

    async def _client(self, account: acme.Account) -> Acme:
        key = self._services.directory.unseal(account.sealed, account_place(account.directory))
        ca = self._services.config.acme.ca
        return await asyncio.to_thread(Acme, account.directory, key, account.url, str(ca) if ca else None)

    async def _end_answers(self, one: Managed) -> None:
        if one.challenge == "dns-01" and one.answers:
            try:
                await self._hooks("remove", one)
            except OrderProblem as problem:
                self._services.logger.warning("a TXT record was left in DNS", names=one.names, reason=str(problem))

    async def _hooks(self, verb: str, one: Managed) -> None:
        """Calls the operator's program for each name. Raises OrderProblem."""
        section = self._services.config.acme
        if section.dns_hook is None:
            raise OrderProblem("acme.dns_hook is not set on the node that leads")
        for name, _, authorization in one.answers:
            record, value = dns_record(name, authorization)
            await _call(str(section.dns_hook), verb, record, value, timeout_s=section.dns_hook_timeout_s)

    async def _ask(self, command: PlaceOrder | FailOrder | PlanRenewal, one: Managed) -> None:
        await self._services.runtime.ask(ACME, command, self._context(one))

    def _context(self, one: Managed) -> Context:
        name = self._services.config.node.name
        timeout_s = self._services.config.raft.propose_timeout_s
        return Context(By("node", name.encode(), "certificates"), "acme", one.tenant, timeout_s)


async def _call(*command: str, timeout_s: float) -> None:
    """Raises OrderProblem where the program can not be started, takes too long or fails; its last words are told."""
    pipe, nothing = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
    try:
        process = await asyncio.create_subprocess_exec(*command, stdin=nothing, stdout=nothing, stderr=pipe)
    except OSError as error:
        raise OrderProblem(f"acme.dns_hook: {error.strerror or error}") from None
    try:
        async with asyncio.timeout(timeout_s):
            assert process.stderr is not None
            said = await process.stderr.read(HOOK_OUTPUT_BYTES)
            while await process.stderr.read(HOOK_OUTPUT_BYTES):
                continue
            status = await process.wait()
    except TimeoutError:
        raise OrderProblem(f"acme.dns_hook took longer than {timeout_s:.0f} s") from None
    finally:
        if process.returncode is None:
            process.kill()
    if status != 0:
        words = said.decode(errors="replace").strip().rpartition("\n")[2][:200]
        raise OrderProblem(f"acme.dns_hook ended with status {status}: {words}")


def _ms(time_: datetime.datetime) -> int:
    return int(time_.timestamp() * 1000)
