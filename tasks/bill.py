"""Bill: a finished run -> one row in the ledger. Runs that fail never get here and so cost nothing."""

from prefect import get_run_logger

from schemas.result import Billing, TrainingResult
from tasks.ledger.bills import record
from tasks.ledger.outcomes import tell_result
from tasks.manifests import Delivery
from tasks.step import effect


@effect("bill", [1, 5, 15, 60, 120])
def bill(delivery: Delivery, run_id: str, label: str, billing: Billing) -> TrainingResult:
    """Write the run's ledger row once, however often this is tried, and return the result with its bill."""
    record(run_id, label, billing)
    result = delivery.result(billing)
    tell_result(run_id, result, delivery.checksums)
    get_run_logger().info("billed %d units, %s USD", billing.billable_units, billing.usd)
    return result
