"""Notifications of runs' ends, by mail or chat: a block with an Apprise URL, and a Prefect automation that uses it.

`deploy --notify` says where to. Prefect has no block for Apprise URLs in general; its block for Slack, which every
server knows, hands any URL to Apprise as it is.
"""

from uuid import UUID

from prefect.blocks.notifications import SlackWebhook
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowFilter, FlowFilterName
from prefect.events.actions import SendNotification
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification
from prefect.exceptions import ObjectNotFound
from pydantic import SecretStr

from schemas.endpoints import ENDPOINTS
from schemas.errors import LtxFlowsError

BLOCK = "ltx-flows-notify"
NOTIFY = "ltx-flows: tells how runs end"
ENDS = {f"prefect.flow-run.{name}" for name in ("Completed", "Failed", "Rejected", "Crashed")}
SUBJECT = "{{ flow_run.name }}: {{ flow_run.state.name }}"
BODY = """{{ flow_run.name }} ended as {{ flow_run.state.name }}.
{{ flow_run.state.message or '' }}
{{ flow_run|ui_url }}"""


def check_notify_url(url: str | None) -> None:
    """Refuse a URL that cannot be read, before anything is deployed.

    Raises:
        LtxFlowsError: Apprise does not know it. The URL is not repeated: it may hold a password.
    """
    from apprise import Apprise  # noqa: PLC0415  # a second

    if url and not Apprise().add(url):
        scheme = url.partition(":")[0][:20] if "://" in url else "no scheme"
        raise LtxFlowsError(
            f"--notify takes an Apprise URL, such as mailto://user:password@example.com, slack://... or discord://...; "
            f"this one ({scheme}) cannot be read"
        )


def notify(url: str) -> None:
    """Have the server tell how our runs end; another URL takes the place of the last one, an empty one ends it."""
    with get_client(sync_client=True) as client:
        if not url:
            _remove(client)
            return
        wanted = _automation(_save(url))
        there = client.read_automations_by_name(NOTIFY)
        for found in there[:1]:
            client.update_automation(found.id, wanted.model_copy(update={"enabled": found.enabled}))
        if not there:
            client.create_automation(wanted)


def _save(url: str) -> UUID:
    """Keep the URL in the block, which Prefect's pages show without its secrets."""
    saved = SlackWebhook(url=SecretStr(url)).save(BLOCK, overwrite=True)
    assert isinstance(saved, UUID)  # a coroutine only where the caller is one
    return saved


def _automation(block: UUID) -> AutomationCore:
    flows = [f"prefect.flow.{name}" for name in _flow_ids()]
    trigger = EventTrigger(
        posture=Posture.Reactive,
        match=ResourceSpecification({"prefect.resource.id": "prefect.flow-run.*"}),
        match_related=ResourceSpecification({"prefect.resource.role": "flow", "prefect.resource.id": flows}),
        for_each={"prefect.resource.id"},
        expect=ENDS,
        threshold=1,
    )
    action = SendNotification(block_document_id=block, subject=SUBJECT, body=BODY)
    return AutomationCore(name=NOTIFY, trigger=trigger, actions=[action])


def _flow_ids() -> list[str]:
    """Ids of our flows; others may use the same server."""
    ours = FlowFilter(name=FlowFilterName(any_=[endpoint.flow_title for endpoint in ENDPOINTS.values()]))
    with get_client(sync_client=True) as client:
        return sorted(str(flow.id) for flow in client.read_flows(flow_filter=ours))


def _remove(client: SyncPrefectClient) -> None:
    for automation in client.read_automations_by_name(NOTIFY):
        client.delete_automation(automation.id)
    try:
        found = client.read_block_document_by_name(BLOCK, SlackWebhook.get_block_type_slug())
    except ObjectNotFound:
        return
    client.delete_block_document(found.id)
