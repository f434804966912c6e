"""Settings that cannot be read are named, a line each with name, value and remedy; unknown names with the nearest."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import SecretStr

from flows.bound import PARENT
from flows.cli import main
from flows.service.app import create_app
from schemas.errors import SettingsUnreadable
from schemas.settings import NAMES, OUR_OWN, Settings, settings

ROOT = Path(__file__).parents[2]
FIELDS = Settings.model_fields
WRONG = {  # what people may write; every field is also tried with a value that no setting takes
    "base_model": ["https://huggingface.co/diffusers/LTX-2.3-Diffusers"],
    "store": ["s3:/bucket/store", "s3:bucket"],
    "outputs": ["gs:/bucket"],
    "store_patience_seconds": ["-1", "soon", "nan", "inf"],
    "link_seconds": ["59", "604801", "1.5"],
    "database_url": ["mysql://ltx:geheim@host/ledger", "ledger.db", "sqlite://ledger.db", "postgresql"],
    "prefect_database_url": ["mysql://ltx:geheim@host/prefect"],
    "device": ["gpu", "cuda:", "CUDA", "mps"],
    "devices": ["0", "two", ""],
    "base_weights": ["fp16"],
    "text_encoder_weights": ["int4"],
    "offload_blocks": ["-1", "some", "1.5"],
    "compile": ["true"],
    "deterministic": ["perhaps"],
    "training_silence_seconds": ["0", "long"],
    "allow_private_hosts": ["10.0.0.0/8"],
    "max_download_bytes": ["-1", "5,000", "5 GB/s", "1PB", "5G", "many"],
    "max_archive_bytes": ["-1GB", "1.5"],
    "max_archive_entries": ["0", "-5", "2GB"],
    "max_entry_bytes": ["10 gigs"],
    "api_keys": [",", "geheim,", "geheim zwei"],
    "api_buckets": ["https://bucket", "bucket", "s3://", "s3://a s3://b"],
    "upload_quota_bytes": ["200 Gigabytes"],
    "public_url": ["ltx.example.org", "ftp://ltx.example.org", "https://"],
    "allowed_hosts": ["https://gpu.lan", "gpu.lan:8484", "gpu.lan/x"],
    "allowed_origins": ["studio.example.org", "https://studio.example.org/page", "*"],
    "trusted_proxies": ["proxy.lan", "10.0.0.300"],
    "max_body_bytes": ["64MBs"],
    "submissions_per_minute": ["0"],
    "progress_bars": ["maybe"],
    "media_workers": ["0"],
}
EVERY = [(field, value) for field in FIELDS for value in ("x\r", *filter(None, WRONG.get(field, [])))]


@pytest.fixture
def told(monkeypatch):
    """The lines of the error with these variables."""

    def tell(**variables):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        settings.cache_clear()
        with pytest.raises(SettingsUnreadable) as raised:
            settings()
        return str(raised.value).splitlines()

    return tell


@pytest.mark.parametrize(("field", "value"), EVERY)
def test_a_wrong_value_is_one_line_with_name_value_and_remedy(field, value, told):
    name = f"LTX_FLOWS_{field.upper()}"
    [line] = told(**{name: value})
    assert re.match(rf"{name}(=.+| \(its value is secret\)) must be .+; correct it, or unset it for \S", line)
    assert "geheim" not in line and "\r" not in line and "Value error" not in line


def test_every_setting_that_is_not_just_any_text_has_wrong_values_here():
    assert [field for field in FIELDS if field not in WRONG] == ["home", "allow_file_root"]


def test_a_line_says_what_would_be_right(told):
    lines = told(LTX_FLOWS_DEVICES="zero", LTX_FLOWS_OFFLOAD_BLOCKS="some", LTX_FLOWS_STORE_PATIENCE_SECONDS="-1")
    assert sorted(lines) == [
        "LTX_FLOWS_DEVICES=zero must be a whole number; correct it, or unset it for 1",
        "LTX_FLOWS_OFFLOAD_BLOCKS=some must be a whole number or 'auto'; correct it, or unset it for auto",
        "LTX_FLOWS_STORE_PATIENCE_SECONDS=-1 must be 0 or more; correct it, or unset it for 300",
    ]


def test_secrets_are_not_printed(told):
    lines = told(
        LTX_FLOWS_API_KEYS="geheim geheim",
        LTX_FLOWS_PREFECT_DATABASE_URL="geheim",
        LTX_FLOWS_DATABASE_URL="mysql://ltx:geheim@host/ledger?password=geheim",
        LTX_FLOWS_API_KEY="geheim",
    )
    assert len(lines) == 4 and "geheim" not in "".join(lines)
    assert "LTX_FLOWS_DATABASE_URL=mysql://[...]@host/ledger?[...] must be" in "".join(lines)


@pytest.mark.parametrize("field", [name for name, field in FIELDS.items() if field.annotation is SecretStr])
def test_every_secret_setting_hides_its_value(field, told):
    [line] = told(**{f"LTX_FLOWS_{field.upper()}": "geheim geheim\r"})
    assert "geheim" not in line


# --- unknown names ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(NAMES))
def test_a_mistyped_name_is_told_with_the_one_that_was_meant(name, told):
    typed = name[:12] + name[13:]
    [line] = told(**{typed: "geheim"})
    assert line == f"{typed} is no setting: did you mean {name}? Else unset it"


def test_a_name_that_is_like_none_is_told_to_be_unset(told):
    assert told(LTX_FLOWS_QQQQ="1") == [
        "LTX_FLOWS_QQQQ is no setting: unset it; README.md lists all that there are",
    ]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (PARENT, "1234"),  # of our own processes
        ("LTX_FLOWS_SERVICE_HOST", "10.0.0.1"),  # Kubernetes tells containers of its services
        ("LTX_FLOWS_API_SERVICE_PORT_HTTP", "8484"),
        ("LTX_FLOWS_PORT", "tcp://10.0.0.1:8484"),
        ("LTX_FLOWS_PORT_8484_TCP_PORT", "8484"),
        ("ltx_flows_media_workers", "3"),
        ("LTX_FLOW_HOME", "/"),
    ],
)
def test_names_that_others_set_are_no_fault(name, value, monkeypatch):
    monkeypatch.setenv(name, value)
    settings.cache_clear()
    assert settings().devices == 1


def test_a_port_that_a_person_sets_is_a_fault(told):
    [line] = told(LTX_FLOWS_PORT="8484")
    assert line.startswith("LTX_FLOWS_PORT is no setting")


@pytest.mark.parametrize(
    "file", ["compose.yaml", "prefect.yaml", "Dockerfile", ".env.example", "Makefile", "README.md"]
)
def test_what_our_own_files_set_are_settings(file):
    named = set(re.findall(r"LTX_FLOWS_[A-Z_]+[A-Z]", (ROOT / file).read_text()))
    assert named <= NAMES


def test_the_names_of_our_own_processes_are_known():
    assert {PARENT} == OUR_OWN


# --- values -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("5GB", 5 * 10**9),
        ("5 GiB", 5 * 2**30),
        ("1.5gb", 1_500_000_000),
        ("0.1TB", 10**11),
        ("64kib", 65536),
        ("7B", 7),
        ("53687091200", 53687091200),
        ("20_000", 20_000),
    ],
)
@pytest.mark.parametrize("field", [name for name in FIELDS if name.endswith("_bytes")])
def test_sizes_are_numbers_or_have_a_unit(field, text, size, monkeypatch):
    monkeypatch.setenv(f"LTX_FLOWS_{field.upper()}", text)
    assert getattr(Settings(), field) == size


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("store", "memory://store"),
        ("store", "simplecache::s3://bucket/store"),
        ("database_url", "sqlite:////srv/ledger.db"),
        ("database_url", "postgresql+psycopg://ltx:x@host:5432/ledger"),
        ("device", "cuda:1"),
        ("offload_blocks", "0"),
        ("api_keys", "one, two"),
        ("api_buckets", " s3://team , s3://shared/clips/ ,"),
        ("allowed_hosts", "gpu.lan, *.example.org, ::1"),
        ("allowed_origins", "https://studio.example.org, http://localhost:3000"),
        ("trusted_proxies", "127.0.0.1, 10.0.0.0/8, ::1"),
        ("trusted_proxies", "*"),
        ("public_url", "https://ltx.example.org:8443/api/"),
    ],
)
def test_what_is_right_is_taken(field, value, monkeypatch):
    monkeypatch.setenv(f"LTX_FLOWS_{field.upper()}", value)
    found = getattr(Settings(), field)
    assert (found.get_secret_value() if isinstance(found, SecretStr) else str(found)) == value


@pytest.mark.parametrize("field", FIELDS)
def test_an_empty_variable_is_as_good_as_none(field, monkeypatch):
    monkeypatch.setenv(f"LTX_FLOWS_{field.upper()}", "")
    assert getattr(Settings(), field) == FIELDS[field].default or field == "home"


# --- every program ------------------------------------------------------------------------------------------------

LINE = "LTX_FLOWS_DEVICES=zero must be a whole number; correct it, or unset it for 1"
COMMANDS = [["run", "extend-prefix", "request.json"], ["plan", "extend-prefix", "request.json"], ["demo"], ["serve"],
            ["deploy"], ["bills"], ["cache", "du"]]  # fmt: skip


@pytest.mark.parametrize("arguments", COMMANDS, ids=lambda arguments: arguments[0])
def test_every_command_ends_in_these_lines_before_it_begins(arguments, monkeypatch, capfd, home):
    monkeypatch.setenv("LTX_FLOWS_DEVICES", "zero")
    settings.cache_clear()
    assert main(arguments) == 1
    told = capfd.readouterr()
    assert (told.out, told.err.splitlines()) == ("", [f"ltx-flows: {LINE}"])
    assert not home.exists()


def test_each_fault_has_a_line_of_its_own(monkeypatch, capfd):
    monkeypatch.setenv("LTX_FLOWS_DEVICES", "zero")
    monkeypatch.setenv("LTX_FLOWS_STOER", "s3://team/store")
    settings.cache_clear()
    assert main(["bills"]) == 1
    lines = capfd.readouterr().err.splitlines()
    assert [line.split("=")[0].split(" is ")[0] for line in lines] == [
        "ltx-flows: LTX_FLOWS_STOER",
        "ltx-flows: LTX_FLOWS_DEVICES",
    ]


def test_the_commands_that_read_no_settings_do_without(monkeypatch, capfd):
    monkeypatch.setenv("LTX_FLOWS_DEVICES", "zero")
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert (ended.value.code, capfd.readouterr().out) == (0, "ltx-flows 0.1.0\n")


@pytest.mark.parametrize(
    "command",
    [["flows.service", "--port", "0"], ["uvicorn", "--factory", "flows.service.app:create_app", "--port", "0"]],
    ids=["alone", "as a factory"],
)
def test_the_api_ends_in_these_lines_too(command):
    environment = os.environ | {"LTX_FLOWS_DEVICES": "zero"}
    python = [sys.executable, "-m"]
    done = subprocess.run([*python, *command], env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[-1].removeprefix("ltx-flows: ") == LINE and "Traceback" not in done.stderr


def test_the_application_is_not_made(monkeypatch):
    monkeypatch.setenv("LTX_FLOWS_DEVICES", "zero")
    settings.cache_clear()
    with pytest.raises(SystemExit, match=LINE):
        create_app()


@pytest.mark.usefixtures("prefect")
def test_a_run_of_a_worker_fails_with_these_lines(monkeypatch):
    from flows.endpoints import FLOWS
    from schemas.endpoints import ENDPOINTS

    monkeypatch.setenv("LTX_FLOWS_DEVICES", "zero")
    settings.cache_clear()
    request = ENDPOINTS["extend-prefix"].read({"training_data_url": "https://host/clips.zip"})
    state = FLOWS["extend-prefix"](request, return_state=True)
    assert (state.name, state.message) == ("Failed", f"on this worker, {LINE}")
    assert isinstance(state.result(raise_on_failure=False), SettingsUnreadable)
