"""The commands as a person types them, on a real Prefect server: runs at once, on one HOME, from zips of clips."""

import json
import subprocess
import sys
from decimal import Decimal

import numpy as np
import pytest
import soundfile
from safetensors.torch import load_file

from tests.support.clips import ffmpeg
from tests.support.sweeps import swept
from tests.support.typed import FRAMES, audio_request, command, finished, living, path_of, silent_request, video_request

pytestmark = pytest.mark.slow(seconds=110)

OUTPUTS = {"lora_file", "config_file", "video", "audio", "debug_dataset", "dataset_report", "billing"}
OUTPUTS |= {"loss_curve", "samples", "warnings"}
BOTH_STREAMS = {
    f"{attention}.{projection}"
    for attention in ("attn1", "attn2", "audio_attn1", "audio_attn2", "audio_to_video_attn", "video_to_audio_attn")
    for projection in ("to_q", "to_k", "to_v", "to_out.0")
}
AUDIO_ONLY = {f"audio_attn{n}.{p}" for n in (1, 2) for p in ("to_q", "to_k", "to_v", "to_out.0")} | {
    "audio_ff.net.0.proj",
    "audio_ff.net.2",
}
GOOD = swept(["extend-prefix", "audio-extend-prefix"], short=1)
WIDTH, HEIGHT = 512, 288
EXACT = "bicubic+accurate_rnd+full_chroma_int"


@pytest.fixture(scope="module")
def runs(tmp_path_factory, prefect_database):
    """Two runs at once, one of which must fail, and what was left when both had ended."""
    folder = tmp_path_factory.mktemp("runs")
    home = folder / "home"
    prefect_database.copy_to(home / "prefect")
    requests = {
        "extend-prefix": video_request(folder),
        "silent": silent_request(folder),
    }
    for name, body in requests.items():
        (folder / f"{name}.json").write_text(json.dumps(body))
    started = {
        name: command(home, "run", "extend-prefix", folder / f"{name}.json", "--output", folder / "out")
        for name in requests
    }
    ended = {name: finished(process) for name, process in started.items()}
    left = living(home)
    assert ended["extend-prefix"][0] == 0, ended
    told = json.loads(ended["extend-prefix"][1])
    return {"home": home, "folder": folder, "left": left, "extend-prefix": told, "all": ended}


@pytest.fixture(scope="module")
def sounds(runs):
    """A run of sounds on the same home."""
    folder, name = runs["folder"], "audio-extend-prefix"
    (folder / f"{name}.json").write_text(json.dumps(audio_request(folder)))
    code, out, err = finished(command(runs["home"], "run", name, folder / f"{name}.json", "--output", folder / "out"))
    assert code == 0, err
    return json.loads(out)


@pytest.fixture
def result(request, runs, name):
    """What a run says on stdout."""
    return runs[name] if name in runs else request.getfixturevalue("sounds")


def test_no_process_stays_behind(runs):
    assert runs["left"] == []


def test_runs_on_one_home_share_its_server(runs):
    log = (runs["home"] / "server" / "server.log").read_text()
    assert log.count("Prefect's pages") == 1


@pytest.mark.parametrize("name", GOOD)
def test_the_document_has_the_documented_outputs(result, name):
    assert result.keys() == OUTPUTS
    files = [file for key, file in result.items() if file and key not in ("billing", "samples", "warnings")]
    assert result["samples"]["kept"] > 0 and "random weights" in result["warnings"][0]
    assert all(file.keys() == {"url", "content_type", "file_name", "file_size"} for file in files)
    assert all(path_of(file).stat().st_size == file["file_size"] for file in files)


@pytest.mark.parametrize("name", GOOD)
def test_the_preview_is_a_video_or_a_sound_as_the_endpoint_says(result, name):
    shown, other, kind = ("audio", "video", "audio/wav") if "audio" in name else ("video", "audio", "video/mp4")
    assert (result[shown]["content_type"], result[other]) == (kind, None)


@pytest.mark.parametrize(
    ("name", "usd_per_step", "usd"),
    swept([("extend-prefix", "0.0062", "0.62"), ("audio-extend-prefix", "0.0022", "0.22")], short=1),
)
def test_a_run_is_billed_once(runs, result, name, usd_per_step, usd):
    assert result["billing"] == {"billable_units": 100, "usd_per_step": usd_per_step, "usd": usd}
    code, out, _ = finished(command(runs["home"], "bills", "--json"))
    rows = [row for row in json.loads(out) if row["endpoint"] == name]
    assert (code, [Decimal(row["billing"]["usd"]) for row in rows]) == (0, [Decimal(usd)])


@pytest.mark.parametrize(
    ("name", "modules"), swept([("extend-prefix", BOTH_STREAMS), ("audio-extend-prefix", AUDIO_ONLY)], short=1)
)
def test_the_lora_has_the_official_keys_for_the_plans_modules(result, name, modules):
    tensors = load_file(path_of(result["lora_file"]))
    sides = {
        f"diffusion_model.transformer_blocks.{block}.{module}.lora_{side}.weight"
        for block in (0, 1)
        for module in modules
        for side in "AB"
    }
    assert tensors.keys() == sides
    assert {str(tensor.dtype) for tensor in tensors.values()} == {"torch.bfloat16"}


@pytest.mark.parametrize("name", GOOD)
def test_every_adapter_has_moved(result, name):
    tensors = load_file(path_of(result["lora_file"]))
    assert [key for key, tensor in tensors.items() if ".lora_B." in key and not tensor.any()] == []


def test_too_short_clips_are_skipped_and_reported_by_name(runs):
    report = json.loads(path_of(runs["extend-prefix"]["dataset_report"]).read_text())
    assert [sample["name"] for sample in report["samples"]] == ["near/run", "walk"]
    assert [(skip["name"], "have 8 frames" in skip["reason"]) for skip in report["skipped"]] == [("blink", True)]


@pytest.mark.long
def test_too_short_sounds_are_skipped_and_reported_by_name(sounds):
    report = json.loads(path_of(sounds["dataset_report"]).read_text())
    assert (report["kept"], [skip["name"] for skip in report["skipped"]]) == (3, ["short"])


def test_captions_stay_with_their_clips(runs):
    report = json.loads(path_of(runs["extend-prefix"]["dataset_report"]).read_text())
    assert {sample["name"]: sample["caption"] for sample in report["samples"]} == {
        "near/run": "a run",
        "walk": "a walk",
    }


def test_the_config_says_what_was_trained_on_what(runs):
    config = json.loads(path_of(runs["extend-prefix"]["config_file"]).read_text())
    assert (config["training_type"], config["trigger_phrase"]) == ("extend-prefix", "zoomy")
    assert (config["base_model"]["id"], config["base_model"]["random_weights"]) == ("tiny", True)
    assert set(config["adapter"]["targets"]) == BOTH_STREAMS
    assert config["request"]["number_of_frames"] == 20


def decoded(path, *options):
    command = ["ffmpeg", "-v", "error", "-i", path, *options, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    return np.frombuffer(subprocess.run(command, capture_output=True, check=True).stdout, np.uint8)


def reel(runs):
    raw = decoded(path_of(runs["extend-prefix"]["video"]), "-sws_flags", EXACT)
    band = len(raw) // (2 * FRAMES * WIDTH * 3) - HEIGHT
    return raw.reshape(2, FRAMES, HEIGHT + band, WIDTH, 3), band


def test_the_reel_shows_before_and_after_with_a_caption_band(runs):
    frames, band = reel(runs)
    assert 16 <= band <= 120
    captions = frames[:, 0, HEIGHT:].astype(int)
    assert captions.max() - captions.min() > 100  # something is written
    assert np.abs(captions[0] - captions[1]).max() > 100  # and the step differs


def test_the_reels_opening_is_the_given_prefix(runs):
    frames, _ = reel(runs)
    fit = (
        f"crop='min(iw,ih*{WIDTH}/{HEIGHT})':'min(ih,iw*{HEIGHT}/{WIDTH})':exact=1,scale={WIDTH}:{HEIGHT}:flags={EXACT}"
    )
    raw = decoded(runs["folder"] / "opening.mp4", "-vf", fit, "-frames:v", "9")
    given = raw.reshape(9, HEIGHT, WIDTH, 3).astype(int)
    for segment in frames[:, :9, :HEIGHT].astype(int):
        assert np.abs(segment - given).mean() < 6  # H.264 in between
    assert np.abs(frames[:, 9:, :HEIGHT].astype(int) - given[-1]).mean() > 20  # the rest is generated


def test_the_reel_has_sound_as_long_as_its_pictures(runs, tmp_path):
    ffmpeg("-i", str(path_of(runs["extend-prefix"]["video"])), str(tmp_path / "reel.wav"))
    sound, rate = soundfile.read(tmp_path / "reel.wav")
    assert len(sound) / rate == pytest.approx(2 * FRAMES / 24, abs=0.05)
    assert np.abs(sound).max() > 0.1


@pytest.mark.long
def test_the_sound_reel_opens_with_the_given_sound(runs, sounds):
    sound, rate = soundfile.read(path_of(sounds["audio"]))
    span = round(17 / 24 * rate)  # 1 s at 24 frames per second snaps to 17 frames
    assert len(sound) == 2 * span
    given = soundfile.read(runs["folder"] / "opening.wav")[0]
    heard = sound[: round(0.4 * rate), 0]
    pitch = np.fft.rfftfreq(len(heard), 1 / rate)[np.abs(np.fft.rfft(heard)).argmax()]
    assert pitch == pytest.approx(440, abs=3)
    assert np.abs(heard).max() == pytest.approx(0.891, abs=0.02)  # normalised to -1 dBFS, like the training clips
    assert len(given) > 0


def test_a_wrong_request_lists_all_faults_and_leaves_nothing_behind(tmp_path):
    body = {"rank": 33, "conditioning_frames": 10, "surprise": 1}
    (tmp_path / "request.json").write_text(json.dumps(body))
    code, out, err = finished(command(tmp_path / "home", "run", "extend-prefix", tmp_path / "request.json"))
    assert (code, err) == (2, "")
    found = {(tuple(fault["loc"]), fault["type"]) for fault in json.loads(out)["detail"]}
    assert found == {
        (("body", "training_data_url"), "missing"),
        (("body", "rank"), "one_of"),
        (("body", "conditioning_frames"), "multiple_of"),
        (("body", "surprise"), "extra_forbidden"),
    }
    assert not (tmp_path / "home").exists()


def test_plan_answers_without_torch_or_prefect(runs):
    folder = runs["folder"]
    code, out, _ = finished(command(runs["home"], "plan", "extend-prefix", folder / "extend-prefix.json"))
    answer = json.loads(out)
    assert (code, answer["kept"], answer["billable_units"], answer["usd"]) == (0, 2, 100, "0.62")
    assert answer["samples"][1] == {"name": "walk", "caption": "a walk", "files": {"target": "walk.mp4"}}
    assert answer["bucket"]["picture"] == {"width": 512, "height": 288, "frames": 17, "fps": 24.0}
    check = "import sys, flows.cli, flows.plan; sys.exit(bool({'torch', 'prefect'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


def test_runs_are_on_the_homes_own_server_and_none_starts_another(runs):
    assert not [name for name, (_, _, told) in runs["all"].items() if "temporary server" in told]


def test_data_that_is_wrong_ends_the_run_with_422_and_costs_nothing(runs):
    code, out, _ = runs["all"]["silent"]
    assert (code, [fault["type"] for fault in json.loads(out)["detail"]]) == (2, ["feature_not_supported"])
    assert "silent.mp4" in json.loads(out)["detail"][0]["msg"]
    rows = json.loads(finished(command(runs["home"], "bills", "--json"))[1])
    assert [row["endpoint"] for row in rows].count("extend-prefix") == 1


def test_a_run_says_loudly_that_the_base_model_has_random_weights(runs):
    assert "ltx-flows: RANDOM WEIGHTS: the base model `tiny`" in runs["all"]["extend-prefix"][2]


@pytest.mark.long
def test_a_base_model_that_is_not_there_is_one_line_that_says_what_to_do(runs):
    folder = runs["folder"]
    request, nowhere = folder / "extend-prefix.json", str(folder / "nowhere")
    code, out, err = finished(command(runs["home"], "run", "extend-prefix", request, LTX_FLOWS_BASE_MODEL=nowhere))
    assert (code, out) == (1, "")
    assert "nowhere" in err.splitlines()[-1]
    assert "is neither a folder nor the id of a model on the Hub" in err.splitlines()[-1]
