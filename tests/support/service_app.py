"""The HTTP API in this process, over runs that end when a test says so."""

from contextlib import asynccontextmanager
from datetime import UTC, datetime
from uuid import uuid4

import httpx

from flows.service.app import create_app
from flows.service.prefect_runs import RunState
from flows.service.register import LogLine
from flows.service.sightings import Sighting
from schemas.result import TrainingResult
from tasks.ledger import outcomes

BASE = "https://localhost"
APP = "/fal-ai/ltx23-trainer-v2"
JSON = {"content-type": "application/json"}
BODY = {"training_data_url": "https://example.com/clips.zip"}
FILE = {"url": "file:///x", "content_type": "application/octet-stream", "file_name": "lora.safetensors", "file_size": 4}
RESULT = {
    "lora_file": FILE,
    "config_file": FILE | {"file_name": "config.json"},
    "dataset_report": FILE | {"file_name": "dataset_report.json"},
    "billing": {"billable_units": 2000, "usd_per_step": "0.0062", "usd": "12.4"},
}


class FakeRuns:
    """Runs that a test moves on by hand."""

    def __init__(self):
        self.running, self.told, self.started, self.seen = {}, {}, {}, {}

    async def start(self, entry):
        run_id = self.started.setdefault(entry.id, str(uuid4()))
        self.running.setdefault(run_id, RunState("Scheduled", "", None, False))
        self.told.setdefault(run_id, [])
        return run_id

    async def find(self, entry_id):
        return self.started.get(entry_id)

    async def completed(self, run_ids):
        return [each for each in run_ids if self.running[each].name == "Completed"]

    async def states(self, run_ids):
        return {run_id: self.running[run_id] for run_id in run_ids if run_id in self.running}

    async def logs(self, run_id, offset):
        lines = self.told[run_id][offset:]
        return [LogLine(message=line, level="INFO", timestamp="2026-01-01T00:00:00+00:00") for line in lines]

    async def sighting(self, run_id):
        return self.seen.get(run_id, Sighting(None, "", {}))

    async def cancel(self, run_id):
        self.move(run_id, "Cancelled", final=True)

    async def reject(self, run_id, message):
        waiting = self.running[run_id].name == "Scheduled"
        if waiting:
            self.move(run_id, "Rejected", message, final=True)
        return waiting

    async def close(self):
        pass

    def move(self, run_id, name, message="", *, final=False):
        self.running[run_id] = RunState(name, message, datetime.now(UTC), final)


class Api:
    """A client of the application, and the hands that move its runs."""

    def __init__(self, app, runs, http):
        self.app, self.runs, self.http = app, runs, http

    async def submit(self, endpoint="extend-prefix", body=BODY, **more):
        answer = await self.http.post(f"{APP}/{endpoint}", json=body, **more)
        await self.app.state.watcher.start_due()
        return answer

    async def submitted(self, **more):
        return (await self.submit(**more)).json()["request_id"]

    async def get(self, request_id, what=""):
        return await self.http.get(f"{APP}/requests/{request_id}{what}")

    async def status(self, request_id):
        return (await self.get(request_id, "/status?logs=1")).json()

    async def look(self):
        await self.app.state.watcher.look()

    async def move(self, request_id, name, message="", *, final=False):
        self.runs.move(self.runs.started[request_id], name, message, final=final)
        await self.look()

    async def complete(self, request_id, result=RESULT, state="Completed"):
        outcomes.tell_result(self.runs.started[request_id], TrainingResult.model_validate(result))
        await self.move(request_id, state, final=True)

    async def reject(self, request_id, error):
        outcomes.tell_rejection(self.runs.started[request_id], error)
        await self.move(request_id, "Rejected", f"422 {error}", final=True)


@asynccontextmanager
async def api(runs=None, **headers):
    """The application from its start to its end."""
    app = create_app(runs := runs or FakeRuns())
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url=BASE, headers=headers) as http:
            yield Api(app, runs, http)
