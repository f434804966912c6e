"""S3 is closed to the HTTP API except below the folders that the settings open."""

import pytest

from flows.service.buckets import check_bucket
from schemas.errors import SettingsUnreadable
from schemas.rejections import DownloadRejected
from schemas.settings import settings
from tasks.sources.fetch import check
from tests.support.service_app import APP
from tests.support.uploading import KEY, of_the_api, submit

pytestmark = pytest.mark.usefixtures("two_keys")


def opened(monkeypatch, prefixes):
    monkeypatch.setenv("LTX_FLOWS_API_BUCKETS", prefixes)
    settings.cache_clear()


def is_open(url):
    try:
        check_bucket(url, ("training_data_url",))
    except DownloadRejected:
        return False
    return True


@of_the_api
async def test_buckets_are_closed_to_the_api_until_the_settings_open_them(service, monkeypatch):
    url = "s3://team/clips.zip"
    [fault] = (await submit(service, url)).json()["detail"]
    assert (fault["loc"], fault["type"]) == (["body", "training_data_url"], "file_download_error")
    assert "the bucket team is not open" in fault["msg"] and "LTX_FLOWS_API_BUCKETS" in fault["msg"]
    opened(monkeypatch, "s3://team")
    assert (await submit(service, url)).status_code == 200
    plan = await service.http.post(f"{APP}/plan/extend-prefix", json={"training_data_url": "s3://b/a"}, headers=KEY)
    assert "the bucket b is not open" in plan.json()["detail"][0]["msg"]


def test_several_buckets_and_folders_of_buckets_may_be_open(monkeypatch):
    opened(monkeypatch, " s3://team , s3://shared/clips/ ")
    assert is_open("s3://team/a.zip") and is_open("s3://shared/clips/new/my%20clips.zip")
    assert not is_open("s3://shared/a.zip") and not is_open("s3://other/a.zip")


@pytest.mark.parametrize(
    "url",
    [
        "s3://team-evil/a.zip",
        "s3://team.evil/clips/a.zip",
        "s3://team",
        "s3://team/clips",
        "s3://team/clips-evil/a.zip",
        "s3://team/clips/../secret/a.zip",
        "s3://team/clips/..",
        "s3://team/clips/%2e%2e/secret/a.zip",
        "s3://team/clips/%2E%2E%2Fsecret/a.zip",
        "s3://team/clips/..\\secret\\a.zip",
        "s3://team/clips/./../secret",
        "s3://team/./clips/a.zip",
        "s3://team%2Fclips/a.zip",
        "s3://team/cl%69ps/a.zip",
        "s3://team/secret/a.zip?/../../clips/",
        "s3://evil@team/clips/a.zip",
        "s3://team/clips@evil/a.zip",
        "s3://s3://evil/clips/a.zip",
        "s3:///team/clips/a.zip",
        "s3:team/clips/a.zip",
        "S3://team/clips/a.zip",
        "s3://TEAM/clips/a.zip",
        " s3://team/clips/a.zip",
        "s\t3://evil/clips/a.zip",
        "\ns3://evil/a.zip",
    ],
)
def test_nothing_but_what_lies_below_an_open_folder_as_it_is_written_is_open(monkeypatch, url):
    opened(monkeypatch, "s3://team/clips")
    assert is_open("s3://team/clips/a.zip")
    assert not is_open(url)


@pytest.mark.parametrize(
    "url", ["s3a://team/a.zip", "simplecache::s3://team/a.zip", "s3://team/a.zip::s3://evil/a", "s3://["]
)
def test_other_ways_to_s3_are_refused_as_ever(monkeypatch, url):
    opened(monkeypatch, "s3://team")

    @of_the_api
    async def test(service):
        assert (await submit(service, url)).status_code == 422

    test(None, None)


@pytest.mark.parametrize("prefixes", ["", ",", "s3://*"])
def test_what_is_no_bucket_opens_nothing(monkeypatch, prefixes):
    opened(monkeypatch, prefixes)
    assert not is_open("s3://team/a.zip")


@pytest.mark.parametrize("prefixes", ["s3://", "s3:", "/", "team", "https://team", "s3:///"])
def test_what_is_no_prefix_is_refused_as_a_setting(monkeypatch, prefixes):
    opened(monkeypatch, prefixes)
    with pytest.raises(SettingsUnreadable):
        is_open("s3://team/a.zip")


def test_a_refused_bucket_tells_no_secret_of_its_address():
    with pytest.raises(DownloadRejected) as refused:
        check_bucket("s3://name:secret@team?secret", ("training_data_url",))
    assert "secret" not in str(refused.value) and "bucket team " in str(refused.value)


def test_runs_that_are_typed_read_whatever_this_machine_may_read():
    assert check("s3://team/clips.zip", ("training_data_url",)).netloc == "team"
