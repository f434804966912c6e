"""The HTTP API alone, where Prefect's server and the workers are looked after elsewhere: `python -m flows.service`."""

import argparse
import sys
from collections.abc import Sequence
from contextlib import suppress

import uvicorn

from flows.service.app import create_app
from flows.service.connections import allow_many_connections, check_address, guarded, listen
from schemas.errors import LtxFlowsError
from schemas.settings import settings


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until somebody ends it; the exit status is 0, or 1 with one line on stderr."""
    parser = argparse.ArgumentParser(prog="python -m flows.service", description="The HTTP API alone.")
    parser.add_argument("--host", default="127.0.0.1", help="where it listens (127.0.0.1)")
    parser.add_argument("--port", type=int, default=8484, help="its port (8484)")
    options = parser.parse_args(arguments)
    try:
        settings()
        check_address(options.host, options.port)
        allow_many_connections()
        with suppress(KeyboardInterrupt), listen(options.host, options.port) as door:
            uvicorn.Server(guarded(create_app(names=[options.host]))).run(sockets=[door])
    except LtxFlowsError as error:
        print("\n".join(f"ltx-flows: {line}" for line in str(error).splitlines()), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
