"""`mailraft node systemd-unit`: the units that run a node under systemd, for this installation."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import click

from cli.output import say

SOCKETS = {"smtp": 25, "submission": 587, "submissions": 465, "imap": 143, "imaps": 993, "pop3": 110, "pop3s": 995}

SERVICE = """\
# Written by `mailraft node systemd-unit`: /etc/systemd/system/mailraft.service
[Unit]
Description=mailraft mail node
Documentation=https://www.rfc-editor.org/info/std10
Wants=network-online.target
After=network-online.target time-sync.target{after}

[Service]
Type=notify
NotifyAccess=main
ExecStart={program} node run --config {config}
ExecReload=/bin/kill -HUP $MAINPID
User={user}
Group={user}
# a node that stops answering its own event loop is started again
WatchdogSec=60
Restart=on-failure
RestartSec=1
# above node.stop_grace_s and what the log needs to close
TimeoutStopSec=60
TimeoutStartSec=infinity
LimitNOFILE=65536
OOMScoreAdjust=-200

StateDirectory=mailraft
StateDirectoryMode=0700
ConfigurationDirectory=mailraft
ReadWritePaths={folder}
UMask=0077

CapabilityBoundingSet=
AmbientCapabilities=
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome={home}
PrivateTmp=yes
PrivateDevices=yes
PrivateMounts=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
ProcSubset=pid
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
RemoveIPC=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged
SystemCallErrorNumber=EPERM

[Install]
WantedBy=multi-user.target
"""

SOCKET = """\
# Written by `mailraft node systemd-unit`: /etc/systemd/system/mailraft-{name}.socket
# with listen.{name} = "fd:{name}" in the node's configuration
[Unit]
Description=mailraft {name}

[Socket]
ListenStream={port}
BindIPv6Only=both
Backlog=1024
FileDescriptorName={name}
Service=mailraft.service

[Install]
WantedBy=sockets.target
"""


def service(config: Path, user: str, sockets: tuple[str, ...]) -> str:
    """The unit of the node."""
    program = shutil.which("mailraft") or f"{sys.executable} -P -m cli.main"
    after = "".join(f" mailraft-{name}.socket" for name in sockets)
    needed = (str(config), program.split()[0], sys.prefix, sys.base_prefix)
    home = "no" if any(one.startswith(("/home/", "/root/")) for one in needed) else "yes"
    return SERVICE.format(
        program=program, config=config, user=user, folder=config.parent, after=after, home=home
    )  # fmt: skip


def socket_unit(name: str) -> str:
    """The unit of a port below 1024, which systemd binds and the node is passed."""
    return SOCKET.format(name=name, port=SOCKETS[name])


@click.command("systemd-unit")
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    default=Path("/etc/mailraft/mailraft.toml"),
    metavar="FILE",
    show_default=True,
    help="The node's configuration.",
)
@click.option("--user", default="mailraft", show_default=True, help="The account that it runs as; it needs no rights.")
@click.option(
    "--socket",
    "sockets",
    multiple=True,
    type=click.Choice(sorted(SOCKETS)),
    help='A unit for this port too, with listen.NAME = "fd:NAME"; may be repeated.',
)
@click.option(
    "--directory", type=click.Path(path_type=Path, file_okay=False), metavar="DIR", help="Write them there; else shown."
)
def systemd_unit(config: Path, user: str, sockets: tuple[str, ...], directory: Path | None) -> None:
    """Print the systemd units of a node, or write them: an unprivileged service, and sockets for ports below 1024."""
    units = {"mailraft.service": service(config.absolute(), user, sockets)}
    units |= {f"mailraft-{name}.socket": socket_unit(name) for name in sockets}
    if directory is None:
        click.echo("\n".join(units.values()), nl=False)
        return
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in units.items():
        (directory / name).write_text(text)
        say(f"{directory / name} written")
