"""Values last applied to Prefect's server, kept there as variables, so that later changes by a person stay.

A value is ours to change only where the server still has the one we put there. `deploy` and every start of `serve` use
this module.
"""

from collections.abc import Mapping
from typing import Any

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import VariableCreate, VariableUpdate


def merged(there: Any, before: Any, wanted: Any) -> Any:  # any JSON
    """The values that the server is to have.

    Args:
        there: what it has.
        before: what we put there last time; None where nobody remembers. In mappings each value counts for itself.
        wanted: what we would put there now.
    """
    if isinstance(there, Mapping) and isinstance(wanted, Mapping):
        known = before if isinstance(before, Mapping) else None
        return _merged_values(there, known, wanted)
    return wanted if there == before else there


def _merged_values(
    there: Mapping[str, Any], before: Mapping[str, Any] | None, wanted: Mapping[str, Any]
) -> dict[str, Any]:
    told = before or {}
    both = {}
    for name in {**there, **wanted}:
        if name not in there:
            if name not in told:  # else somebody has removed it
                both[name] = wanted[name]
        elif name in wanted:
            both[name] = merged(there[name], told.get(name), wanted[name])
        elif name not in told or told[name] != there[name]:  # else it was ours, and is not needed any more
            both[name] = there[name]
    return both


class Applied:
    """One variable: the values applied to one object on the server."""

    def __init__(self, client: SyncPrefectClient, name: str) -> None:
        self.client = client
        self.name = f"ltx_flows_applied_{''.join(each if each.isalnum() else '_' for each in name.lower())}"

    def read(self) -> dict[str, Any] | None:
        """The values applied last time; None where no variable remembers them."""
        found = self.client.read_variable_by_name(self.name)
        return dict(found.value) if found and isinstance(found.value, dict) else None

    def write(self, wanted: dict[str, Any]) -> None:
        """Remember the values that are applied now."""
        if self.client.read_variable_by_name(self.name):
            self.client.update_variable(VariableUpdate(name=self.name, value=wanted))
        else:
            self.client.create_variable(VariableCreate(name=self.name, value=wanted))
