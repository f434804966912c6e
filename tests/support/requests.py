"""A small request for every endpoint, and the data set and the media that it names."""

from tests.support import clips

WIDTH, HEIGHT, FRAMES = 512, 288, 9
PHRASE = "zoomy"
SMALL = {"trigger_phrase": PHRASE, "rank": 8, "number_of_steps": 100, "learning_rate": 0.001}
PICTURE = {"resolution": "low", "aspect_ratio": "16:9", "number_of_frames": FRAMES}
PREVIEW = {"validation_resolution": "low", "validation_aspect_ratio": "16:9", "validation_number_of_frames": FRAMES}


def small_requests(folder):
    """Requests by endpoint; their files are in the folder."""
    films = _films(folder)
    return {
        "audio-extend-prefix": _audio_extend_prefix(folder),
        "extend-prefix": _extend_prefix(folder),
        "ic-lora/a2a": _a2a(folder),
        "ic-lora/av2av": _av2av(folder, films),
        "av2av-masked": _av2av_masked(folder, films),
    }


def _request(folder, name, files, preview, **fields):
    (folder / f"{name}.zip").write_bytes(clips.zipped(files))
    body = {"training_data_url": (folder / f"{name}.zip").as_uri(), **SMALL, **fields}
    shown = {"prompt": f"{PHRASE} a wave", **{key: path.as_uri() for key, path in preview.items()}}
    return body | {"validation": [shown] if preview else []}


def _audio_extend_prefix(folder):
    tones = {f"{name}.wav": clips.tone(folder / f"{name}.wav", 0.8) for name in ("a", "b", "opening")}
    preview = {"audio_url": tones.pop("opening.wav")}
    return _request(folder, "tones", tones, preview, audio_duration_seconds=0.5, conditioning_seconds=0.25)


def _extend_prefix(folder):
    """Without previews."""
    films = {name: clips.video(folder / name, 18) for name in ("walk.mp4", "run.mp4")}
    return _request(folder, "films", films, {}, **PICTURE | {"number_of_frames": 17})


def _a2a(folder):
    names = ("a_start.wav", "a_end.mp3", "b_start.m4a", "b_end.wav")
    tones = {name: clips.tone(folder / name, 0.8, rate=44100) for name in names}
    fields = {"audio_duration_seconds": 0.5, "split_input_into_scenes": True, "debug_dataset": True}
    preview = {"reference_audio_url": tones["a_start.wav"]}
    return _request(folder, "pairs of tones", tones | {"a.txt": b"a tone"}, preview, **fields)


def _av2av(folder, films):
    """On a reference of half the frames; the preview's has its sound in another file."""
    longer = PICTURE | PREVIEW | {"number_of_frames": 17, "validation_number_of_frames": 17, "stg_scale": 0}
    silent, sound = clips.video(folder / "silent.mp4", 20), clips.tone(folder / "voice.wav", 0.8)
    preview = {"reference_video_url": silent, "reference_audio_url": sound}
    return _request(
        folder, "pairs of films", films, preview, reference_temporal_scale_factor=2, auto_scale_input=True, **longer
    )


def _av2av_masked(folder, films):
    """Half of the picture is white."""
    for name in ("a_mask.png", "b_mask.webp"):
        source = "color=black:s=96x54,drawbox=w=48:h=54:c=white:t=fill"
        clips.ffmpeg("-f", "lavfi", "-i", source, "-frames:v", "1", str(folder / name))
    masks = {name: folder / name for name in ("a_mask.png", "b_mask.webp")}
    preview = {
        "video_url": films["b_end.mp4"],
        "mask_url": masks["a_mask.png"],
        "reference_video_url": films["b_start.mp4"],
    }
    return _request(folder, "triplets", films | masks, preview, stg_scale=0, **PICTURE | PREVIEW)


def _films(folder):
    """Pairs of 12 frames with sound."""
    hues = {"a_start": 0, "a_end": 60, "b_start": 180, "b_end": 240}
    return {
        f"{name}.mp4": clips.video(folder / f"{name}.mp4", 12, sound=True, extra=("-vf", f"crop=96:54,hue=h={hue}"))
        for name, hue in hues.items()
    }
