"""People's mail programs, with TLS that they verify: s-nail and mutt submit at one node and read at another."""

import os
import pty
import select
import subprocess
import time
from pathlib import Path

from tests.acceptance.site import ALICE, BOB, Site, need

SUBJECT = "Grüße aus dem Test"
TEXT = "Ein Körper mit Umlauten\n.und ein Punkt am Anfang\n"


def port(endpoint: str) -> str:
    return endpoint.rpartition(":")[2]


def user(address: str) -> str:
    return address.replace("@", "%40")


def environment(home: Path) -> dict[str, str]:
    return {"HOME": str(home), "PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "TERM": "xterm"}


def s_nail(site: Site, home: Path, *arguments: str, text: str = "") -> str:
    settings = [
        *("-S", "v15-compat=yes", "-S", "tls-verify=strict", "-S", "tls-ca-no-defaults"),
        *("-S", f"tls-ca-file={site.ca}", "-S", "ttycharset=utf-8"),
    ]
    done = subprocess.run(
        [need("s-nail"), "-:/", *settings, *arguments],
        input=text,
        capture_output=True,
        text=True,
        timeout=60,
        env=environment(home),
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_s_nail_submits_at_one_node_and_reads_at_another(site: Site, tmp_path: Path) -> None:
    mta = f"submission://{user(ALICE)}:{site.password}@localhost:{port(site.endpoints('submission')[0])}"
    auth = ("-S", "smtp-auth=plain", "-S", "smtp-use-starttls", "-S", f"from={ALICE}")
    s_nail(site, tmp_path, "-S", f"mta={mta}", *auth, "-s", SUBJECT, BOB, text=TEXT)
    site.cluster.wait_settled()
    box = f"imap://{user(BOB)}:{site.password}@localhost:{port(site.endpoints('imap')[1])}/INBOX"
    login = ("-S", "imap-use-starttls", "-S", "imap-auth=login")
    shown = s_nail(site, tmp_path, *login, "-R", "-Y", "type $", "-Y", "exit", "-#", "-f", box)
    assert SUBJECT in shown
    assert TEXT in shown


MUTTRC = """\
set from={alice} realname=Alice use_from=yes
set smtp_url=smtps://{login}@localhost:{submissions} smtp_pass={password}
set imap_user={alice} imap_pass={password}
set certificate_file={ca} ssl_starttls=yes ssl_force_tls=yes ssl_verify_host=yes
set record=imaps://localhost:{imaps}/Sent folder=imaps://localhost:{imaps}/ spoolfile=imaps://localhost:{imaps}/INBOX
set charset=utf-8 quit=yes wait_key=no pipe_decode=yes
set tmpdir={home}
"""


def mutt(site: Site, home: Path, *arguments: str, text: str | None = None) -> None:
    """Runs mutt on a terminal of its own, which it insists on when it reads mail."""
    rc = home / "muttrc"
    submissions, imaps = port(site.endpoints("submissions")[1]), port(site.endpoints("imaps")[2])
    facts = {"alice": ALICE, "login": user(ALICE), "password": site.password, "ca": site.ca, "home": home}
    rc.write_text(MUTTRC.format(**facts, submissions=submissions, imaps=imaps))
    on_a_terminal([need("mutt"), "-n", "-F", str(rc), *arguments], environment(home), text)


def on_a_terminal(command: list[str], env: dict[str, str], text: str | None, timeout_s: float = 60) -> None:
    terminal, slave = pty.openpty()
    stdin = slave if text is None else subprocess.PIPE
    process = subprocess.Popen(
        command, stdin=stdin, stdout=slave, stderr=slave, env=env, cwd=env["HOME"], start_new_session=True
    )
    shown = b""
    try:
        if process.stdin is not None and text is not None:
            process.stdin.write(text.encode())
            process.stdin.close()
        deadline = time.monotonic() + timeout_s
        while process.poll() is None and time.monotonic() < deadline:
            if select.select([terminal], [], [], 0.1)[0]:
                shown += os.read(terminal, 65536)
        assert process.poll() == 0, shown[-2000:].decode(errors="replace")
    finally:
        process.kill()
        process.wait()
        os.close(slave)
        os.close(terminal)


def test_mutt_submits_keeps_a_copy_in_sent_and_reads_it_again(site: Site, tmp_path: Path) -> None:
    mutt(site, tmp_path, "-s", SUBJECT, BOB, text=TEXT)
    site.cluster.wait_settled()
    out = tmp_path / "read"
    read = f"<last-entry><pipe-message>cat > {out}<enter><quit>"
    sent = f"imaps://localhost:{port(site.endpoints('imaps')[2])}/Sent"
    mutt(site, tmp_path, "-f", sent, "-e", f"push '{read}'")
    shown = out.read_text()
    assert SUBJECT in shown
    assert "Ein Körper mit Umlauten" in shown
