"""Diagnoses of `taskd doctor`: the state of one subject, and what to do about it."""

from __future__ import annotations

from typing import Literal

import msgspec

Level = Literal["ok", "note", "wrong"]


class Diagnosis(msgspec.Struct, frozen=True):
    """One line of the doctor's report. A `wrong` subject keeps taskd from working as promised; a `note` may do so later.

    `advice` says what to do about it.
    """

    subject: str
    level: Level
    text: str
    #: `mend` in the JSON of `taskd doctor`, which programs read.
    advice: str = msgspec.field(default="", name="mend")


def ok(subject: str, text: str) -> Diagnosis:
    """Return the diagnosis of a subject in good order."""
    return Diagnosis(subject, "ok", text)


def note(subject: str, text: str, advice: str) -> Diagnosis:
    """Return the diagnosis of a subject that works, but should be changed."""
    return Diagnosis(subject, "note", text, advice)


def wrong(subject: str, text: str, advice: str) -> Diagnosis:
    """Return the diagnosis of a subject that does not work, or not as promised."""
    return Diagnosis(subject, "wrong", text, advice)


#: What a failed connection says, in lower case, and what to do about it; `{}` is the setting. The first that fits counts.
_ADVICE = (
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
    advice = next((advice for signs, advice in _ADVICE if any(sign in lower for sign in signs)), other)
    return wrong(subject, text, advice.format(setting))
