"""Outcomes of runs, where the API finds them: the result, or the 422's words. Beside the ledger, for all machines."""

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
    """Record a run that succeeded, with the checksums of its files."""
    _tell(run_id, {"result": result.model_dump(mode="json"), "sha256": dict(checksums or {})})


def tell_rejection(run_id: str, error: InputRejected) -> None:
    """Record the 422 of a run whose request or data is wrong. The run raises the error as well, so that a ledger which
    does not answer cannot hide it.
    """
    with suppress(LedgerUnavailable):
        _tell(run_id, {"detail": [detail.model_dump(mode="json") for detail in bounded(error.details())]})


def outcome(run_id: str) -> dict[str, Any] | None:
    """`{"result": ..., "sha256": {file name: digest}}`, `{"detail": [...]}`, or None for a run without an outcome."""
    with ledger() as connection:
        body = connection.execute(select(OUTCOMES.c.body).where(OUTCOMES.c.run_id == run_id)).scalar()
    return None if body is None else dict(json.loads(body))


def was_rejected(run_id: str) -> bool:
    """Whether an earlier try of a run ended with a 422; not known, it was not."""
    with suppress(LedgerUnavailable):
        return "detail" in (outcome(run_id) or {})
    return False


def _tell(run_id: str, body: dict[str, Any]) -> None:
    with ledger() as connection:
        put_row(connection, OUTCOMES, {"run_id": run_id, "body": json.dumps(body)})


def told_again(run_id: str) -> TrainingResult | None:
    """The result of a billed run, with links of today; None where there is no bill or the files are damaged."""
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
