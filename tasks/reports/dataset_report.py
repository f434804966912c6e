"""The dataset report: every file of the archive with its outcome, in the result, in the UI and in `plan`."""

from collections.abc import Iterator
from pathlib import PurePosixPath

from schemas.media import Bucket, Clip, FittedSample, Sample
from schemas.plan import Plan
from schemas.report import AudioWindow, DatasetReport, FileOutcome, PlannedSample, Suggestion, VideoWindow
from schemas.units import audio_steps, video_steps
from tasks.dataset.names import CAPTION, is_hidden
from tasks.manifests import Fitted, Matched


def dataset_report(
    matched: Matched, fitted: Fitted, bucket: Bucket, notes: tuple[str, ...] = (), plan: Plan | None = None
) -> DatasetReport:
    """The report: samples kept, skipped, warned of and ignored, and suggestions that would win back more."""
    files = [*_kept(fitted), *_skipped(matched, fitted), *_captions(matched), *_ignored(matched)]
    return DatasetReport(
        kept=len(fitted.samples),
        skipped=list(fitted.skipped),
        warnings=[*notes, *matched.warnings, *fitted.warnings],
        ignored=list(matched.ignored),
        samples=[_planned(sample) for sample in fitted.samples],
        bucket=bucket,
        wins=[win for win in fitted.wins if _leaves_something(win, plan)],
        files=sorted(files, key=lambda row: (row.file, row.sample or "")),
    )


def _planned(sample: FittedSample) -> PlannedSample:
    return PlannedSample(name=sample.name, caption=sample.caption, files=sample.files)


def _leaves_something(win: Suggestion, plan: Plan | None) -> bool:
    """Whether a suggestion's bucket exceeds the given prefix: else it would be refused, however many clips it kept."""
    if plan and plan.video and win.parameter == "number_of_frames":
        return video_steps(int(win.value)) > plan.video.kept.opening
    if plan and plan.audio and win.parameter == "audio_duration_seconds":
        return audio_steps(win.value) > plan.audio.kept.opening
    return True


def _kept(fitted: Fitted) -> Iterator[FileOutcome]:
    for sample in fitted.samples:
        texts = [text.removeprefix(f"{sample.name}: ") for text in fitted.warnings if _is_of(text, sample.name)]
        for role, file in sample.files.items():
            clip = sample.clips.get(role, Clip())
            others = tuple(f"the {other}" for other in sample.files if other != role)
            yield FileOutcome(
                file=file,
                fate="kept",
                role=role,
                sample=sample.name,
                reason="" if role in sample.clips else "this run needs no file of this role",
                video=_seen(clip),
                audio=_heard(clip),
                warnings=[text for text in texts if not text.startswith(others)],
            )


def _is_of(warning: str, name: str) -> bool:
    return warning.startswith(f"{name}: ")


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
        sample: Sample = samples.get(one.name) or samples[one.name.rpartition("#s")[0]]  # or a scene of it
        for role, file in sample.files.items():
            yield FileOutcome(file=file.name, fate="skipped", role=role, sample=one.name, reason=one.reason)


def _captions(matched: Matched) -> Iterator[FileOutcome]:
    texts = {sample.name: sample.caption for sample in matched.samples}
    for sample, file in matched.captions.items():
        yield FileOutcome(file=file, fate="caption", sample=sample, reason="" if texts[sample] else "it is empty")


def _ignored(matched: Matched) -> Iterator[FileOutcome]:
    for file in matched.ignored:
        yield FileOutcome(file=file, fate="ignored", reason=_why_ignored(file))


def _why_ignored(file: str) -> str:
    if is_hidden(file):
        return "a hidden file, or metadata of an operating system"
    if PurePosixPath(file).suffix.lower() == CAPTION:
        return "a caption of no sample, or not the only one"
    return "not a media file"
