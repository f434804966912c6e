"""`deploy --notify`: who is told how runs end, through Prefect's own block and automation."""

import pytest
from prefect.blocks.notifications import SlackWebhook
from prefect.exceptions import ObjectNotFound

from flows.hosting.deployments import deploy
from flows.hosting.notifications import BLOCK, NOTIFY, check_notify_url, notify
from schemas.errors import LtxFlowsError

pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")  # apprise uses it


def told(client):
    """The URL that the automation's own block holds."""
    (made,) = client.read_automations_by_name(NOTIFY)
    block = client.read_block_document(made.actions[0].block_document_id, include_secrets=True)
    assert block.name == BLOCK
    return block.data["url"]


def test_every_end_of_our_runs_is_told_and_another_url_takes_the_place_of_the_last(client):
    deploy("process")
    for url in ("json://one.example/a", "json://one.example/a", "mailto://me:secret@two.example"):
        notify(url)
        assert told(client) == url
    (made,) = client.read_automations_by_name(NOTIFY)
    assert made.trigger.expect == {f"prefect.flow-run.{end}" for end in ("Completed", "Failed", "Rejected", "Crashed")}
    assert len(made.trigger.match_related.model_dump()["prefect.resource.id"]) == 5


def test_an_empty_url_tells_nobody_any_more(client):
    deploy("process")
    notify("json://one.example/a")
    for _ in range(2):
        notify("")
        assert client.read_automations_by_name(NOTIFY) == []
    with pytest.raises(ObjectNotFound):
        client.read_block_document_by_name(BLOCK, SlackWebhook.get_block_type_slug())


@pytest.mark.parametrize("url", ["nonsense", "unknown://me:secret@example.com"])
def test_a_url_that_apprise_cannot_read_is_refused_without_its_secrets(url):
    with pytest.raises(LtxFlowsError, match="cannot be read") as refused:
        check_notify_url(url)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    "url", ["", None, "mailto://me:pass@example.com", "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ"]
)
def test_a_url_that_apprise_reads_is_taken(url):
    check_notify_url(url)
