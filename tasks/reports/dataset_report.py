"""The dataset report: every file of the archive with its outcome, in the result, in the UI and in `plan`."""

from collections.abc import Iterable, Iterator, Sequence

from schemas.media import Bucket, Clip, FittedSample, Role, Sample
from schemas.report import AudioWindow, DatasetReport, FileOutcome, PlannedSample, Remark, VideoWindow
from schemas.wording import listed
from tasks.manifests import Fitted, Matched


def dataset_report(matched: Matched, fitted: Fitted, bucket: Bucket, notes: tuple[str, ...] = ()) -> DatasetReport:
    """The report: samples kept, skipped, warned of and ignored, and suggestions that would win back more."""
    files = [*_kept(matched, fitted), *_skipped(matched, fitted), *_captions(matched), *_ignored(matched)]
    settled = len(fitted.samples) + len(fitted.skipped)
    return DatasetReport(
        kept=len(fitted.samples),
        skipped=list(fitted.skipped),
        warnings=[
            *notes,
            *_misnamed(matched),
            *grouped(matched.warnings, len(matched.samples)),
            *grouped(fitted.warnings, settled),
        ],
        ignored=[one.file for one in matched.ignored],
        samples=[_planned(sample) for sample in fitted.samples],
        bucket=bucket,
        wins=list(fitted.wins),
        files=sorted(files, key=lambda row: (row.file, row.sample or "")),
    )


def grouped(remarks: Sequence[Remark], of: int) -> list[str]:
    """One line for each kind of warning: a hundred clips with the same fault are one line, with the first names."""
    kinds: dict[tuple[Role | None, str], list[Remark]] = {}
    for remark in remarks:
        kinds.setdefault((remark.role, remark.kind or remark.text), []).append(remark)
    return [_line(alike, of) for alike in kinds.values()]


def _line(alike: Sequence[Remark], of: int) -> str:
    first = alike[0]
    if len(alike) == 1:
        return str(first)
    told = first.text if len({remark.text for remark in alike}) == 1 else f"such as {first}"
    return f"{len(alike)} of {of} samples ({listed([remark.sample for remark in alike])}): {told}"


def _misnamed(matched: Matched) -> list[str]:
    """One line for all files that were meant as captions."""
    files = [f"{one.file} ({one.reason})" for one in matched.ignored if one.meant_as_caption]
    plural = "1 file looks" if len(files) == 1 else f"{len(files)} files look"
    return (
        [f"{plural} like captions and {'is' if len(files) == 1 else 'are'} not used: {listed(files)}"] if files else []
    )


def _planned(sample: FittedSample) -> PlannedSample:
    return PlannedSample(name=sample.name, caption=sample.caption, files=sample.files)


def _kept(matched: Matched, fitted: Fitted) -> Iterator[FileOutcome]:
    remarks = _by_sample((*matched.warnings, *fitted.warnings))
    for sample in fitted.samples:
        about = [*remarks.get(_clip_of(sample.name), []), *remarks.get(sample.name, [])]
        for role, file in sample.files.items():
            clip = sample.clips.get(role, Clip())
            yield FileOutcome(
                file=file,
                fate="kept",
                role=role,
                sample=sample.name,
                reason="" if role in sample.clips else "this run needs no file of this role",
                video=_seen(clip),
                audio=_heard(clip),
                warnings=[remark.text for remark in about if remark.role in (None, role)],
            )


def _by_sample(remarks: Iterable[Remark]) -> dict[str, list[Remark]]:
    found: dict[str, list[Remark]] = {}
    for remark in remarks:
        found.setdefault(remark.sample, []).append(remark)
    return found


def _clip_of(sample: str) -> str:
    """The sample that a scene was cut from; "" of a sample that is no scene."""
    return sample.rpartition("#s")[0]


def _seen(clip: Clip) -> VideoWindow | None:
    video = clip.video
    return VideoWindow(frames=video.frames, fps=video.fps, start_seconds=video.seek_seconds) if video else None


def _heard(clip: Clip) -> AudioWindow | None:
    audio = clip.audio
    if audio is None:
        return None
    return AudioWindow(start_seconds=audio.start_seconds, seconds=audio.seconds, stretch=audio.stretch, gain=audio.gain)


def _skipped(matched: Matched, fitted: Fitted) -> Iterator[FileOutcome]:
    samples = {sample.name: sample for sample in matched.samples}
    for one in fitted.skipped:
        sample: Sample = samples.get(one.name) or samples[_clip_of(one.name)]  # or a scene of it
        for role, file in sample.files.items():
            yield FileOutcome(file=file.name, fate="skipped", role=role, sample=one.name, reason=one.reason)


def _captions(matched: Matched) -> Iterator[FileOutcome]:
    texts = {sample.name: sample.caption for sample in matched.samples}
    for sample, file in matched.captions.items():
        yield FileOutcome(file=file, fate="caption", sample=sample, reason="" if texts[sample] else "it is empty")


def _ignored(matched: Matched) -> Iterator[FileOutcome]:
    for one in matched.ignored:
        yield FileOutcome(file=one.file, fate="ignored", reason=one.reason)
