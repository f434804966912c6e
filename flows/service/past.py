"""Past requests of a key, page by page: by endpoint, standing and trigger phrase."""

from typing import Literal, NamedTuple, get_args

from sqlalchemy import JSON, ColumnElement, Text, cast, func, select, type_coerce

from flows.service.endings import CANCELLED
from flows.service.register import REQUESTS, Entry, entries
from tasks.ledger.database import ledger

Standing = Literal["waiting", "running", "finished", "rejected", "cancelled", "failed"]
STANDINGS: tuple[Standing, ...] = get_args(Standing)
PAGE = 25


class Wanted(NamedTuple):
    """What of the history is asked for; nothing is left out by an empty word."""

    endpoint: str = ""
    standing: str = ""
    phrase: str = ""


class Page(NamedTuple):
    """One page of the history, and how many there are."""

    entries: list[Entry]
    number: int
    of: int
    found: int


def standing(entry: Entry) -> Standing:
    """How a request stands, in a word."""
    if entry.ended_at is None:
        return "running" if entry.started_at else "waiting"
    if entry.code in (200, 422):
        return "finished" if entry.code == 200 else "rejected"
    return "cancelled" if (entry.answer or {}).get("error_type") == CANCELLED[1]["error_type"] else "failed"


def page(owner: str, wanted: Wanted, number: int) -> Page:
    """A page of an owner's requests, newest first; beyond the last page, the last one."""
    with ledger() as connection:
        where = (REQUESTS.c.owner == owner, *_conditions(wanted, connection.dialect.name))
        found = connection.execute(select(func.count()).select_from(REQUESTS).where(*where)).scalar_one()
    pages = max(1, -(-found // PAGE))
    number = min(max(1, number), pages)
    newest_first = select(REQUESTS).where(*where).order_by(REQUESTS.c.submitted_at.desc(), REQUESTS.c.id)
    return Page(entries(newest_first.limit(PAGE).offset((number - 1) * PAGE)), number, pages, found)


def finished(owner: str, endpoint: str, limit: int) -> list[Entry]:
    """The latest finished requests of an endpoint, to compare with."""
    mine = (REQUESTS.c.owner == owner, REQUESTS.c.endpoint == endpoint, REQUESTS.c.code == 200)
    return entries(select(REQUESTS).where(*mine).order_by(REQUESTS.c.submitted_at.desc()).limit(limit))


def _conditions(wanted: Wanted, database: str) -> list[ColumnElement[bool]]:
    columns, found = REQUESTS.c, []
    if wanted.endpoint:
        found.append(columns.endpoint == wanted.endpoint)
    if wanted.standing:
        found.append(_stands(wanted.standing))
    if wanted.phrase.strip("\0 "):
        body = cast(columns.body, JSON) if database == "postgresql" else type_coerce(columns.body, JSON)
        phrase = body["trigger_phrase"].as_string()
        found.append(phrase.icontains(wanted.phrase.replace("\0", "").strip(), autoescape=True))
    return found


def _stands(word: str) -> ColumnElement[bool]:
    columns = REQUESTS.c
    called_off = cast(columns.answer, Text).contains(CANCELLED[1]["error_type"])
    ended, failed = columns.ended_at.is_not(None), columns.code.not_in((200, 422))
    kinds: dict[str, ColumnElement[bool]] = {
        "waiting": ~ended & columns.started_at.is_(None),
        "running": ~ended & columns.started_at.is_not(None),
        "finished": columns.code == 200,
        "rejected": columns.code == 422,
        "cancelled": ended & failed & called_off,
        "failed": ended & failed & ~called_off,
    }
    return kinds.get(word, columns.id.is_(None))
