"""`fal.run`: the answer is the result, and who asks again joins the same training."""

import asyncio

from tests.support.service_app import APP, BODY
from tests.support.team import two


async def finishing(service):
    """End the only request with its result as soon as it has a run."""
    while not service.runs.started:
        await service.app.state.watcher.start_due()
        await asyncio.sleep(0.01)
    await service.complete(next(iter(service.runs.started)))


def test_who_waits_for_the_result_gets_it_as_the_answer():
    async def run(service, _):
        answer, _ = await asyncio.gather(service.http.post(f"/run{APP}/extend-prefix", json=BODY), finishing(service))
        return answer

    answer = two(run)
    assert (answer.status_code, answer.json()["billing"]["usd"]) == (200, "12.4")
    assert answer.headers["x-fal-billable-units"] == "2000"


def test_a_client_that_gives_up_waiting_and_asks_again_does_not_train_twice():
    async def run(service, _):
        url = f"/run{APP}/extend-prefix"
        asked = [asyncio.create_task(service.http.post(url, json=BODY)) for _ in range(2)]
        while not service.runs.started:
            await asyncio.sleep(0.05)
        asked[0].cancel()
        await finishing(service)
        after = await service.http.post(url, json=BODY)  # it came too late for the end, and asks once more
        other = asyncio.create_task(service.http.post(url, json=BODY | {"rank": 64}))
        while len(service.runs.started) < 2:
            await asyncio.sleep(0.05)
        other.cancel()
        return (await asked[1]).status_code, after.status_code, len(service.runs.started)

    assert two(run) == (200, 200, 2)


def test_fal_run_through_the_proxy_waits_for_the_result():
    async def run(service, _):
        headers = {"x-fal-target-url": f"https://fal.run{APP}/extend-prefix"}
        answer, _ = await asyncio.gather(service.http.post("/proxy", json=BODY, headers=headers), finishing(service))
        return answer.json()["billing"]["usd"]

    assert two(run) == "12.4"
