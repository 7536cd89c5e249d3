"""What `taskd doctor` finds about one thing, and what mends it."""

from __future__ import annotations

from typing import Literal

import msgspec

Level = Literal["ok", "note", "wrong"]


class Diagnosis(msgspec.Struct, frozen=True):
    """One line of the diagnosis. What is `wrong` keeps taskd from working as promised, a `note` may do so one day.

    `mend` says what to do about it.
    """

    subject: str
    level: Level
    text: str
    mend: str = ""


def ok(subject: str, text: str) -> Diagnosis:
    """All is well."""
    return Diagnosis(subject, "ok", text)


def note(subject: str, text: str, mend: str) -> Diagnosis:
    """It works, but."""
    return Diagnosis(subject, "note", text, mend)


def wrong(subject: str, text: str, mend: str) -> Diagnosis:
    """It does not work, or not as promised."""
    return Diagnosis(subject, "wrong", text, mend)


#: What a failed connection says, in lower case, and what to do about it; `{}` is the setting. The first that fits counts.
_MENDS = (
    (("certificate", "ssl", "tls", "handshake"), "check the certificates and the TLS settings of {}"),
    (("name or service not known", "name resolution", "nodename nor servname", "translate host name", "no address",
      "domain name not found", "errors resolving"),
     "check the host name in {}"),
    (("invalid port", "port number"), "correct the port in {}"),
    (("db index is out of range",), "correct the number of the database at the end of {}"),
    (("parsing http/2",), "what listens there is another program: correct host and port in {}"),
    (("too many connections", "too many clients", "connection slots", "max number of clients"),
     "let the server take more connections, or close some"),
    (("starting up", "loading the dataset", "shutting down"), "wait until it has started"),
)  # fmt: skip


def unreached(subject: str, error: Exception, setting: str, *, tls: bool = False) -> Diagnosis:
    """Return the finding about a server that could not be reached. `setting`: the variable that says where it is.

    `tls`: it was asked by TLS, to which a server that speaks none may give no answer at all.
    """
    text = str(error)
    lower = text.lower()
    other = "start it, or check {}" + (", and that it speaks TLS there" if tls else "")
    mend = next((mend for signs, mend in _MENDS if any(sign in lower for sign in signs)), other)
    return wrong(subject, text, mend.format(setting))
