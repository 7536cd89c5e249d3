"""Parameters that several routes have: how the document describes them, and how handlers read them."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from taskd.api.problems import FieldError, invalid, not_found
from taskd.api.request import Request
from taskd.api.routes import Parameter
from taskd.domain.job import MAX_ID, MAX_NAME, NAME_RULE, is_name
from taskd.domain.submission import Name

MAX_PAGE = 1000
DEFAULT_PAGE = 100

Id = Annotated[int, Meta(ge=1, le=MAX_ID)]
Limit = Annotated[int, Meta(ge=1, le=MAX_PAGE)]
Who = Annotated[str, Meta(max_length=MAX_NAME)]

JOB_ID = Parameter("id", "path", Id, "The job's id")
QUEUE = Parameter("queue", "query", Name, "Only jobs of this queue")
TASK = Parameter("task", "query", Name, "Only jobs of this task")
LIMIT = Parameter("limit", "query", Limit, f"The size of the page; default {DEFAULT_PAGE}")
LOWER_IDS = Parameter("cursor", "query", Id, "Only jobs with lower ids; taken from Link")
WHO = Parameter("who", "query", Who, "The name of the person or program that makes the change")
#: The header of a response that is a page.
NEXT_PAGE = {"Link": 'The next page (rel="next"), if there is one'}


def number(query: dict[str, str], field: str, most: int) -> int | None:
    """Return a parameter that is a whole number from 1 to `most`; None if it is missing. Raises a 422 Problem."""
    text = query.get(field)
    if text is None:
        return None
    if not _is_number(text, most):
        raise invalid(FieldError(field, f"must be a whole number from 1 to {most}"))
    return int(text)


def job_id_of(request: Request) -> int:
    """Return the job's id in the path. Raises a 404 Problem."""
    text = request.segment("id")
    if not _is_number(text, MAX_ID):
        raise not_found("there is no such job: an id is a positive whole number")
    return int(text)


def check_names(query: dict[str, str]) -> None:
    """Raise a 422 Problem unless the parameters `queue` and `task` can be names."""
    for field in ("queue", "task"):
        if field in query and not is_name(query[field]):
            raise invalid(FieldError(field, NAME_RULE))


def who_of(request: Request) -> str:
    """Return the parameter `who`, the only one of the request. Raises a 422 Problem."""
    who = request.query("who").get("who", "")
    if len(who) > MAX_NAME or "\0" in who:
        raise invalid(FieldError("who", f"must be at most {MAX_NAME} characters without NUL"))
    return who


def changed_by(request: Request, who: str) -> str:
    """Return the author of a change: the token, which is proved, before the name, which any caller may give."""
    token = request.caller.name
    return " ".join(part for part in (token, f"({who})" if who and token else who) if part)


def _is_number(text: str, most: int) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= len(str(most)) and 1 <= int(text) <= most
