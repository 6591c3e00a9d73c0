"""What each command asks of the admin API, and why the others ask nothing: docs/reference/commands.md is made of it.

A command that is in neither table fails a test, and so does one that asks for something that does not stand here.
Every command may ask GET /v1/status first, to see whether a node answers and what it knows; that is left out.
"""

from __future__ import annotations

from collections.abc import Iterator

import click

STATUS = "GET /v1/status"
_MEMBERS = ("GET /v1/members", "POST /v1/members", "DELETE /v1/members/{name}")
_JOIN = ("POST /v1/cluster/tokens", "POST /v1/cluster/join")
_AUTHORITY = ("GET /v1/cluster/authority", "PUT /v1/cluster/authority")
_POLICY = ("PUT /v1/tenants/{name}/policy",)
_ACTIONS = ("GET /v1/queue", "POST /v1/queue/actions")
_STATE = ("PATCH /v1/accounts/{address}/state",)
_RECORDS = ("POST /v1/log/records",)
_SEGMENT = "GET /v1/log/archive/{first}-{last}"

ASKS: dict[str, tuple[str, ...]] = {
    "account add": ("POST /v1/accounts",),
    "account apop": ("PUT /v1/accounts/{address}/apop", "DELETE /v1/accounts/{address}/apop"),
    "account app-password create": ("POST /v1/accounts/{address}/app-passwords",),
    "account app-password list": ("GET /v1/accounts/{address}/credentials",),
    "account app-password revoke": ("DELETE /v1/accounts/{address}/app-passwords/{name}",),
    "account delete": ("DELETE /v1/accounts/{address}",),
    "account disable": _STATE,
    "account enable": _STATE,
    "account expire": _STATE,
    "account import": ("POST /v1/accounts/batch",),
    "account list": ("GET /v1/accounts",),
    "account passwd": ("PUT /v1/accounts/{address}/password",),
    "account quota": ("PUT /v1/accounts/{address}/quota",),
    "account require-change": _STATE,
    "account show": ("GET /v1/accounts/{address}/credentials",),
    "account state": ("GET /v1/accounts/{address}/state",),
    "account totp confirm": ("PUT /v1/accounts/{address}/totp",),
    "account totp disable": ("DELETE /v1/accounts/{address}/totp",),
    "account totp enable": ("POST /v1/accounts/{address}/totp",),
    "account totp status": ("GET /v1/accounts/{address}/credentials",),
    "alias add": ("POST /v1/aliases",),
    "alias delete": ("DELETE /v1/aliases/{address}",),
    "alias list": ("GET /v1/aliases",),
    "backup create": ("POST /v1/log/segment", "POST /v1/log/tables"),
    "certificate account": ("PUT /v1/acme/account",),
    "certificate add": ("POST /v1/certificates",),
    "certificate check": ("GET /v1/certificate-findings",),
    "certificate client-authorities": ("GET /v1/client-authorities",),
    "certificate distrust-clients": ("DELETE /v1/client-authorities/{name}",),
    "certificate list": ("GET /v1/certificates",),
    "certificate order": ("POST /v1/acme/kept", "GET /v1/acme"),
    "certificate orders": ("GET /v1/acme",),
    "certificate release": ("DELETE /v1/acme/kept/{name}",),
    "certificate remove": ("DELETE /v1/certificates/{wanted}",),
    "certificate renew": ("POST /v1/acme/kept/{name}/renew", "GET /v1/acme"),
    "certificate show": ("GET /v1/certificates/{wanted}",),
    "certificate trust-clients": ("PUT /v1/client-authorities/{name}",),
    "cluster add-node": (*_MEMBERS[:2], *_JOIN),
    "cluster health": ("GET /v1/health",),
    "cluster remove-node": (_MEMBERS[0], _MEMBERS[2]),
    "cluster renew-admin": ("POST /v1/cluster/administrator",),
    "cluster replace-node": (*_MEMBERS, *_JOIN),
    "cluster rotate-ca": (
        *_AUTHORITY,
        "GET /v1/cluster/authority/succession",
        "PUT /v1/cluster/authority/succession/next",
        "POST /v1/cluster/authority/succession/next",
        "POST /v1/cluster/authority/succession/promote",
        "POST /v1/cluster/administrator",
        "POST /v1/cluster/authority/succession/retire",
    ),
    "cluster rotate-certificates": (*_AUTHORITY, "POST /v1/cluster/rotate-certificates"),
    "cluster rotate-key": ("GET /v1/cluster-keys", "POST /v1/cluster-keys", "PUT /v1/cluster-keys"),
    "cluster status": (STATUS,),
    "cluster token create": (*_AUTHORITY, "POST /v1/cluster/tokens"),
    "cluster token list": ("GET /v1/cluster/tokens",),
    "cluster token revoke": ("DELETE /v1/cluster/tokens/{id}",),
    "cluster transfer-leadership": ("GET /v1/members", "POST /v1/members/{name}/lead"),
    "cluster upgrade": ("POST /v1/cluster/upgrade",),
    "config cluster set": ("PUT /v1/cluster-settings",),
    "config cluster show": ("GET /v1/cluster-settings",),
    "config cluster unset": ("PUT /v1/cluster-settings",),
    "config diff": ("GET /v1/config",),
    "config explain": ("GET /v1/config/{key}",),
    "config show": ("GET /v1/config",),
    "directory sync": ("POST /v1/directory/sync",),
    "dkim delete": ("DELETE /v1/dkim/{domain}/keys/{selector}",),
    "dkim dns": ("GET /v1/dkim/{domain}",),
    "dkim generate": ("POST /v1/dkim/{domain}/keys",),
    "dkim list": ("GET /v1/dkim",),
    "dkim rotate": ("GET /v1/dkim", "POST /v1/dkim/{domain}/rotate"),
    "dkim schedule": ("PUT /v1/dkim/{domain}/schedule",),
    "dkim show": ("GET /v1/dkim/{domain}",),
    "dkim validate": ("POST /v1/dkim/{domain}/validate",),
    "doctor": ("GET /v1/doctor/{domain}",),
    "group add": ("POST /v1/groups",),
    "group add-member": ("PATCH /v1/groups/{address}",),
    "group list": ("GET /v1/groups",),
    "group remove": ("DELETE /v1/groups/{address}",),
    "group remove-member": ("PATCH /v1/groups/{address}",),
    "group show": ("GET /v1/groups/{address}",),
    "log anchor": ("GET /v1/log/anchor", "GET /v1/log/heads"),
    "log archive compact": ("POST /v1/log/archive/compact",),
    "log archive create": ("POST /v1/log/archive", "GET /v1/log/archive", _SEGMENT, "GET /v1/redactions"),
    "log archive list": ("GET /v1/log/archive",),
    "log archive repair": (
        "GET /v1/log/archive",
        "POST /v1/log/archive/verify",
        "POST /v1/log/segment",
        "PUT /v1/log/archive/{first}-{last}",
    ),
    "log archive verify": ("POST /v1/log/archive/verify",),
    "log erased": ("GET /v1/redactions",),
    "log export": _RECORDS,
    "log quarantine": ("POST /v1/log/{position}/quarantine",),
    "log rebuild": ("POST /v1/log/rebuild",),
    "log redact": ("POST /v1/redactions", "GET /v1/redactions"),
    "log show": ("GET /v1/log/{position}",),
    "log tail": ("GET /v1/log", *_RECORDS),
    "log verify": ("POST /v1/log/verify",),
    "log what-if": ("POST /v1/log/what-if",),
    "mailbox restore": ("POST /v1/mailboxes/{address}/restore",),
    "mailbox show": ("GET /v1/mailboxes/{address}",),
    "node doctor": (STATUS,),
    "node drain": ("POST /v1/drain",),
    "node join": ("POST /v1/cluster/join",),
    "node reload": ("POST /v1/reload",),
    "policy reset": _POLICY,
    "policy set": _POLICY,
    "policy show": ("GET /v1/tenants/{name}/policy",),
    "queue bounce": _ACTIONS,
    "queue delete": _ACTIONS,
    "queue hold": _ACTIONS,
    "queue list": ("GET /v1/queue",),
    "queue release": _ACTIONS,
    "queue reroute": _ACTIONS,
    "queue resume": ("POST /v1/queue/domains/{domain}/resume",),
    "queue retry": _ACTIONS,
    "queue show": ("GET /v1/queue/items/{id}",),
    "queue stats": ("GET /v1/queue/stats",),
    "queue suspend": ("POST /v1/queue/domains/{domain}/suspend",),
    "quota recount": ("GET /v1/tenants/{name}/usage",),
    "quota set": ("PUT /v1/tenants/{name}/quotas",),
    "quota show": ("GET /v1/tenants/{name}/quotas",),
    "region follow": ("POST /v1/region/follows",),
    "region grant": (
        *_AUTHORITY,
        "POST /v1/region/certificates",
        "POST /v1/region/scope",
        "POST /v1/region/grants",
    ),
    "region grants": ("GET /v1/region/grants",),
    "region revoke": ("DELETE /v1/region/grants/{name}",),
    "region status": ("GET /v1/region/follows",),
    "region unfollow": ("DELETE /v1/region/follows/{name}",),
    "report collected": ("GET /v1/reports/collected",),
    "report list": ("GET /v1/reports",),
    "report send": ("POST /v1/reports/send",),
    "report sent": ("GET /v1/reports/sent",),
    "report set": ("PUT /v1/reports/settings",),
    "report settings": ("GET /v1/reports/settings",),
    "report show": ("GET /v1/reports/received/{id}",),
    "role grant": ("PUT /v1/roles",),
    "role list": ("GET /v1/roles",),
    "role revoke": ("DELETE /v1/roles",),
    "route add": ("PUT /v1/routes",),
    "route delete": ("DELETE /v1/routes/{match}",),
    "route list": ("GET /v1/routes",),
    "search rebuild": ("POST /v1/search/rebuild", "GET /v1/search"),
    "search status": ("GET /v1/search",),
    "send": ("PUT /v1/mail",),
    "share create": ("POST /v1/tenants/{name}/folders",),
    "share delete": ("DELETE /v1/tenants/{name}/folders",),
    "share grant": ("PUT /v1/shared/{place}/rights",),
    "share list": ("GET /v1/shared/{place}",),
    "share send-as": ("PUT /v1/accounts/{address}/senders",),
    "share senders": ("GET /v1/accounts/{address}/senders",),
    "tenant add": ("POST /v1/tenants",),
    "tenant add-domain": ("POST /v1/tenants/{name}/domains",),
    "tenant delete": ("POST /v1/tenants/{name}/deletion",),
    "tenant export": ("POST /v1/tenants/{name}/export",),
    "tenant import": ("POST /v1/tenant-imports",),
    "tenant list": ("GET /v1/tenants",),
    "tenant remove-domain": ("DELETE /v1/tenants/{name}/domains/{domain}",),
    "tenant resume": ("DELETE /v1/tenants/{name}/suspension",),
    "tenant set": ("PATCH /v1/tenants/{name}",),
    "tenant show": ("GET /v1/tenants/{name}",),
    "tenant suspend": ("POST /v1/tenants/{name}/suspension",),
    "tenant undelete": ("DELETE /v1/tenants/{name}/deletion",),
    "tenant update": ("PUT /v1/tenants/{name}/details",),
    "token create": ("POST /v1/tokens",),
    "token list": ("GET /v1/tokens",),
    "token revoke": ("DELETE /v1/tokens/{id}",),
    "verdicts set": ("PUT /v1/verdicts",),
    "verdicts show": ("GET /v1/verdicts",),
    "verdicts tenant": ("PUT /v1/verdicts/tenants/{name}",),
    "whoami": ("GET /v1/whoami",),
}

# what asks the API, and takes no HOST:PORT with a token in place of the cluster's folder
FOLDER: dict[str, str] = {
    "cluster renew-admin": "writes the administrator's key and certificate, DIR/admin: only who shows that certificate "
    "is given another",
    "node join": "makes a node's folder, and comes with a token for nodes alone",
}

_BACKUP = "reads and writes the folder of a backup, which no node knows"
_OWN_CLUSTERS = "makes clusters of its own, to measure or to break"
_PROCESSES = "starts and stops processes on this machine, through which alone the API can be there"
_NEW_CELL = "makes a new cell from a log, whose nodes do not run yet"

LOCAL: dict[str, str] = {
    "backup key": "writes a file of keys that no node may see",
    "backup list": _BACKUP,
    "backup prune": _BACKUP,
    "backup rekey": _BACKUP,
    "backup restore": _NEW_CELL,
    "backup scrub": _BACKUP,
    "backup verify": _BACKUP,
    "bench accounts": _OWN_CLUSTERS,
    "bench catch-up": _OWN_CLUSTERS,
    "bench checkpoint": _OWN_CLUSTERS,
    "bench compare": "compares two files of results",
    "bench connections": _OWN_CLUSTERS,
    "bench imap": _OWN_CLUSTERS,
    "bench log": _OWN_CLUSTERS,
    "bench queue": _OWN_CLUSTERS,
    "bench restore": _OWN_CLUSTERS,
    "bench smtp": _OWN_CLUSTERS,
    "chaos list": "tells what this program can do",
    "chaos run": _OWN_CLUSTERS,
    "chaos simulate": "simulates cells in memory",
    "cluster down": _PROCESSES,
    "cluster init": "writes the folder of a cell that does not run yet",
    "cluster renew": "signs with the key of the cell's CA, which is on this machine; "
    "`cluster rotate-certificates` has the nodes do it",
    "cluster restore": _NEW_CELL,
    "cluster up": _PROCESSES,
    "completion": "prints a script for a shell",
    "config check": "reads a file, before any node does",
    "docs": "writes these pages",
    "log rehearse": "folds the log with this version of the program, which no node runs yet",
    "node inspect": "looks into a node that is stopped",
    "node run": _PROCESSES,
    "node systemd-unit": "prints files for the service manager of this machine",
}


def commands() -> Iterator[tuple[str, click.Command]]:
    """Every command by its whole name, without the program's."""
    from cli.main import main

    with click.Context(main, info_name="mailraft") as context:
        yield from _under(main, context, ())


def _under(group: click.Group, context: click.Context, path: tuple[str, ...]) -> Iterator[tuple[str, click.Command]]:
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from _under(command, context, (*path, name))
        elif command is not None:
            yield " ".join((*path, name)), command


def command_lines() -> Iterator[str]:
    """The lines of docs/reference/commands.md."""
    from nodes.http.admin import endpoints
    from nodes.http.openapi import openapi_path

    yield from ("# Commands and the admin API", "")
    yield "What each command asks of the [admin API](api.md), which any other program can ask in its place. Each may"
    yield "ask `GET /v1/status` besides, to see which node answers."
    yield from ("", "| command | asks |", "|---|---|")
    yield from (f"| `mailraft {name}` | {'<br>'.join(f'`{one}`' for one in asked)} |" for name, asked in ASKS.items())
    yield from ("", "In place of the cluster's folder each takes `HOST:PORT` of any node's admin API, with a token,")
    yield "and finds the other nodes by itself (`GET /v1/health`, `GET /v1/members`). But for these:"
    yield from ("", "| command | why |", "|---|---|")
    yield from (f"| `mailraft {name}` | it {why} |" for name, why in FOLDER.items())
    yield from ("", "## Commands that ask nothing", "", "| command | why |", "|---|---|")
    yield from (f"| `mailraft {name}` | it {why} |" for name, why in LOCAL.items())
    asked = {one for each in ASKS.values() for one in each}
    yield from ("", "## Endpoints that no command asks", "", "| | |", "|---|---|")
    for one in endpoints():
        if (said := f"{one.method} {openapi_path(one.path)}") not in asked:
            yield f"| `{said}` | {one.summary} |"
