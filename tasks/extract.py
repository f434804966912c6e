"""Extract: the archive's files into the store."""

from schemas.media import MediaFile
from tasks.dataset.archive import extract_archive
from tasks.manifests import Extracted
from tasks.step import step


@step("extract", version=2, says=lambda found: f"{len(found.files)} files, {len(found.ignored)} more ignored")
def extract(archive: MediaFile) -> Extracted:
    """Archive -> its files, known by their content hashes; nothing is unpacked into folders."""
    return extract_archive(archive)
