"""Common mistakes, each told by what makes it possible: a condition, a role, a track, a field. Never by an endpoint."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from flows.manual.facts import Facts


class Mistake(NamedTuple):
    """A mistake, and what to do instead; {names} are filled in from the facts."""

    possible: Callable[[Facts], bool]
    text: str


def _sound_beside_picture(facts: Facts) -> bool:
    return facts.has_picture and any(track.modality == "audio" for track in facts.tracks)


MISTAKES = (
    Mistake(
        lambda f: "reference" in f.kinds,
        "**Roles the wrong way round.** `{reference}` is what you have, `{target}` what you want to get.",
    ),
    Mistake(
        lambda f: "reference" in f.kinds,
        "**Pairs that do not run in step.** Let both files begin at the same moment and run at the same rate: the "
        "model takes what happens at one time in both for one event.",
    ),
    Mistake(
        lambda f: "reference" in f.kinds,
        "**Captions of the reference.** A caption, and a prompt, describes the target.",
    ),
    Mistake(
        lambda f: "mask" in f.kinds,
        "**Masks inverted.** WHITE is regenerated, BLACK is kept. `debug_dataset` shows what the model saw.",
    ),
    Mistake(
        lambda f: "mask" in f.kinds,
        "**A mask that is too tight.** What changes outside of it, such as a shadow, cannot be learned: paint it in.",
    ),
    Mistake(
        lambda f: "prefix" in f.kinds,
        "**An opening as long as the clip.** Something must be left to learn, in clips and in previews.",
    ),
    Mistake(
        lambda f: "prefix" in f.kinds,
        "**Clips that begin with nothing**: a black frame, a fade, a silence. It is then all that the model is given.",
    ),
    Mistake(
        lambda f: f.has_picture,
        "**Clips a little too short.** {frames} frames at 24 fps are {seconds:.2f} s; a clip of 30 fps has them sooner."
        " `ltx-flows plan` says who is skipped and which value would keep them.",
    ),
    Mistake(
        lambda f: not f.has_picture,
        "**Sounds a little too short.** Sound is never stretched: whoever lacks more than 0.02 s is skipped. "
        "`ltx-flows plan` says who, and which `audio_duration_seconds` would keep them.",
    ),
    Mistake(
        lambda f: f.has_picture,
        "**Clips of another shape.** A portrait clip in a 16:9 bucket loses most of its picture: set `aspect_ratio`.",
    ),
    Mistake(
        _sound_beside_picture,
        "**Silent clips.** Where sound is learned, a file without an audio track is refused; a track that is silent is "
        "only warned of, and teaches silence.",
    ),
    Mistake(
        lambda f: not f.has_picture,
        "**Video fields.** They are accepted, as by the hosted endpoint, and have no effect.",
    ),
    Mistake(
        lambda f: f.endpoint.layout.folders_distinguish,
        "**Captions in a folder of their own.** A caption is found beside its clip alone.",
    ),
    Mistake(
        lambda f: True,
        "**A caption whose name is not the sample's.** `walk.mp4.txt` is nobody's; the report lists it as ignored.",
    ),
    Mistake(
        lambda f: True,
        "**Prompts without the trigger phrase.** It is put in front of captions, not of your prompts.",
    ),
    Mistake(
        lambda f: True,
        "**An archive inside the archive**, or one with a password. Pack the files themselves.",
    ),
)


def mistakes(facts: Facts) -> Iterator[str]:
    """The mistakes that this endpoint makes possible."""
    names = {slot.role: f"NAME{slot.suffix}" for slot in facts.slots}
    picture = facts.request.bucket.picture
    counts = {"frames": picture.frames, "seconds": picture.frames / 24} if picture else {}
    for mistake in MISTAKES:
        if mistake.possible(facts):
            yield mistake.text.format(**names, **counts)
