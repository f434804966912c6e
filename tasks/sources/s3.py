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

from schemas.errors import DownloadInterrupted
from tasks.storage.folder import CHUNK, S3_CONFIG
from tasks.storage.patience import Patience

if TYPE_CHECKING:
    from tasks.sources.fetch import Target

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
    """Fetch an object, going on where it broke off; s3fs notices when the object is replaced meanwhile.

    Raises:
        DownloadRejected: it is not there, or may not be read.
        DownloadInterrupted: the other side stopped answering.
    """
    address = url.split("://", 1)[1]  # as written: an object's name may hold any character
    if not address.partition("/")[0] or not address.partition("/")[2]:
        raise target.refusal("an s3 URL is s3://bucket/name")
    patience = Patience()
    mark = ""
    while True:
        begun = target.done
        try:
            mark = _fetch(address, target, mark)
        except DownloadInterrupted as fault:
            if target.done > begun:
                patience.renew()
            patience.wait(fault)
        else:
            return


def _fetch(address: str, target: "Target", mark: str) -> str:
    """Fetch what is missing; the ETag of the object that it belongs to."""
    try:
        with s3fs.S3FileSystem(config_kwargs=S3_CONFIG).open(address, "rb") as source:
            if (now := str(source.details.get("ETag", ""))) != mark:
                target.restart()
            target.expect(int(source.size))
            source.seek(target.done)
            while chunk := source.read(CHUNK):
                target.write(chunk)
            return now
    except FileNotFoundError as error:
        raise target.refusal("there is no such object") from error
    except ParamValidationError as error:
        raise target.refusal("there can be no bucket or object of this name") from error
    except FAULTS as error:
        if is_refusal(error):
            raise target.refusal("access denied; check the AWS_ variables of this machine") from error
        raise target.interruption(type(error).__name__) from error
