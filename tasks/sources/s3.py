"""Downloads over s3, with the credentials and the endpoint that the AWS_ variables of this machine name."""

import s3fs
from botocore.exceptions import (  # type: ignore[import-untyped]
    ParamValidationError,
)

from schemas.errors import DownloadInterrupted
from tasks.sources.sink import Sink
from tasks.storage.folder import CHUNK, S3_CONFIG
from tasks.storage.patience import Patience
from tasks.storage.s3_faults import FAULTS, is_refusal


def fetch_s3(url: str, sink: Sink) -> None:
    """Fetch an object, resuming where a try broke off; s3fs notices when the object is replaced meanwhile.

    Raises:
        DownloadRejected: it is not there, or may not be read.
        DownloadInterrupted: the other side stopped answering.
    """
    address = url.split("://", 1)[1]  # as written: an object's name may hold any character
    if not address.partition("/")[0] or not address.partition("/")[2]:
        raise sink.refusal("an s3 URL is s3://bucket/name")
    patience = Patience()
    mark = ""
    while True:
        begun = sink.done
        try:
            mark = _fetch(address, sink, mark)
        except DownloadInterrupted as fault:
            if sink.done > begun:
                patience.renew()
            patience.wait(fault)
        else:
            return


def _fetch(address: str, sink: Sink, mark: str) -> str:
    """Fetch the bytes that are missing; return the ETag of their object."""
    try:
        with s3fs.S3FileSystem(config_kwargs=S3_CONFIG).open(address, "rb") as source:
            if (now := str(source.details.get("ETag", ""))) != mark:
                sink.restart()
            sink.expect(int(source.size))
            source.seek(sink.done)
            while chunk := source.read(CHUNK):
                sink.write(chunk)
            return now
    except FileNotFoundError as error:
        raise sink.refusal("there is no such object") from error
    except ParamValidationError as error:
        raise sink.refusal("there can be no bucket or object of this name") from error
    except FAULTS as error:
        if is_refusal(error):
            raise sink.refusal("access denied; check the AWS_ variables of this machine") from error
        raise sink.interruption(type(error).__name__) from error
