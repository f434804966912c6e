"""One endpoint: dataset layout, request, plan, price. Everything else is derived from these."""

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Generic, TypeVar, get_args

from pydantic import ValidationError

from schemas.layout import Layout
from schemas.media import Bucket
from schemas.plan import Plan
from schemas.rejections import RequestRejected
from schemas.request import TrainRequest, ValidationSample
from schemas.result import Billing

LEAST_BILLED_UNITS = 100

Request = TypeVar("Request", bound=TrainRequest)


@dataclass(frozen=True)
class Endpoint(Generic[Request]):
    """Declaration of one endpoint.

    Args:
        path: as the hosted endpoint has it.
        request: its form.
        layout: of its data sets.
        plan: what a request trains, for clips of a bucket.
        usd_per_step: its price.
        summary: what it trains, in one line, for people.
        about: what the LoRA learns and is for, in a paragraph or two, for its page in docs/endpoints.
        flow: the name of its flow in flows.endpoints, where deployments find it; by default made from the path.
    """

    path: str
    request: type[Request]
    layout: Layout
    plan: Callable[[Request, Bucket], Plan]
    usd_per_step: Decimal
    summary: str
    about: str
    flow: str = ""

    @property
    def flow_name(self) -> str:
        return self.flow or self.name.replace("/", "_").replace("-", "_")

    @property
    def name(self) -> str:
        return self.path.removeprefix("/")

    @property
    def flow_title(self) -> str:
        """The flow's name on Prefect's pages, and its deployment's."""
        return self.name.replace("/", "-")

    def run_name(self, trigger_phrase: str) -> str:
        """Name of a run on Prefect's pages: the endpoint and its trigger phrase."""
        return " ".join(filter(None, (self.flow_title, trigger_phrase)))

    def read(self, body: Any) -> Request:
        """The request of a JSON body.

        Raises:
            RequestRejected: with every fault of the body.
        """
        try:
            return self.request.model_validate(body)
        except ValidationError as error:
            raise RequestRejected.of(error) from error

    @property
    def validation_sample(self) -> type[ValidationSample]:
        """The kind of validation samples that the request takes."""
        kind: type[ValidationSample] = get_args(self.request.model_fields["validation"].annotation)[0]
        return kind

    def price(self, number_of_steps: int) -> Billing:
        return Billing.of(max(LEAST_BILLED_UNITS, number_of_steps), self.usd_per_step)
