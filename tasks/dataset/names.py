"""File names in an archive: role suffixes, and the hidden files to ignore."""

from schemas.layout import AUDIO, IMAGE, VIDEO_WEBM

# Media that no endpoint takes: a file of these is a mistake to be told, where others are just not ours.
OTHER_MEDIA = (
    ".gif", ".tif", ".tiff", ".heic", ".heif", ".avif", ".svg", ".jfif",
    ".m4v", ".mpg", ".mpeg", ".wmv", ".flv", ".ts", ".mts", ".m2ts", ".3gp", ".ogv",
    ".opus", ".wma", ".aif", ".aiff", ".alac", ".oga", ".amr",
)  # fmt: skip
MEDIA = {*AUDIO, *VIDEO_WEBM, *IMAGE, *OTHER_MEDIA}
CAPTION = ".txt"


def _clean(name: str) -> str:
    return "/".join(part for part in name.replace("\\", "/").split("/") if part not in ("", "."))


def is_hidden(name: str) -> bool:
    """Whether a name is of a file that operating systems leave in archives, or that people hide."""
    parts = name.split("/")
    return any(part == "__MACOSX" or part.startswith(".") for part in parts) or parts[-1].lower() in (
        "thumbs.db", "desktop.ini",
    )  # fmt: skip
