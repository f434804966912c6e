"""What was delivered and billed is told again, or delivered again where it is damaged; it is never billed twice."""

import sqlite3
from decimal import Decimal
from uuid import uuid4

import pytest

from flows.cli import main
from flows.hosting.prefect_server import prefect_server
from flows.local_run import run_or_continue
from flows.unfinished import Unfinished
from schemas.errors import DatabaseDamaged, StoreRefused
from schemas.result import Billing, TrainingResult
from schemas.settings import settings
from tasks.ledger.bills import bills, record
from tasks.ledger.outcomes import tell_result, told_again
from tasks.storage.outputs import Outputs, open_outputs

BILL = Billing.of(100, Decimal("0.0022"))
RUN = str(uuid4())


@pytest.fixture
def delivered():
    """A run whose files are delivered, billed and noted as its outcome."""
    outputs = Outputs(RUN)
    files = {name: outputs.put_text(name, f"{name}.json") for name in ("lora_file", "config_file", "dataset_report")}
    result = TrainingResult(**files, billing=BILL)
    record(RUN, "audio-extend-prefix", BILL)
    tell_result(RUN, result, outputs.checksums)
    return result


def test_what_is_whole_is_told_again(delivered):
    assert told_again(RUN) == delivered


def test_a_run_that_was_not_billed_is_not_told():
    assert told_again(RUN) is None


@pytest.mark.parametrize("content", [b"", b"lora_filf", None])
def test_where_a_file_is_damaged_or_gone_the_run_goes_on_and_delivers_it_again(delivered, home, content):
    lora = home / "outputs" / RUN / "lora_file.json"
    lora.unlink() if content is None else lora.write_bytes(content)
    assert told_again(RUN) is None
    outputs = Outputs(RUN)
    outputs.put_text("lora_file", "lora_file.json")
    assert told_again(RUN) == delivered
    record(RUN, "audio-extend-prefix", BILL)
    assert len(bills()) == 1


def test_a_file_that_is_there_whole_is_not_sent_again(delivered, home, monkeypatch):
    monkeypatch.setattr("tasks.storage.folder.Place.put", lambda *words: pytest.fail("sent again"))
    assert Outputs(RUN).put_text("lora_file", "lora_file.json") == delivered.lora_file


@pytest.mark.usefixtures("prefect")
def test_a_run_that_prefect_has_lost_goes_on_under_its_first_id(tmp_path):
    from prefect import flow
    from prefect.client.orchestration import get_client

    from tasks.run_id import current_run

    @flow
    def which(request):
        return current_run()

    class Asked:
        def model_dump(self, mode):
            return {}

    note = Unfinished(tmp_path / "note")
    note.path.touch()
    lost = uuid4()
    note.begin(lost)
    assert run_or_continue(which, Asked(), note).result() == str(lost)
    assert (note.first_run(), note.last_run() != lost) == (lost, True)
    with get_client(sync_client=True) as client:
        assert client.read_flow_run(note.last_run()).state.is_completed()


# --- Prefect's database -------------------------------------------------------------------------------------------


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("spoil", [cut, lambda path: path.write_bytes(b"garbage" * 2000)], ids=["cut", "garbled"])
def test_a_damaged_prefect_database_is_one_line_that_says_what_is_lost_and_what_to_type(home, spoil, monkeypatch):
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    (home / "prefect").mkdir(parents=True)
    path = home / "prefect" / "prefect.db"
    database = sqlite3.connect(path)
    database.execute("CREATE TABLE runs (name TEXT)")
    database.executemany("INSERT INTO runs VALUES (?)", [("a run of many" * 100,)] * 100)
    database.commit()
    database.close()
    spoil(path)
    with pytest.raises(DatabaseDamaged) as raised, prefect_server():
        pass
    [line] = str(raised.value).splitlines()
    assert line.startswith(f"Prefect's database {path} is damaged")
    assert f"results and bills are not; type: mv {home / 'prefect'} {home / 'prefect'}.damaged" in line


# --- outputs that cannot be written -------------------------------------------------------------------------------


@pytest.fixture(params=["/dev/null/outputs", "s3://nobody/outputs"])
def no_outputs(request, monkeypatch):
    if request.param.startswith("s3"):
        request.getfixturevalue("s3")
    monkeypatch.setenv("LTX_FLOWS_OUTPUTS", request.param)
    settings.cache_clear()
    return request.param


def test_outputs_that_cannot_be_written_are_named_with_what_to_do(no_outputs):
    with pytest.raises(StoreRefused, match=r"check its owner or credentials|create it first"):
        open_outputs("run-1")


@pytest.mark.usefixtures("prefect")
def test_they_are_noticed_before_anything_is_downloaded(no_outputs, home, monkeypatch):
    from flows import pipeline
    from flows.endpoints import FLOWS
    from schemas.endpoints import ENDPOINTS

    monkeypatch.setattr(pipeline, "download", lambda *words: pytest.fail("downloaded"))
    request = ENDPOINTS["extend-prefix"].read({"training_data_url": "https://host/clips.zip"})
    error = FLOWS["extend-prefix"](request, return_state=True).result(raise_on_failure=False)
    assert isinstance(error, StoreRefused)
    assert bills() == []


def test_bills_of_a_damaged_ledger_end_in_one_line(home, capfd):
    record(RUN, "audio-extend-prefix", BILL)
    (home / "ledger.db").write_bytes(b"")
    assert main(["bills"]) == 1
    [line] = capfd.readouterr().err.splitlines()
    assert line.startswith(f"ltx-flows: the ledger {home / 'ledger.db'} is damaged (it is empty): put a backup")
