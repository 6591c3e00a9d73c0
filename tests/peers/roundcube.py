"""Roundcube of Debian, served by PHP's own server on loopback, and a client that asks it what a browser would.

Its settings, database and logs are in a folder of the test's.
"""

from __future__ import annotations

import http.cookiejar
import json
import os
import re
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

PAGES, SETTINGS = Path("/var/lib/roundcube/public_html"), Path("/etc/roundcube")
_ENV = re.compile(r"rcmail\.set_env\((\{.*?\})\);\n", re.DOTALL)
_ROW = re.compile(r'this\.add_message_row\("?([^",]+)"?,(\{.*?\}),(\{.*?\}|\[\]),', re.DOTALL)


@contextmanager
def roundcube(folder: Path, *, imap: str, submission: str, ca: Path) -> Iterator[Browser]:
    """`imap`, `submission`: host:port, or tls://host:port for STARTTLS with what `ca` vouches for. Skips if missing."""
    php = shutil.which("php")
    if php is None or not PAGES.is_dir():
        pytest.skip("roundcube is not installed: scripts/debian-packages")
    _write_settings(folder, imap, submission, ca)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with (folder / "php.log").open("wb") as log:
        server = subprocess.Popen(
            [php, "-S", f"127.0.0.1:{port}", "-t", str(PAGES)],
            env={"PATH": os.environ["PATH"], "ROUNDCUBE_CONFIG_DIR": str(folder)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        _await(server, port, folder / "php.log")
        yield Browser(f"http://127.0.0.1:{port}/")
    finally:
        server.kill()
        server.wait()


def _write_settings(folder: Path, imap: str, submission: str, ca: Path) -> None:
    for name in ("defaults.inc.php", "mimetypes.php"):
        (folder / name).symlink_to(SETTINGS / name)
    trust = f"['ssl' => ['verify_peer' => true, 'verify_peer_name' => true, 'cafile' => '{ca}']]"
    (folder / "config.inc.php").write_text(
        f"""<?php
$config = [
  'db_dsnw' => 'sqlite:///{folder}/roundcube.db?mode=0600',
  'imap_host' => '{imap}', 'imap_conn_options' => {trust},
  'smtp_host' => '{submission}', 'smtp_user' => '%u', 'smtp_pass' => '%p', 'smtp_conn_options' => {trust},
  'des_key' => 'twenty-four characters..', 'plugins' => [], 'language' => 'en_US',
  'log_driver' => 'file', 'log_dir' => '{folder}', 'temp_dir' => '{folder}',
  'drafts_mbox' => 'Drafts', 'junk_mbox' => 'Junk', 'sent_mbox' => 'Sent', 'trash_mbox' => 'Trash',
];
"""
    )


def _await(server: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline_s = time.monotonic() + 10
    while True:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        assert server.poll() is None, log.read_text()
        assert time.monotonic() < deadline_s, log.read_text()
        time.sleep(0.02)


class Browser:
    """One window: pages, and the requests that their scripts make; AssertionError where one goes wrong."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar()))
        self._token = ""

    def _fetch(self, query: Mapping[str, str], data: bytes | None = None, kind: str = "") -> str:
        headers = {"X-Roundcube-Request": self._token} | ({"Content-Type": kind} if kind else {})
        request = urllib.request.Request(f"{self._root}?{urlencode(query)}", data, headers)
        try:
            with self._opener.open(request, timeout=60) as answer:
                return str(answer.read().decode())
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{query}: {error.code} {error.read().decode()[:2000]}") from None

    def page(self, data: Mapping[str, str] | None = None, **query: str) -> str:
        """A page of its own; what it gives its scripts is then in `env`."""
        text = self._fetch(query, urlencode(data).encode() if data is not None else None)
        found: dict[str, Any] = {}
        for one in _ENV.finditer(text):
            found |= json.loads(one[1])
        self.env = found
        self._token = found.get("request_token", self._token)
        return text

    def ask(self, action: str, data: Mapping[str, str] | None = None, **query: str) -> dict[str, Any]:
        """What a script asks while the page stays: an answer in JSON."""
        wanted = {"_task": "mail", "_action": action, "_remote": "1", **query}
        body = urlencode({**data, "_remote": "1"}).encode() if data is not None else None
        answer: dict[str, Any] = json.loads(self._fetch(wanted, body))
        assert '"error"' not in answer.get("exec", ""), answer
        return answer

    def log_in(self, user: str, password: str) -> None:
        self.page()
        form = {"_task": "login", "_action": "login", "_timezone": "UTC", "_url": "", "_user": user, "_pass": password}
        text = self.page({"_token": self._token, **form}, _task="login")
        assert self.env.get("task") == "mail", text[-3000:]

    def rows(self, answer: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """The messages that a list shows, by UID: its columns and flags."""
        return {
            uid: {**json.loads(columns), **(json.loads(flags) or {})}
            for uid, columns, flags in _ROW.findall(answer["exec"])
        }

    def messages(self, folder: str) -> dict[str, dict[str, Any]]:
        return self.rows(self.ask("list", _mbox=folder, _refresh="1"))

    def upload(self, compose_id: str, name: str, content: bytes) -> str:
        """An attachment; gives its id."""
        mark = uuid.uuid4().hex
        head = f'--{mark}\r\nContent-Disposition: form-data; name="_attachments[]"; filename="{name}"\r\n\r\n'
        body = head.encode() + content + f"\r\n--{mark}--\r\n".encode()
        query = {"_task": "mail", "_action": "upload", "_id": compose_id, "_uploadid": "upload1", "_remote": "1"}
        answer = self._fetch({**query, "_from": "compose"}, body, f"multipart/form-data; boundary={mark}")
        found = re.search(r"rcmfile([0-9a-f]+)", answer)
        assert found is not None, answer
        return found[1]

    def send(self, to: str, subject: str, text: str, attachment: tuple[str, bytes]) -> None:
        """Composes and sends, as the form of the page does."""
        page = self.page(_task="mail", _action="compose")
        compose_id = self.env["compose_id"]
        sender = re.search(r'name="_from".*?value="(\d+)"', page, re.DOTALL)
        assert sender is not None, page
        file_id = self.upload(compose_id, *attachment)
        form = {
            "_token": self._token, "_task": "mail", "_action": "send", "_id": compose_id, "_attachments": file_id,
            "_from": sender[1], "_to": to, "_cc": "", "_bcc": "", "_replyto": "", "_followupto": "",
            "_subject": subject, "_draft_saveid": "", "_draft": "", "_is_html": "0", "_framed": "1",
            "_message": text, "_store_target": "Sent", "_priority": "0", "_mdn": "", "_dsn": "",
        }  # fmt: skip
        answer = self.page(form, _task="mail", _action="send")
        assert "sent_successfully" in answer or "successfully" in answer, answer
