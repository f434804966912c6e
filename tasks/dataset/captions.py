"""Captions as their authors wrote them, and the trigger phrase in front of them."""

import codecs
import unicodedata

from schemas.media import MediaFile
from tasks.storage.store import store

LONGEST = 1 << 20  # bytes; a text file beyond is no caption

_MARKS = {codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


def read_caption(file: MediaFile) -> str:
    """The text of a caption file, stripped."""
    with store().media(file.sha256) as path, path.open("rb") as text:
        return decode(text.read(LONGEST))


def decode(raw: bytes) -> str:
    """Text of a caption's bytes: UTF-8 with or without a mark, UTF-16 with one, else Latin-1, valid for every byte."""
    for mark, encoding in _MARKS.items():
        if raw.startswith(mark):
            return raw.decode(encoding, errors="replace").strip()
    try:
        return raw.decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        return raw.decode("latin-1").strip()


def with_trigger(caption: str, trigger_phrase: str) -> str:
    """The trigger phrase in front of a caption, joined with one space; not a second time where it stands there."""
    phrase, text = trigger_phrase.strip(), caption.strip()
    if not phrase or _starts_with(text, phrase):
        return text
    return f"{phrase} {text}".strip()


def _starts_with(text: str, phrase: str) -> bool:
    """Whether a text starts with a phrase as whole words: `avocado` does not start with `av`."""
    text, phrase = unicodedata.normalize("NFC", text), unicodedata.normalize("NFC", phrase)
    return text.startswith(phrase) and not text[len(phrase) :][:1].isalnum()
