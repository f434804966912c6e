"""Ignored files: why no sample uses them. A file that was meant as a caption is told the name it should have.

Documented in docs/media-rules.md, readings 13 and 20.
"""

import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import PurePosixPath

from schemas.layout import Layout
from schemas.media import MediaFile, Sample
from schemas.report import Ignored
from schemas.wording import either
from tasks.dataset.names import ABOUT_ALL, CAPTION, LIKE_CAPTIONS, MEDIA, TABLE_NAMES, TABLES, is_hidden

MOST_PLACES = 3  # that one file is told it could have: more are no help


def explained(
    names: Iterable[str], samples: Sequence[Sample], used: Mapping[str, str], torn: Collection[str], layout: Layout
) -> tuple[Ignored, ...]:
    """Why each of these files is ignored.

    Args:
        names: of the files that no sample uses.
        samples: of the archive.
        used: the caption file of each sample that has one, by the sample's name.
        torn: names of samples that have none because several would do.
        layout: of the archive.
    """
    wanted = _Wanted(samples, used, torn, layout)
    return tuple(wanted.explain(name) for name in sorted(names))


class _Wanted:
    """The captions that samples could have, and how they would have to be called."""

    def __init__(
        self, samples: Sequence[Sample], used: Mapping[str, str], torn: Collection[str], layout: Layout
    ) -> None:
        self.used, self.torn, self.layout = used, torn, layout
        self.samples: defaultdict[str, list[Sample]] = defaultdict(list)
        for sample in samples:
            for form in self._forms(PurePosixPath(_plain(sample.files["target"].name)).name):
                self.samples[form].append(sample)
        self.example = f", such as {_caption_of(samples[0].files['target'], layout)}" if samples else ""

    def explain(self, name: str) -> Ignored:
        if is_hidden(name):
            return Ignored(file=name, reason="a hidden file, or metadata of an operating system")
        path = PurePosixPath(_plain(name))
        extension, stem = path.suffix.lower(), path.stem.casefold()
        text = extension in (CAPTION, *LIKE_CAPTIONS)
        if text and (meant := self._meant(path)):
            return Ignored(file=name, reason=self._reason(extension, path, meant), meant_as_caption=True)
        if extension in TABLES or (text and stem in TABLE_NAMES):
            reason = f"a table of captions is not read: write each into a text file named as its clip{self.example}"
            return Ignored(file=name, reason=reason, meant_as_caption=True)
        if extension == CAPTION and stem not in ABOUT_ALL:
            reason = f"a caption without a clip: no sample is called {path.stem}"
            return Ignored(file=name, reason=reason, meant_as_caption=True)
        return Ignored(file=name, reason="neither a media file nor a caption")

    def _meant(self, path: PurePosixPath) -> list[Sample]:
        """The samples that a caption may be for: those in its folder, else those anywhere."""
        named = next((self.samples[form] for form in self._forms(path.stem) if form in self.samples), [])
        folder = str(path.parent).casefold()
        near = [sample for sample in named if str(_folder(sample)).casefold() == folder]
        return near or named

    def _forms(self, stem: str) -> Iterator[str]:
        """A name as it is, without a media extension (`a.mp4`), and without a role's suffix (`a_end`)."""
        stem = stem.casefold()
        plain = stem[: -len(suffix)] if (suffix := PurePosixPath(stem).suffix) in MEDIA else stem
        yield from dict.fromkeys((stem, plain, *(plain.removesuffix(slot.suffix) for slot in self.layout.slots)))

    def _reason(self, extension: str, path: PurePosixPath, meant: Sequence[Sample]) -> str:
        free = [sample for sample in meant if sample.name not in self.used]
        if not free:
            return f"not used: the caption of {meant[0].name} is {self.used[meant[0].name]}"
        places = either([_caption_of(sample.files["target"], self.layout) for sample in free[:MOST_PLACES]])
        if extension != CAPTION:
            return f"not read as a caption: write its text into {places}"
        if free[0].name in self.torn:
            return f"one of several captions that {free[0].name} could have, so none is used: keep one"
        move = PurePosixPath(places).name == path.name
        return f"not the name of a caption: {'move' if move else 'rename'} it to {places}"


def _caption_of(target: MediaFile, layout: Layout) -> str:
    """The name that the caption of a target should have."""
    path = PurePosixPath(_plain(target.name))
    suffix = next(slot.suffix for slot in layout.slots if slot.role == "target")
    return str(path.with_name(path.stem[: len(path.stem) - len(suffix)] + CAPTION))


def _folder(sample: Sample) -> PurePosixPath:
    return PurePosixPath(_plain(sample.files["target"].name)).parent


def _plain(name: str) -> str:
    return unicodedata.normalize("NFC", name)
