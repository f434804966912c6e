"""File names in an archive: kinds of files by extension, and the hidden ones to ignore."""

from schemas.layout import AUDIO, IMAGE, VIDEO_WEBM

# Media that no endpoint takes: a file of these is a mistake to be told, where others are just not ours.
OTHER_MEDIA = (
    ".gif", ".tif", ".tiff", ".heic", ".heif", ".avif", ".svg", ".jfif",
    ".m4v", ".mpg", ".mpeg", ".wmv", ".flv", ".ts", ".mts", ".m2ts", ".3gp", ".ogv",
    ".opus", ".wma", ".aif", ".aiff", ".alac", ".oga", ".amr",
)  # fmt: skip
MEDIA = {*AUDIO, *VIDEO_WEBM, *IMAGE, *OTHER_MEDIA}
CAPTION = ".txt"
# Captions of other trainers: named as ignored, with what to do.
LIKE_CAPTIONS = (
    ".caption", ".captions", ".cap", ".prompt", ".text", ".md", ".rtf",
    ".json", ".yaml", ".yml", ".xml", ".srt", ".vtt",
)  # fmt: skip
TABLES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet", ".xlsx")
TABLE_NAMES = ("captions", "caption", "prompts", "metadata", "dataset", "labels", "annotations")
ABOUT_ALL = ("readme", "license", "licence", "notes", "credits")  # texts that are about no clip


def _clean(name: str) -> str:
    return "/".join(part for part in name.replace("\\", "/").split("/") if part not in ("", "."))


def is_hidden(name: str) -> bool:
    """Whether a name is of a file that operating systems leave in archives, or that people hide."""
    parts = name.split("/")
    return any(part == "__MACOSX" or part.startswith(".") for part in parts) or parts[-1].lower() in (
        "thumbs.db", "desktop.ini",
    )  # fmt: skip
