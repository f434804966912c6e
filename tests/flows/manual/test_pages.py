"""The pages that are made are those in the repository, and what they say is true."""

import json
import re

import pytest
from PIL import Image

from flows.cli import main
from flows.manual.__main__ import COMMAND, FOLDER, ROOT, pages
from flows.manual.archive import SAMPLES
from flows.manual.facts import Facts, file_of
from flows.manual.page import page_name
from flows.manual.refusals import refusals
from schemas.endpoints import ENDPOINTS
from schemas.rejections import DataRejected, RequestRejected
from schemas.settings import Settings
from tests.support.clips import SIZE, tone, video, zipped

FENCED = re.compile(r"```json\n(.*?)```", re.DOTALL)
ROW = re.compile(r"^\| `(\w+)` \| (?:string|integer|number|boolean|list)", re.MULTILINE)


@pytest.fixture(scope="module")
def made():
    return pages()


def clip(path):
    """A file of five seconds in the format of its extension."""
    if path.suffix == ".png":
        Image.new("L", SIZE, 255).save(path)
        return path
    return tone(path, 5.0) if path.suffix == ".wav" else video(path, frames=120, sound=True)


def page_of(made, name):
    return made[f"{FOLDER}/{page_name(name)}"]


def test_no_page_is_stale(made):
    stale = [name for name, text in made.items() if not (ROOT / name).is_file() or (ROOT / name).read_text() != text]
    assert stale == [], f"type: {COMMAND}"


def test_no_page_is_left_of_an_endpoint_that_is_no_more(made):
    assert {f"{FOLDER}/{path.name}" for path in (ROOT / FOLDER).glob("*.md")} <= made.keys(), f"type: {COMMAND}"


@pytest.mark.parametrize("name", ENDPOINTS)
def test_every_endpoint_is_one_click_from_the_readme_with_its_price(made, name):
    row = next(line for line in made["README.md"].splitlines() if f"]({FOLDER}/{page_name(name)})" in line)
    assert row.startswith(f"| [`{name}`]") and row.endswith(f"| {ENDPOINTS[name].usd_per_step} |")


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_is_in_the_table(made, name):
    assert f"| `{name.upper()}` |" in made["docs/settings.md"]


@pytest.mark.parametrize("name", ENDPOINTS)
def test_the_request_of_a_page_is_one_that_the_endpoint_takes(made, name):
    request = ENDPOINTS[name].read(json.loads(FENCED.search(page_of(made, name))[1]))
    assert request.validation and request == Facts(ENDPOINTS[name]).request


@pytest.mark.parametrize("name", ENDPOINTS)
def test_all_fields_are_there_in_the_schema_s_order(made, name):
    schema = ENDPOINTS[name].request.model_json_schema()
    sample = ENDPOINTS[name].validation_sample.model_json_schema()
    assert ROW.findall(page_of(made, name)) == [*schema["properties"], *sample["properties"]]


@pytest.mark.parametrize("name", ENDPOINTS)
def test_every_field_is_described(name):
    for model in (ENDPOINTS[name].request, ENDPOINTS[name].validation_sample):
        assert [field for field, info in model.model_fields.items() if not info.description or not info.title] == []


@pytest.mark.parametrize("name", ENDPOINTS)
def test_an_endpoint_says_what_it_learns(name):
    assert len(ENDPOINTS[name].about.split()) >= 40


@pytest.mark.parametrize("name", ENDPOINTS)
def test_the_request_of_a_page_plans_on_an_archive_as_the_page_draws_it(name, made, tmp_path, capfd, monkeypatch):
    facts = Facts(ENDPOINTS[name])
    made_of = {slot.suffix: clip(tmp_path / file_of("made", slot)) for slot in facts.slots}
    files = {file_of(sample, slot): made_of[slot.suffix] for sample in SAMPLES for slot in facts.slots}
    captions = {f"{sample}.txt": b"a man walks" for sample in SAMPLES}
    (tmp_path / "clips.zip").write_bytes(zipped(files | captions))
    for slot in facts.slots:
        made_of[slot.suffix].rename(tmp_path / file_of("preview", slot))
    (tmp_path / "request.json").write_text(FENCED.search(page_of(made, name))[1])
    monkeypatch.setenv("LTX_FLOWS_ALLOW_FILE_ROOT", "/")
    assert main(["plan", name, str(tmp_path / "request.json")]) == 0
    answer = json.loads(capfd.readouterr().out)
    assert (answer["kept"], answer["skipped"]) == (2, [])
    assert f"units of {facts.endpoint.usd_per_step} USD" in page_of(made, name) and f" {answer['usd']} USD" in page_of(
        made, name
    )


def test_the_polarity_of_masks_is_told_where_there_are_masks(made):
    told = {name for name in ENDPOINTS if "WHITE = regenerate, BLACK = keep" in page_of(made, name)}
    assert told == {"av2av-masked"}


def test_a_switch_that_adds_a_stream_is_told(made):
    assert "| sound | with `with_audio` |" in page_of(made, "extend-prefix")
    assert "an audio track with `with_audio`" in page_of(made, "extend-prefix")


def test_the_factors_in_the_file_are_told_where_a_request_can_set_them(made):
    told = {name for name in ENDPOINTS if "`reference_temporal_scale_factor`." in page_of(made, name)}
    assert told == {"ic-lora/av2av"}


def test_fields_without_effect_are_told(made):
    row = next(line for line in page_of(made, "ic-lora/a2a").splitlines() if line.startswith("| `number_of_frames` |"))
    assert row.endswith("| No effect: there is no picture. |")


def test_rules_between_fields_are_found_by_trying():
    found = {(each.at, each.fault.type) for each in refusals(Facts(ENDPOINTS["ic-lora/av2av"])) if each.allowed}
    assert found == {("reference_downscale_factor", "multiple_of"), ("reference_temporal_scale_factor", "multiple_of")}


@pytest.mark.parametrize("name", ENDPOINTS)
def test_a_value_that_a_page_calls_wrong_is_refused_as_it_says(made, name):
    told = [line for line in page_of(made, name).splitlines() if line.startswith("| `less_than_equal` |")]
    field = re.search(r"`(\w+): (\d+)`: (.*) \|$", told[0])
    with pytest.raises(RequestRejected) as caught:
        ENDPOINTS[name].read({"training_data_url": "s3://b/clips.zip", field[1]: int(field[2])})
    assert field[3] in [fault.msg for fault in caught.value.details()]


@pytest.mark.parametrize("rejection", DataRejected.__subclasses__(), ids=lambda each: each.__name__)
def test_every_fault_of_the_data_is_on_the_page_of_the_endpoint_that_has_all_roles(made, rejection):
    assert f"| {rejection.message} |" in page_of(made, "av2av-masked")
