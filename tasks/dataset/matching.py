"""Matching of files to samples: the role of each file, and the caption of each sample.

How ambiguous names are read: docs/media-rules.md, readings 10 to 15."""

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

from schemas.faults import refuse
from schemas.layout import IMAGE, Layout, Slot
from schemas.media import MediaFile, Role, Sample
from schemas.rejections import DuplicateName, InputRejected, MissingRole, NothingFound, UnsupportedFile
from schemas.report import Remark
from schemas.wording import either
from tasks.dataset.captions import read_caption
from tasks.dataset.names import CAPTION, MEDIA
from tasks.dataset.strays import explained
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
        suffixes = " and ".join(f"<name>{slot.suffix}" for slot in layout.slots if slot.suffix)
        formats = tuple(dict.fromkeys(e for slot in layout.slots for e in slot.extensions))
        raise NothingFound(extracted.archive, formats, f"{suffixes} " if suffixes else "")
    samples, found = _captioned(groups, captions, layout)
    used = {name: files[0].name for name, files in found.items() if len(files) == 1}
    torn = {name for name, files in found.items() if len(files) > 1}
    ignored += sorted({file.name for file in captions} - set(used.values()))
    return Matched(
        samples=tuple(samples),
        captions=used,
        ignored=explained(ignored, samples, used, torn, layout),
        warnings=(*_caption_remarks(samples, found), *_same_files(samples)),
    )


def _place(file: MediaFile, layout: Layout) -> _Placed | UnsupportedFile:
    """The role that a file's name gives it, or the error that says why it has none."""
    path = PurePosixPath(unicodedata.normalize("NFC", file.name))
    extension = path.suffix.lower()
    formats = tuple(dict.fromkeys(e for slot in layout.slots for e in slot.extensions))
    slot = next((slot for slot in layout.slots if path.stem.lower().endswith(slot.suffix)), None)
    if slot is None:
        suffixes = ", ".join(slot.suffix for slot in layout.slots)
        names = either([path.stem + slot.suffix + path.suffix for slot in layout.slots if extension in slot.extensions])
        reason = f"its name ends in none of {suffixes}" + (f"; rename it, for example to {names}" if names else "")
        return UnsupportedFile(file.name, layout.modality, formats, reason)
    if extension not in slot.extensions:
        kind = "images are" if extension in IMAGE else f"{extension} is"
        whose = f"as {slot.role}" if slot.suffix else "here"
        return UnsupportedFile(file.name, layout.modality, slot.extensions, f"{kind} not taken {whose}")
    base = path.stem[: len(path.stem) - len(slot.suffix)]
    if not base:
        reason = f"it has no name before {slot.suffix}; rename it to <name>{path.name}"
        return UnsupportedFile(file.name, layout.modality, formats, reason)
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
) -> tuple[list[Sample], dict[str, list[MediaFile]]]:
    """Samples in the order of their names, and the files that could be the caption of each."""
    samples: list[Sample] = []
    found: dict[str, list[MediaFile]] = {}
    names = _names(groups, layout)
    shelf = _Shelf(layout, captions, [group["target"] for group in groups.values()])
    for key, group in sorted(groups.items(), key=lambda item: names[item[0]]):
        found[names[key]] = shelf.captions_of(group["target"])
        caption = read_caption(found[names[key]][0]) if len(found[names[key]]) == 1 else ""
        files = {role: place.file for role, place in group.items()}
        samples.append(Sample(name=names[key], caption=caption, files=files))
    return samples, found


def _caption_remarks(samples: Sequence[Sample], found: Mapping[str, Sequence[MediaFile]]) -> Iterator[Remark]:
    for name, files in found.items():
        if len(files) > 1:
            text = f"{' and '.join(file.name for file in files)} could be its caption; none is used"
            yield Remark(sample=name, text=text, kind="several captions", role="target")
    for sample in samples:
        if not sample.caption:
            yield Remark(sample=sample.name, text="no caption", role="target")


def _same_files(samples: Sequence[Sample]) -> Iterator[Remark]:
    """Remarks on files that were packed twice: such a clip counts double, such a pair teaches nothing (reading 22)."""
    first: dict[str, Sample] = {}
    for sample in samples:
        target, reference = sample.files["target"], sample.files.get("reference")
        if reference and reference.sha256 == target.sha256:
            text = f"{reference.name} and {target.name} are the same file: there is nothing to learn from it"
            yield Remark(sample=sample.name, text=text, kind="pair of one file")
        other = first.setdefault(target.sha256, sample)
        if other is not sample:
            text = f"{target.name} is the same file as {other.files['target'].name}: it counts double"
            yield Remark(sample=sample.name, text=text, kind="same file", role="target")


class _Shelf:
    """Captions indexed by name: an archive may have thousands.

    In every layout a caption spelled as its clip comes first; one that differs in case alone is taken where no clip is
    spelled like it (docs/media-rules.md, reading 20).
    """

    def __init__(self, layout: Layout, captions: Sequence[MediaFile], targets: Sequence[_Placed]) -> None:
        self.layout = layout
        self.near, self.near_alike, self.far, self.far_alike = (defaultdict[str, list[MediaFile]](list) for _ in "1234")
        own = {_path_of(target) for target in targets}
        for file in captions:
            path = PurePosixPath(unicodedata.normalize("NFC", file.name)).with_suffix("")
            self.near[str(path)].append(file)
            self.far[path.name].append(file)
            if str(path) not in own:
                self.near_alike[str(path).casefold()].append(file)
                self.far_alike[path.name.casefold()].append(file)

    def captions_of(self, target: _Placed) -> list[MediaFile]:
        """Captions of a target: in its folder first; where names are unique across the archive, then anywhere."""
        path, base = _path_of(target), target.base
        found = self.near.get(path) or self.near_alike.get(path.casefold())
        if not found and not self.layout.folders_distinguish:
            found = self.far.get(base) or self.far_alike.get(base.casefold())
        return found or []


def _path_of(target: _Placed) -> str:
    """The path of a target's caption, without extension."""
    return str(PurePosixPath(unicodedata.normalize("NFC", target.file.name)).with_name(target.base))


def _names(groups: dict[_Key, dict[Role, _Placed]], layout: Layout) -> dict[_Key, str]:
    """Sample names: base names, with folders where these distinguish samples, with extensions where only they do."""
    if not layout.folders_distinguish:
        return {key: group["target"].base for key, group in groups.items()}
    plain = {key: str(PurePosixPath(key.folder) / group["target"].base) for key, group in groups.items()}
    taken = Counter(plain.values())
    return {key: name if taken[name] == 1 else str(PurePosixPath(key.folder) / key.name) for key, name in plain.items()}
