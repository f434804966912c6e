"""Faults of S3: which pass by themselves, and which do not."""

import errno

from aiohttp import ClientError as BodyError
from botocore.exceptions import (  # type: ignore[import-untyped]
    BotoCoreError,
    ClientError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
)

FAULTS = (BotoCoreError, ClientError, BodyError, OSError, TimeoutError)  # not all are OSErrors
WRONG = (errno.EPERM, errno.EINVAL, errno.ENOSYS, errno.EMSGSIZE, errno.ENAMETOOLONG)  # what s3fs makes of a 400
CUT = ("BadDigest", "IncompleteBody", "InvalidPart", "InvalidPartOrder")  # 400s, of bodies that came incomplete


def is_refusal(error: BaseException) -> bool:
    """Whether asking again would be in vain: wrong or missing credentials, or a malformed request."""
    if isinstance(error, PermissionError | NoCredentialsError | PartialCredentialsError | ParamValidationError):
        return True
    response = getattr(error.__cause__, "response", None) or {}
    return getattr(error, "errno", None) in WRONG and response.get("Error", {}).get("Code") not in CUT
