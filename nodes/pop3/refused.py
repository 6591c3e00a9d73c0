"""What a POP3 client is told of a log-in that was refused, with the response codes of RFC 2449 and RFC 3206."""

from nodes.logins.door import LoginRefused
from nodes.pop3.events import Event
from nodes.pop3.session import Session


def answer_to(session: Session, error: LoginRefused) -> Event:
    """The session's answer; it stays where it was, before log-in."""
    match error.reason:
        case "malformed":
            return session.not_logged_in("That is not a response of this mechanism", "", error.code)
        case "blocked":
            return session.not_logged_in("Too many wrong passwords, try again later", "AUTH", error.code)
        case "overloaded":
            return session.not_logged_in("Too many log-ins, try again later", "SYS/TEMP", error.code)
        case "away":
            return session.not_logged_in("Passwords can not be checked now, try again later", "SYS/TEMP", error.code)
        case "limited":
            return session.not_logged_in(error.text.capitalize(), "SYS/TEMP", error.code)
        case "suspended":
            return session.not_logged_in(error.text.capitalize(), "SYS/PERM", error.code)  # RFC 3206
        case "wrong":
            return session.not_logged_in("Wrong name or password", "AUTH")
