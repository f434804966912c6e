"""How a run ended, where the API finds it: its result, or the words of its 422. Beside the ledger, for all machines."""

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from sqlalchemy import Column, MetaData, String, Table, Text, select

from schemas.errors import LedgerUnavailable
from schemas.rejections import InputRejected, bounded
from schemas.result import File, TrainingResult
from tasks.ledger.database import ledger
from tasks.ledger.rows import put_row
from tasks.storage.outputs import Outputs

OUTCOMES = Table(
    "outcomes", MetaData(), Column("run_id", String(36), primary_key=True), Column("body", Text, nullable=False)
)


def tell_result(run_id: str, result: TrainingResult, checksums: Mapping[str, str] | None = None) -> None:
    """A run that succeeded, and what the content of its files is."""
    _tell(run_id, {"result": result.model_dump(mode="json"), "sha256": dict(checksums or {})})


def tell_rejection(run_id: str, error: InputRejected) -> None:
    """A run whose request or data is wrong: what the body of a 422 says. It is said elsewhere, too: a ledger that does
    not answer must not hide it.
    """
    with suppress(LedgerUnavailable):
        _tell(run_id, {"detail": [detail.model_dump(mode="json") for detail in bounded(error.details())]})


def outcome(run_id: str) -> dict[str, Any] | None:
    """`{"result": ..., "sha256": {file name: digest}}`, `{"detail": [...]}`, or None of a run that has not told."""
    with ledger() as connection:
        body = connection.execute(select(OUTCOMES.c.body).where(OUTCOMES.c.run_id == run_id)).scalar()
    return None if body is None else dict(json.loads(body))


def _tell(run_id: str, body: dict[str, Any]) -> None:
    with ledger() as connection:
        put_row(connection, OUTCOMES, {"run_id": run_id, "body": json.dumps(body)})


def told_again(run_id: str) -> TrainingResult | None:
    """The result of a run that was billed, with links of today; None where it was not, or its files are damaged."""
    told = outcome(run_id)
    if told is None or "result" not in told or not Outputs(run_id).are_whole(told.get("sha256", {})):
        return None
    result = TrainingResult.model_validate(told["result"])
    outputs = Outputs(run_id)
    linked = {
        field: file.model_copy(update={"url": outputs.link(file.file_name)})
        for field, file in dict(result).items()
        if isinstance(file, File)
    }
    return result.model_copy(update=linked)
