"""Matching of files to samples: the role of each file, and the caption of each sample.

How ambiguous names are read: docs/media-rules.md, readings 10 to 15."""

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

from schemas.faults import refuse
from schemas.layout import IMAGE, Layout, Slot
from schemas.media import MediaFile, Role, Sample
from schemas.rejections import DuplicateName, InputRejected, MissingRole, NothingFound, UnsupportedFile
from tasks.dataset.captions import read_caption
from tasks.dataset.names import CAPTION, MEDIA
from tasks.manifests import Extracted, Matched


class _Key(NamedTuple):
    """Matching key: the parts of a name that two files must share to belong to one sample."""

    folder: str  # "" where names are unique across the archive
    name: str


class _Placed(NamedTuple):
    """A media file with its role."""

    key: _Key
    base: str  # its name without suffix and extension
    slot: Slot
    file: MediaFile


def match_samples(extracted: Extracted, layout: Layout) -> Matched:
    """Match media files by name, and captions to them.

    Raises:
        Rejections, UnsupportedFile, DuplicateName, MissingRole: all that is wrong with the archive, together.
        NothingFound: it has no sample.
    """
    faults: list[InputRejected] = []
    placed: list[_Placed] = []
    captions: list[MediaFile] = []
    ignored = list(extracted.ignored)
    for file in extracted.files:
        extension = PurePosixPath(file.name).suffix.lower()
        if extension == CAPTION:
            captions.append(file)
        elif extension not in MEDIA:
            ignored.append(file.name)
        elif isinstance(place := _place(file, layout), _Placed):
            placed.append(place)
        else:
            faults.append(place)
    groups, duplicates = _groups(placed)
    faults += [*duplicates, *_missing(groups, layout)]
    if faults:
        refuse(faults)
    if not groups:
        raise NothingFound(extracted.archive, tuple(dict.fromkeys(e for slot in layout.slots for e in slot.extensions)))
    samples, used, warnings = _captioned(groups, captions, layout)
    ignored += sorted({file.name for file in captions} - set(used.values()))
    return Matched(samples=tuple(samples), captions=used, ignored=tuple(sorted(ignored)), warnings=tuple(warnings))


def _place(file: MediaFile, layout: Layout) -> _Placed | UnsupportedFile:
    """The role that a file's name gives it, or the error that says why it has none."""
    path = PurePosixPath(unicodedata.normalize("NFC", file.name))
    extension = path.suffix.lower()
    formats = tuple(dict.fromkeys(e for slot in layout.slots for e in slot.extensions))
    slot = next((slot for slot in layout.slots if path.stem.lower().endswith(slot.suffix)), None)
    if slot is None:
        wanted = ", ".join(slot.suffix for slot in layout.slots)
        return UnsupportedFile(file.name, layout.modality, formats, f"its name ends in none of {wanted}")
    if extension not in slot.extensions:
        kind = "images are" if extension in IMAGE else f"{extension} is"
        whose = f"as {slot.role}" if slot.suffix else "here"
        return UnsupportedFile(file.name, layout.modality, slot.extensions, f"{kind} not taken {whose}")
    base = path.stem[: len(path.stem) - len(slot.suffix)]
    if not base:
        return UnsupportedFile(file.name, layout.modality, formats, f"it has no name before {slot.suffix}")
    folder = str(path.parent)
    if layout.folders_distinguish:  # two formats of one name are two samples, too, and share a caption
        return _Placed(_Key(folder, path.name), base, slot, file)
    return _Placed(_Key("", base.casefold()), base, slot, file)


def _groups(placed: Sequence[_Placed]) -> tuple[dict[_Key, dict[Role, _Placed]], list[InputRejected]]:
    groups: dict[_Key, dict[Role, _Placed]] = {}
    faults: list[InputRejected] = []
    for place in placed:
        group = groups.setdefault(place.key, {})
        if other := group.get(place.slot.role):
            faults.append(DuplicateName(place.file.name, other.file.name))
        else:
            group[place.slot.role] = place
    return groups, faults


def _missing(groups: dict[_Key, dict[Role, _Placed]], layout: Layout) -> Iterator[MissingRole]:
    for group in groups.values():
        have = next(iter(group.values()))
        for slot in layout.slots:
            if slot.role not in group:
                own = PurePosixPath(have.file.name).suffix.lower()
                extension = own if own in slot.extensions else slot.extensions[0]
                yield MissingRole(have.file.name, slot.role, f"{have.base}{slot.suffix}{extension}")


def _captioned(
    groups: dict[_Key, dict[Role, _Placed]], captions: Sequence[MediaFile], layout: Layout
) -> tuple[list[Sample], dict[str, str], list[str]]:
    """Samples in the order of their names, the caption file of each, and warnings."""
    samples: list[Sample] = []
    used: dict[str, str] = {}
    warnings: list[str] = []
    names = _names(groups, layout)
    shelf = _Shelf(layout, captions)
    for key, group in sorted(groups.items(), key=lambda item: names[item[0]]):
        found = shelf.captions_of(group["target"])
        if len(found) > 1:
            warnings.append(
                f"{names[key]}: {' and '.join(file.name for file in found)} could be its caption; none is used"
            )
        caption = read_caption(found[0]) if len(found) == 1 else ""
        if len(found) == 1:
            used[names[key]] = found[0].name
        files = {role: place.file for role, place in group.items()}
        samples.append(Sample(name=names[key], caption=caption, files=files))
    without = [sample.name for sample in samples if not sample.caption]
    if without:
        warnings.append(f"{len(without)} of {len(samples)} samples have no caption: {', '.join(without[:10])}")
    return samples, used, warnings


class _Shelf:
    """Captions indexed by name: an archive may have thousands."""

    def __init__(self, layout: Layout, captions: Sequence[MediaFile]) -> None:
        self.layout = layout
        self.near: dict[tuple[str, str], list[MediaFile]] = defaultdict(list)
        self.anywhere: dict[str, list[MediaFile]] = defaultdict(list)
        for file in captions:
            path = PurePosixPath(file.name)
            self.near[str(path.parent), self._plain(path.stem)].append(file)
            self.anywhere[self._plain(path.stem)].append(file)

    def captions_of(self, target: _Placed) -> list[MediaFile]:
        """Captions of a target: in its folder first; where names are unique across the archive, then anywhere."""
        name = self._plain(target.base)
        near = self.near.get((str(PurePosixPath(target.file.name).parent), name), [])
        return near or ([] if self.layout.folders_distinguish else self.anywhere.get(name, []))

    def _plain(self, name: str) -> str:
        name = unicodedata.normalize("NFC", name)
        return name if self.layout.folders_distinguish else name.casefold()


def _names(groups: dict[_Key, dict[Role, _Placed]], layout: Layout) -> dict[_Key, str]:
    """Sample names: base names, with folders where these distinguish samples, with extensions where only they do."""
    if not layout.folders_distinguish:
        return {key: group["target"].base for key, group in groups.items()}
    plain = {key: str(PurePosixPath(key.folder) / group["target"].base) for key, group in groups.items()}
    taken = Counter(plain.values())
    return {key: name if taken[name] == 1 else str(PurePosixPath(key.folder) / key.name) for key, name in plain.items()}
