"""Downloads over s3, with the credentials and the endpoint that the AWS_ variables of this machine name."""

import errno
from typing import TYPE_CHECKING

import s3fs
from aiohttp import ClientError as BodyError
from botocore.exceptions import (  # type: ignore[import-untyped]
    BotoCoreError,
    ClientError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
)

from tasks.place import CHUNK

if TYPE_CHECKING:
    from tasks.fetching import Target

FAULTS = (BotoCoreError, ClientError, BodyError, OSError, TimeoutError)  # not all are OSErrors
WRONG = (errno.EPERM, errno.EINVAL, errno.ENOSYS, errno.EMSGSIZE, errno.ENAMETOOLONG)  # what s3fs makes of a 400
CUT = ("BadDigest", "IncompleteBody", "InvalidPart", "InvalidPartOrder")  # 400s, of bodies that came incomplete


def is_refusal(error: BaseException) -> bool:
    """Whether asking again would be in vain: credentials that are wrong or missing, a request that makes no sense."""
    if isinstance(error, PermissionError | NoCredentialsError | PartialCredentialsError | ParamValidationError):
        return True
    response = getattr(error.__cause__, "response", None) or {}
    return getattr(error, "errno", None) in WRONG and response.get("Error", {}).get("Code") not in CUT


def fetch_s3(url: str, target: "Target") -> None:
    """Fetch an object; s3fs tries each block again by itself, and notices when the object is replaced meanwhile.

    Raises:
        DownloadRejected: it is not there, or may not be read.
        DownloadInterrupted: the other side stopped answering.
    """
    address = url.split("://", 1)[1]  # as written: an object's name may hold any character
    if not address.partition("/")[0] or not address.partition("/")[2]:
        raise target.refusal("an s3 URL is s3://bucket/name")
    try:
        with s3fs.S3FileSystem().open(address, "rb") as source:
            target.expect(int(source.size))
            while chunk := source.read(CHUNK):
                target.write(chunk)
    except FileNotFoundError as error:
        raise target.refusal("there is no such object") from error
    except ParamValidationError as error:
        raise target.refusal("there can be no bucket or object of this name") from error
    except (PermissionError, NoCredentialsError) as error:
        raise target.refusal("access denied; check the AWS_ variables of this machine") from error
    except FAULTS as error:
        raise target.interruption(type(error).__name__) from error
