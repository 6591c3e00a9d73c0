"""How a tenant's mail is treated where that differs from the nodes' configuration: greylisting, rates, spam, and so on.

A part of the tenant kind (actors/tenant.py). A setting is a name of the catalogue below and a value, text or a whole
number; what is not set is as each node has it. Row: p-mail, the settings by name. Values are checked when they are
set; the fold keeps what an event says, and readers pass over names that they do not know.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from actors.errors import NotAllowed
from actors.kind import Command, Fact
from eventlog.views import View

MAIL_POLICY_KEY = b"p-mail"
OFF, ON = "off", "on"
EXTENSION_MARK = "+"

Value = str | int


class Setting(NamedTuple):
    """What a setting may be: one of `choices`, or a whole number from `least` to `most`."""

    text: str
    choices: tuple[str, ...] = ()
    least: int = 0
    most: int = 1_000_000_000


_SWITCH = (ON, OFF)
SETTINGS: dict[str, Setting] = {
    "greylisting": Setting("whether servers that are not known are put off when they come first", _SWITCH),
    "greylist_delay_s": Setting("how soon such a server is taken when it comes again", most=86_400),
    "blocklists": Setting("mail of clients on DNS blocklists", ("refuse", "junk", "ignore")),
    "block_weight": Setting("how much the blocklists that name a client weigh together", least=1, most=10_000),
    "allowlists": Setting("whether DNS allowlists outweigh blocklists and greylisting", _SWITCH),
    "client_messages_per_hour": Setting("messages of one client to this tenant; 0: no limit"),
    "client_recipients_per_hour": Setting("recipients of this tenant that one client names; 0: no limit"),
    "account_connections_per_hour": Setting("SMTP connections over which one account logs in; 0: no limit"),
    "account_commands_per_hour": Setting("SMTP commands of one account that submits; 0: no limit"),
    "account_messages_per_hour": Setting("messages that one account submits; 0: no limit"),
    "account_recipients_per_hour": Setting("recipients to whom one account submits mail; 0: no limit"),
    "tenant_connections_per_hour": Setting("SMTP connections over which accounts log in; 0: no limit"),
    "tenant_commands_per_hour": Setting("SMTP commands of all accounts that submit; 0: no limit"),
    "tenant_messages_per_hour": Setting("messages that all accounts together submit; 0: no limit"),
    "tenant_recipients_per_hour": Setting("recipients to whom all accounts together submit mail; 0: no limit"),
    "account_logins_per_hour": Setting("log-ins of one account, by any protocol; 0: no limit"),
    "tenant_logins_per_hour": Setting("log-ins of all accounts together; 0: no limit"),
    "account_sessions": Setting("sessions that one account has open at a time, at all nodes; 0: no limit"),
    "tenant_sessions": Setting("sessions that all accounts together have open at a time; 0: no limit"),
    "account_bytes_per_hour": Setting(
        "octets sent to one account by IMAP and POP3 at full speed; 0: no limit", most=2**45
    ),
    "tenant_bytes_per_hour": Setting("the same of all accounts together; 0: no limit", most=2**45),
    "account_bytes_per_second": Setting(
        "octets a second to and from one account by SMTP, IMAP and POP3, then it is slowed; 0: no limit", most=2**40
    ),
    "tenant_bytes_per_second": Setting(
        "the same of all accounts together, and of mail from and to other servers; 0: no limit", most=2**40
    ),
    "spam": Setting("where mail goes that a check calls spam", ("junk", "refuse", "inbox")),
    "message_bytes": Setting("size of a message; a node's own limit holds besides", least=1024, most=2**40),
    "eight_bit": Setting("8-bit mail for servers that take 7 bits only", ("convert", "return")),
    "extensions": Setting("the mark of an address's extension, as in alice+shop", (EXTENSION_MARK, *"-=_#", OFF)),
    "pop3_apop": Setting("whether POP3 takes APOP, of accounts that have a secret for it", _SWITCH),
    "pop3_exclusive": Setting("whether a maildrop is open in one POP3 session only, of the whole cluster", _SWITCH),
    "pop3_utf8": Setting("mail with UTF-8 in its header, for POP3 clients that did not say UTF8", ("send", "refuse")),
    "authors_elsewhere": Setting(
        "mail that is submitted with an author elsewhere in From: sent with the account in Sender, or refused",
        ("send", "refuse"),
    ),
    "own_names": Setting("whether its domains' host names, as TLS asks for them, let in its accounts alone", _SWITCH),
    "password_known_bad": Setting(
        "new passwords that everybody tries, or that are one's own name", ("refuse", "allow")
    ),
    "verp": Setting("whether each recipient elsewhere gets an envelope sender of its own", _SWITCH),
}


@dataclass(frozen=True, slots=True)
class SetMailPolicy(Command):
    """Settings by name with their new values, and names of settings that are as the nodes have them again."""

    values: tuple[tuple[str, Value], ...] = ()
    reset: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class MailPolicySet(Fact):
    SINCE: ClassVar[int] = 3
    values: tuple[tuple[str, Value], ...]
    reset: tuple[str, ...]


def decide(view: View, command: SetMailPolicy) -> MailPolicySet:
    """Raises NotAllowed for a setting that there is not, or that may not be so."""
    for name, value in command.values:
        check(name, value)
    before = settings(view)
    unknown = [name for name in command.reset if name not in SETTINGS and name not in before]
    if unknown:
        raise NotAllowed(f"{unknown[0]}: there is no such setting")
    if not command.values and not command.reset:
        raise NotAllowed("nothing is to be changed")
    return MailPolicySet(command.values, command.reset)


def check(name: str, value: Value) -> None:
    """Raises NotAllowed, saying what the setting may be."""
    setting = SETTINGS.get(name)
    if setting is None:
        raise NotAllowed(f"{name}: there is no such setting")
    if setting.choices:
        if value not in setting.choices:
            raise NotAllowed(f"{name}: one of {', '.join(setting.choices)}")
    elif not isinstance(value, int) or isinstance(value, bool) or not setting.least <= value <= setting.most:
        raise NotAllowed(f"{name}: a whole number from {setting.least} to {setting.most}")


def evolve(view: View, fact: MailPolicySet) -> None:
    """The last word on each setting counts."""
    found = dict(view.get(MAIL_POLICY_KEY) or ())
    found.update(fact.values)
    for name in fact.reset:
        found.pop(name, None)
    if found:
        view.put(MAIL_POLICY_KEY, tuple(sorted(found.items())))
    else:
        view.delete(MAIL_POLICY_KEY)


def settings(view: View) -> Mapping[str, Value]:
    """What was set for the tenant whose stream this is."""
    return dict(view.peek(MAIL_POLICY_KEY) or ())


def extension_mark(view: View) -> str:
    """What separates an address from its extension; "" where there are none."""
    mark = settings(view).get("extensions", EXTENSION_MARK)
    return "" if mark == OFF else str(mark)
