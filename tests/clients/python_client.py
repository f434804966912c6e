"""Stock fal-client against our service: what it is given in the environment is all that it knows of us.

`python python_client.py GOOD.json BAD_DATA.json WEBHOOK_URL` prints what it saw as JSON.
"""

import json
import sys
from pathlib import Path

import fal_client

APP = "fal-ai/ltx23-trainer-v2/audio-extend-prefix"
good, bad_data = (json.loads(Path(path).read_text()) for path in sys.argv[1:3])


def refused(call):
    try:
        call()
    except fal_client.client.FalClientHTTPError as error:
        return {"status": error.status_code, "detail": error.response.json()["detail"]}
    return None


logs = []


def note(update):
    if isinstance(update, (fal_client.InProgress, fal_client.Completed)):
        logs.extend(line["message"] for line in update.logs or [])


seen = {}
told = fal_client.submit(APP, arguments=good, webhook_url=sys.argv[3])
for update in told.iter_events(with_logs=True):
    note(update)
seen["result"] = told.get()
seen["logs"] = sorted(set(logs))
seen["wrong_request"] = refused(lambda: fal_client.submit(APP, arguments=good | {"rank": 7}))
seen["wrong_data"] = refused(
    lambda: fal_client.subscribe(APP, arguments=bad_data, with_logs=True, on_queue_update=note)
)
first, second = (fal_client.submit(APP, arguments=good | {"trigger_phrase": name}) for name in ("one", "two"))
second.cancel()
seen["cancelled"] = refused(second.get)
first.cancel()
seen["cancelled_running"] = refused(first.get)
seen["cancelled_ids"] = [first.request_id, second.request_id]
seen["ran"] = fal_client.run(APP, arguments=good)
seen["told"] = told.request_id
seen["status"] = type(fal_client.status(APP, told.request_id)).__name__
print(json.dumps(seen))
