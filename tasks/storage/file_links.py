"""Links on a run's page that a browser opens: to files of this machine through Prefect's server of this HOME, or to S3.

A page that came over http may not open file:// links. A link is signed, so that it opens this one file and no other,
and needs no password: whoever reads it has given the server's.
"""

import hmac
import os
from hashlib import sha256
from pathlib import Path
from urllib.parse import quote, urlencode

from schemas.settings import settings
from tasks.storage.folder import Place

ROUTE = "/ltx-flows/files"  # of flows/hosting/files.py


def signature(path: str) -> str:
    """Signature of a path, with the password of this HOME's Prefect server as its key."""
    password = (settings().home_folder / "server" / "password").read_bytes()
    return hmac.new(password, f"file\n{path}".encode(), sha256).hexdigest()


def browser_link(place: Place, address: str, name: str = "") -> str | None:
    """Link to a stored file under its name; None where no browser could open it."""
    if not place.is_local:
        return place.link(address, settings().link_seconds)
    if not _is_ours(os.environ.get("PREFECT_API_URL")):
        return None
    path = str(Path(place.path(address)).absolute())
    query = urlencode({"path": path, "signature": signature(path)})
    return f"{ROUTE}/{quote(name or Path(path).name)}?{query}"


def _is_ours(server: str | None) -> bool:
    """Whether a Prefect server is this HOME's own: a team's cannot reach the files of this machine."""
    try:
        return server == (settings().home_folder / "server" / "url").read_text()
    except FileNotFoundError:
        return False
