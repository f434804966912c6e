"""Rejected runs in Prefect's log: the 422's own words, and no traceback, as nobody's code is at fault."""

import logging

from schemas.rejections import InputRejected

LOGGERS = ("prefect.flow_runs", "prefect.task_runs", "prefect.engine")  # of the run's page, and of its process


class _OnlyWords(logging.Filter):
    """Leaves out the lines with which Prefect's engine tells a rejection as an unexpected exception."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not (record.exc_info and isinstance(record.exc_info[1], InputRejected))


_ONLY_WORDS = _OnlyWords()


def without_tracebacks() -> None:
    """Have this process log no traceback of a rejection; called again, it changes nothing."""
    for name in LOGGERS:
        logging.getLogger(name).addFilter(_ONLY_WORDS)
