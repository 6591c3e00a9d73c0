"""People's mail programs, with TLS that they verify: s-nail and mutt submit at one node and read at another."""

import os
import pty
import subprocess
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
set certificate_file={ca} ssl_starttls=yes ssl_force_tls=yes ssl_usesystemcerts=no ssl_verify_host=yes
set record=imaps://localhost:{imaps}/Sent folder=imaps://localhost:{imaps}/ spoolfile=imaps://localhost:{imaps}/INBOX
set charset=utf-8 quit=yes wait_key=no pipe_decode=yes
set header_cache= message_cachedir= tmpdir={home}
"""


def mutt(site: Site, home: Path, *arguments: str, text: str | None = None) -> None:
    """Runs mutt on a terminal of its own, which it insists on when it reads mail."""
    rc = home / "muttrc"
    submissions, imaps = port(site.endpoints("submissions")[1]), port(site.endpoints("imaps")[2])
    facts = {"alice": ALICE, "login": user(ALICE), "password": site.password, "ca": site.ca, "home": home}
    rc.write_text(MUTTRC.format(**facts, submissions=submissions, imaps=imaps))
    terminal, slave = pty.openpty()
    try:
        stdin = subprocess.PIPE if text is not None else slave
        process = subprocess.Popen(
            [need("mutt"), "-n", "-F", str(rc), *arguments],
            stdin=stdin,
            stdout=slave,
            stderr=slave,
            env=environment(home),
            start_new_session=True,
        )
        process.communicate(None if text is None else text.encode(), timeout=60)
        assert process.returncode == 0, os.read(terminal, 65536).decode(errors="replace")
    finally:
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
