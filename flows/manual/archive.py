"""The archive of an endpoint on its page: its tree, who plays which role, captions, masks, and how clips are fit."""

from collections.abc import Iterator

from flows.manual.facts import ARCHIVE, Facts, file_of
from schemas.layout import IMAGE, Slot
from schemas.request import SIZES
from schemas.units import AUDIO_STEPS_PER_SECOND

SAMPLES = ("walk", "run")
ROLES = {
    "target": "what the model learns to make",
    "reference": "what it sees whole, and makes the target from",
    "mask": "which region of the target it learns",
}


def tree(facts: Facts) -> str:
    """The archive as a folder listing."""
    files = [file for sample in SAMPLES for file in (*(file_of(sample, s) for s in facts.slots), f"{sample}.txt")]
    notes = {file_of(SAMPLES[0], slot): f"{slot.role}: {ROLES[slot.role]}" for slot in facts.slots}
    notes |= {f"{SAMPLES[0]}.txt": "caption, optional"}
    width = max(map(len, files))
    lines = [f"├── {file:{width}}   {notes.get(file, '')}".rstrip() for file in files]
    return "\n".join([ARCHIVE, *lines[:-1], lines[-1].replace("├", "└")])


def role_table(facts: Facts) -> list[str]:
    """Role, name and formats of each file of a sample, and whether it must have sound."""
    rows = ["| role | name | formats | must have |", "| --- | --- | --- | --- |"]
    for slot in facts.slots:
        formats = ", ".join(f"`{each}`" for each in slot.extensions)
        rows.append(f"| {slot.role} | `NAME{slot.suffix}` | {formats} | {_needed(facts, slot)} |")
    return rows


def naming(facts: Facts) -> Iterator[str]:
    """The rules for names."""
    if len(facts.slots) > 1:
        suffixes = " and ".join(f"`{slot.suffix}`" for slot in facts.slots)
        yield f"Files that have a name in common are one sample; only {suffixes} tell them apart. All are needed."
    if facts.endpoint.layout.folders_distinguish:
        yield "Files may lie in folders; one name in two folders is two samples. A caption lies beside its clip."
    else:
        yield "Files may lie in folders, but a name is used once in the whole archive, wherever it lies."
    yield "Names and extensions are read without case."


def fitting(facts: Facts) -> Iterator[str]:
    """How clips become what the model sees."""
    yield from _picture_fitting(facts) if facts.has_picture else _sound_fitting(facts)
    if len(facts.slots) > 1:
        yield "If one file of a sample is too short, the whole sample is skipped" + (
            "; a mask's length does not matter." if any(slot.role == "mask" for slot in facts.slots) else "."
        )
    yield "Who is skipped is in the dataset report, with the reason. If nobody is left, the request is refused."


def sizes() -> list[str]:
    """Width and height of every bucket."""
    ratios = list(next(iter(SIZES.values())))
    rows = [f"| resolution | {' | '.join(ratios)} |", "| --- " * (len(ratios) + 1) + "|"]
    for name, shapes in SIZES.items():
        rows.append(f"| `{name}` | {' | '.join('x'.join(map(str, shapes[ratio])) for ratio in ratios)} |")
    return rows


def _needed(facts: Facts, slot: Slot) -> str:
    if not facts.has_picture:
        return "sound"
    sound = facts.needs(slot.role, "audio")
    if slot.extensions[0] in IMAGE:
        return "a picture; one image, or a video"
    if sound == ("",):
        return "a picture and an audio track"
    return "a picture" + "".join(f"; an audio track with `{switch}`" for switch in sound)


def _picture_fitting(facts: Facts) -> Iterator[str]:
    yield "Every clip fills the size of `resolution` and `aspect_ratio`; what lies over is cropped on both sides alike."
    yield "The first `number_of_frames` frames are taken, snapped down to 8k+1; a longer clip is cut at its end."
    yield (
        "Without `auto_scale_input` a clip keeps its own frame rate, and one with too few frames is skipped. With it, "
        "clips are retimed to `frame_rate`; a short one is slowed down, its sound with it, until it fills the frames."
    )
    if facts.request.fitting.split_above_seconds:
        yield (
            "A clip longer than `split_input_duration_threshold` is split at its cuts, and each scene is a sample "
            "with the clip's caption, unless `split_input_into_scenes` is off."
        )
    if any(track.modality == "audio" for track in facts.tracks):
        yield "The sound is that of the frames shown; where it ends before them, silence follows."


def _sound_fitting(facts: Facts) -> Iterator[str]:
    yield (
        "The first `audio_duration_seconds` of every file are taken; a longer one is cut at its end, a shorter one is "
        "skipped. Sound is never stretched."
    )
    yield f"Mono goes to both sides. The model hears 16 kHz stereo in {AUDIO_STEPS_PER_SECOND} steps a second."
