"""What a deleted tenant's people were, had and could is in no database any more, sealed or not; the log still folds.

Mail, folders and queues: tests/acceptance/test_tenant_end.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from actors.acme import ACME, Manage, PlaceOrder, SetAccount, account_place, managed, order_place
from actors.certificates import CERTIFICATES, all_certificates, client_authorities
from actors.region import REGION, tenant_ids
from actors.roles import roles
from actors.standing import STANDING, standing
from cli import layout
from cli.client import AdminClient
from cli.main import main
from cli.rotate_key import rotate_key
from eventlog.record import new_id
from nodes.config import sources as config_sources
from nodes.resealing import sealed_in, streams
from nodes.server import Node
from nodes.services import Services
from tests.nodes.http.one_node import cell as cell
from tests.nodes.policy.trio import ADMIN, until
from tests.peers import certificates

Run = Callable[[Coroutine[Any, Any, Any]], Any]
PERSON, DOMAIN = "zq-person@gone.test", "gone.test"
MARKS = ("zq-person", "zq-why", "zq-phone", "zq-tablet", "zq-sync", "zq-lost")
PRIVATE = certificates.server(f"mail.{DOMAIN}")
CLIENTS = certificates.authority("zq-clients")


def fill(client: AdminClient) -> None:
    client.change("POST", "/v1/tenants", {"name": "gone", "domains": [DOMAIN]})
    client.change("POST", "/v1/accounts", {"address": PERSON, "password": "one two three four"})
    for name in ("zq-phone", "zq-tablet"):
        client.change("POST", f"/v1/accounts/{PERSON}/app-passwords", {"name": name, "scopes": ["imap"]})
    client.change("DELETE", f"/v1/accounts/{PERSON}/app-passwords/zq-tablet")
    client.change("POST", f"/v1/accounts/{PERSON}/totp", {})
    for name in ("zq-sync", "zq-lost"):
        made = client.change("POST", "/v1/tokens", {"tenant": "gone", "name": name})
    client.change("DELETE", f"/v1/tokens/{made['id']}")
    client.change("PUT", "/v1/roles", {"address": PERSON, "role": "auditor"})
    client.change("PUT", "/v1/roles", {"address": PERSON, "role": "help-desk", "cluster": True})
    client.change("POST", "/v1/tokens", {"account": PERSON, "cluster": True})
    client.change("POST", f"/v1/dkim/{DOMAIN}/keys", {})
    client.change("POST", "/v1/certificates", {"chain": PRIVATE.pem.decode(), "key": PRIVATE.key_pem.decode()})
    client.change("PUT", "/v1/client-authorities/ours", {"tenant": "gone", "certificates": CLIENTS.pem.decode()})
    command("account", "disable", PERSON, "--reason", "zq-why", cell=client)


def command(*arguments: str, cell: AdminClient) -> None:
    environment = {"MAILRAFT_CLUSTER": str(cell._cluster.folder)}
    done = CliRunner().invoke(main, list(arguments), env=environment)
    assert done.exit_code == 0, done.output


def sealed(services: Services, tenant: bytes) -> set[bytes]:
    with services.log.snapshot() as snapshot:
        found = [one for stream, whose in streams(snapshot) for one in sealed_in(snapshot, stream, whose)]
    return {one.value for one in found if one.tenant == tenant}


def held(folder: Path, wanted: set[bytes]) -> set[bytes]:
    """Of these, what the databases hold. Lock files are left alone: to close one ends its locks."""
    data = [path.read_bytes() for path in folder.rglob("data.mdb")]
    return {one for one in wanted if any(one in each for each in data)}


async def order(services: Services, tenant: bytes) -> None:
    """A certificate that is being ordered, with an account whose key is none, so that the order stays."""
    directory, id_ = "https://127.0.0.1:1/directory", new_id()
    seal, ask = services.directory.seal, services.runtime.ask
    await ask(ACME, SetAccount(directory, (), directory, seal(b"account", account_place(directory))), ADMIN)
    await ask(ACME, Manage(id_, tenant, (f"imap.{DOMAIN}",), "dns-01"), ADMIN)
    await ask(ACME, PlaceOrder(id_, directory, seal(b"order", order_place(id_)), ()), ADMIN)


def test_of_a_deleted_tenant_no_name_token_role_certificate_or_secret_is_left(run: Run, cell: layout.Cluster) -> None:
    async def session() -> None:
        async with Node(config_sources.load(cell.nodes[0].config, {})).running() as state:
            await until(lambda: not state.unready())
            services, client = state.services, AdminClient(cell)
            assert services is not None
            await asyncio.to_thread(fill, client)
            with services.log.snapshot() as snapshot:
                ((tenant, _),) = tenant_ids(snapshot.view(REGION))
            await order(services, tenant)
            first = sealed(services, tenant)
            await asyncio.to_thread(CliRunner().invoke, rotate_key, [str(cell.folder)])
            copies = first | sealed(services, tenant)
            wanted = copies | {one.encode() for one in MARKS} | {CLIENTS.pem.splitlines()[2]}
            assert len(copies) == 2 * 8
            assert held(state.config.node.data_dir, wanted) == wanted
            command_ = ("tenant", "delete", "gone", "--grace", "0s", "--yes")
            await asyncio.to_thread(lambda: command(*command_, cell=client))
            await until(lambda: is_erased(services, tenant))
            eraser = services.log.eraser
            await until(lambda: 0 < eraser.status().redacted == eraser.status().erased)
            assert held(state.config.node.data_dir, wanted) == set()
            with services.log.snapshot() as snapshot:
                view = snapshot.view(CERTIFICATES)
                assert (all_certificates(view), client_authorities(view, tenant)) == ([], [])
                assert managed(snapshot.view(ACME)) == []
                assert roles(snapshot.view(REGION)) == []
            rebuilt = await asyncio.to_thread(lambda: list(client.stream("/v1/log/rebuild")))
            assert rebuilt[-1]["result"]["equal"], rebuilt

    run(session())


def is_erased(services: Services, tenant: bytes) -> bool:
    with services.log.snapshot() as snapshot:
        found = standing(snapshot.view(STANDING), tenant)
    return found is not None and found.erased_at > 0
