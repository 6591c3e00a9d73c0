"""Thunderbird itself, without a window: a profile of its own, driven by scripts in its own language.

The remote control is Mozilla's Marionette: frames of length, colon and JSON; what runs sees all that the program's own
windows see. `scripts/debian-packages` brings the program.
"""

import json
import os
import socket
import subprocess
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from nodes.process import end_with_parent

START_S = 60.0
SCRIPT_S = 40.0

_PREFERENCES = {
    "mail.provider.suppress_dialog_on_startup": True,
    "mail.shell.checkDefaultClient": False,
    "mailnews.start_page.enabled": False,
    "mail.biff.play_sound": False,
    "mail.server.default.autosync_offline_stores": False,
    "app.update.enabled": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "toolkit.telemetry.enabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
}

_ARGUMENTS = ("--headless", "--no-remote", "--marionette", "--remote-allow-system-access")

_PRELUDE = """
const {MailServices} = ChromeUtils.importESModule("resource:///modules/MailServices.sys.mjs");
const done = arguments[arguments.length - 1];
const until = async (reached, what) => {
  for (let turn = 0; turn < 600; turn++) {
    try { const found = reached(); if (found) return found; } catch (error) {}
    await new Promise(resolve => setTimeout(resolve, 50));
  }
  throw new Error("waited in vain for " + (what || reached));
};
const server = () => MailServices.accounts.allServers.find(one => one.type == "imap");
const folder = path => path.split("/").reduce((at, name) => at.getChildNamed(name), server().rootFolder);
const url = start => new Promise((resolve, reject) => start({
  QueryInterface: ChromeUtils.generateQI(["nsIUrlListener"]),
  OnStartRunningUrl() {},
  OnStopRunningUrl(_, status) { Components.isSuccessCode(status) ? resolve() : reject(new Error("url " + status)); },
}));
const copying = start => new Promise((resolve, reject) => start({
  QueryInterface: ChromeUtils.generateQI(["nsIMsgCopyServiceListener"]),
  onStartCopy() {}, onProgress() {}, setMessageKey() {}, getMessageId() { return null; },
  onStopCopy(status) { Components.isSuccessCode(status) ? resolve() : reject(new Error("copy " + status)); },
}));
const update = path => url(hear => folder(path).QueryInterface(Ci.nsIMsgImapMailFolder)
  .updateFolderWithListener(null, hear));
const subjects = path => [...folder(path).messages].map(one => one.mime2DecodedSubject).sort();
const named = (path, subject) => [...folder(path).messages].find(one => one.mime2DecodedSubject == subject);
const args = [...arguments].slice(0, -1);
(async () => {%s})().then(
  value => done({value: value === undefined ? null : value}),
  error => done({error: error + " " + (error.stack || "")}));
"""


class ScriptFailed(Exception):
    """What the script threw."""


class Thunderbird:
    """One running program; it ends with the context."""

    def __init__(self, program: str, folder: Path, preferences: Mapping[str, bool | int | str] | None = None) -> None:
        profile = folder / "profile"
        profile.mkdir(parents=True)
        port = _free_port()
        wanted = {**_PREFERENCES, "marionette.port": port, **(preferences or {})}
        lines = [f"user_pref({json.dumps(name)}, {json.dumps(value)});\n" for name, value in wanted.items()]
        (profile / "user.js").write_text("".join(lines))
        with open(folder / "thunderbird.log", "wb") as log:
            self._process = subprocess.Popen(
                [program, *_ARGUMENTS, "--profile", str(profile)],
                env={**os.environ, "HOME": str(folder), "MOZ_HEADLESS": "1"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=partial(end_with_parent, os.getpid()),
            )
        try:
            self._connect(port)
        except BaseException:
            self.stop()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()

    def stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def run(self, script: str, *arguments: object) -> Any:
        """The value of an async function's body; `arguments` are its `arguments`. Raises ScriptFailed."""
        answer = self._command(
            "WebDriver:ExecuteAsyncScript",
            {"script": _PRELUDE.replace("%s", script), "args": list(arguments), "newSandbox": True},
        )["value"]
        if "error" in answer:
            raise ScriptFailed(answer["error"])
        return answer["value"]

    def add_account(self, port: int, login: str, password: str) -> None:
        """An account on this machine in clear; its folders are known when this returns."""
        self.run(
            """
            const [login, port, password] = args;
            const made = MailServices.accounts.createIncomingServer(login, "127.0.0.1", "imap");
            made.port = port;
            made.socketType = Ci.nsMsgSocketType.plain;
            made.authMethod = Ci.nsMsgAuthMethod.passwordCleartext;
            made.password = password;
            const account = MailServices.accounts.createAccount();
            account.incomingServer = made;
            const identity = MailServices.accounts.createIdentity();
            identity.email = login;
            account.addIdentity(identity);
            made.performExpand(null);
            await until(() => folder("Trash") && folder("Sent"), "the folders");
            """,
            login,
            port,
            password,
        )

    # -- Marionette

    def _connect(self, port: int) -> None:
        deadline = time.monotonic() + START_S
        while True:
            try:
                self._socket = socket.create_connection(("127.0.0.1", port), timeout=SCRIPT_S + 20)
                break
            except ConnectionRefusedError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
        self._file = self._socket.makefile("rb")
        self._commands = 0
        self._frame()
        self._command("WebDriver:NewSession", {})
        self._command("Marionette:SetContext", {"value": "chrome"})
        self._command("WebDriver:SetTimeouts", {"script": int(SCRIPT_S * 1000)})

    def _frame(self) -> Any:
        digits = b""
        while (one := self._file.read(1)) != b":":
            if not one:
                raise ConnectionError("Thunderbird has ended")
            digits += one
        return json.loads(self._file.read(int(digits)))

    def _command(self, name: str, parameters: dict[str, object]) -> Any:
        self._commands += 1
        data = json.dumps([0, self._commands, name, parameters]).encode()
        self._socket.sendall(b"%d:%b" % (len(data), data))
        _, _, error, result = self._frame()
        if error is not None:
            raise ScriptFailed(str(error))
        return result


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])
