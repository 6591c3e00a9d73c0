"""What an operator does meanwhile: names come and go, a quota and a password change, mailboxes are looked at.

Everything here goes through the admin API, whose reads promise to show all that was acknowledged anywhere; one that
can not promise it says so, and is recorded as stale.
"""

from dataclasses import dataclass, field
from random import Random
from typing import Any

from chaos.admin_client import AdminAnswer
from chaos.history import History
from chaos.workload.target import Target

ANSWER_TIMEOUT_S = 30.0
ACTIONS = {
    "mailbox": 4,
    "names": 4,
    "quota": 2,
    "account-add": 2,
    "alias-add": 1,
    "account-delete": 2,
    "alias-delete": 1,
    "password": 1,
}
DIGEST_DIGITS = 16  # of the 64: enough to tell messages apart, and a history is read by people


def vault_password(seed: int, value: int) -> str:
    """The password that the change with this number sets; the history holds the number."""
    return f"correct horse {seed} battery {value}"


@dataclass
class Administration:
    """One `perform` is one request to one node."""

    seed: int
    target: Target
    history: History
    _opened: int = field(default=0)

    async def perform(self, node: str, number: int, rng: Random) -> None:
        """Draws a request and makes it. Raises nothing of a network."""
        action = rng.choices(list(ACTIONS), weights=list(ACTIONS.values()))[0]
        name = rng.choice(self.target.names)
        password = {"password": vault_password(self.seed, number)}
        match action:
            case "mailbox":
                await self.look_into(node, rng.choice(self.target.witnesses))
            case "names":
                await self.list_names(node)
            case "quota":
                quota = 2**40 + number
                await self._ask(node, "quota", self.target.vault, "PUT", "/quota", {"quota_bytes": quota}, value=quota)
            case "password":
                await self._ask(node, "password", self.target.vault, "PUT", "/password", password, value=number)
            case "account-add":
                await self._ask(node, action, name, "POST", "", {"address": name} | password)
            case "alias-add":
                await self._ask(node, action, name, "POST", "", {"address": name, "targets": [self.target.accounts[0]]})
            case _:
                await self._ask(node, action, name, "DELETE", "", None)

    async def look_into(self, node: str, account: str) -> None:
        """The whole mailbox, folders that were never used left out."""
        started = self.history.begin(self._session(node), node, "admin", "mailbox", account)
        answer = await self._answer(node, "GET", f"/v1/mailboxes/{account}")
        result = {"stale": answer.stale, "folders": _folders(answer.body)} if answer.body is not None else {}
        self.history.end(started, answer.outcome, answer.text, **result)

    async def list_names(self, node: str) -> None:
        """Who has which name, and the vault's quota; aliases in a request of their own, which makes two operations."""
        started = self.history.begin(self._session(node), node, "admin", "accounts", "")
        answer = await self._answer(node, "GET", "/v1/accounts")
        result: dict[str, Any] = {}
        if answer.body is not None:
            quotas = {row["address"]: row["quota_bytes"] for row in answer.body["accounts"]}
            held = [name for name in self.target.names if name in quotas]
            result = {"stale": answer.stale, "names": held, "quota": quotas.get(self.target.vault)}
        self.history.end(started, answer.outcome, answer.text, **result)
        started = self.history.begin(self._session(node), node, "admin", "aliases", "")
        answer, result = await self._answer(node, "GET", "/v1/aliases"), {}
        if answer.body is not None:
            addresses = {row["address"] for row in answer.body["aliases"]}
            result = {"stale": answer.stale, "names": [name for name in self.target.names if name in addresses]}
        self.history.end(started, answer.outcome, answer.text, **result)

    async def _ask(
        self, node: str, action: str, subject: str, method: str, tail: str, body: dict[str, Any] | None, **asked: Any
    ) -> None:
        kind = "aliases" if action.startswith("alias") else "accounts"
        path = f"/v1/{kind}" if method == "POST" else f"/v1/{kind}/{subject}{tail}"
        started = self.history.begin(self._session(node), node, "admin", action, subject, **asked)
        answer = await self._answer(node, method, path, body)
        self.history.end(started, answer.outcome, answer.text, category=answer.category)

    async def _answer(self, node: str, method: str, path: str, body: dict[str, Any] | None = None) -> AdminAnswer:
        endpoint = self.target.endpoints[node]["admin"]
        return await self.target.admin.ask(node, endpoint, method, path, body, ANSWER_TIMEOUT_S)

    def _session(self, node: str) -> str:
        self._opened += 1
        return f"admin-{node}-{self._opened}"


def _folders(body: Any) -> dict[str, Any]:
    return {
        folder["name"]: {
            "uidvalidity": folder["uidvalidity"],
            "uidnext": folder["uidnext"],
            "highestmodseq": folder["highestmodseq"],
            "messages": [[m["uid"], m["sha256"][:DIGEST_DIGITS], sorted(m["flags"])] for m in folder["messages"]],
        }
        for folder in body["folders"]
        if folder["uidnext"] > 1
    }
