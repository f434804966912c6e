"""A training as it goes: what its Prefect run shows, told to its owner, pictures as pictures and nothing else."""

import asyncio
import base64
from datetime import UTC, datetime
from types import SimpleNamespace
from uuid import uuid4

import httpx
import pytest

from flows.service.sightings import Picture, Sighting, Sightings, picture_in
from tests.support.service_app import api

SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
CARD = f"![loss](data:image/svg+xml;base64,{base64.b64encode(SVG).decode()})\n\nLast step: video 0.1234"
SEEN = Sighting(43.5, "Optimisation steps", {"loss-curve": Picture("image/svg+xml", SVG, "Last step: video 0.1234")})


def running(doing, seen=SEEN, **headers):
    async def whole():
        async with api(**headers) as service:
            request = await service.submitted()
            await service.move(request, "Running")
            service.runs.seen[service.runs.started[request]] = seen
            return await doing(service, request)

    return asyncio.run(whole())


def test_a_running_training_tells_its_percent_its_step_and_its_curve():
    async def look(service, request):
        told = (await service.http.get(f"/history/{request}/live")).json()
        return told, await service.http.get(told["pictures"]["loss-curve"]["url"])

    told, picture = running(look)
    assert (told["standing"], told["percent"], told["doing"]) == ("running", 43.5, "Optimisation steps")
    assert told["pictures"]["loss-curve"]["words"] == "Last step: video 0.1234"
    assert (picture.content, picture.headers["content-type"]) == (SVG, "image/svg+xml")
    assert {"sandbox", "default-src 'none'"} <= set(picture.headers["content-security-policy"].split("; "))


def test_another_picture_has_another_address():
    other = SEEN._replace(pictures={"loss-curve": Picture("image/svg+xml", SVG + b" ", "")})

    async def look(service, request):
        first = (await service.http.get(f"/history/{request}/live")).json()["pictures"]["loss-curve"]["url"]
        service.runs.seen[service.runs.started[request]] = other
        return first, (await service.http.get(f"/history/{request}/live")).json()["pictures"]["loss-curve"]["url"]

    first, second = running(look)
    assert first.partition("?")[0] == second.partition("?")[0] and first != second


@pytest.mark.parametrize("path", ["live", "pictures/loss-curve"])
def test_nobody_else_sees_it(two_keys, path):
    async def look(service, request):
        other = {"Authorization": "Key other"}
        return [
            (await service.http.get(f"/history/{request}/{path}", headers=each)).status_code for each in (other, {})
        ]

    assert running(look, Authorization="Key mine") == [404, 200]


def test_what_is_not_shown_is_not_there():
    async def look(service, request):
        paths = ("pictures/previews", "pictures/report", "pictures/..%2flive")
        return [(await service.http.get(f"/history/{request}/{path}")).status_code for path in paths]

    assert running(look) == [404, 404, 404]


def test_while_prefect_is_away_a_training_is_seen_to_go_and_no_more(monkeypatch):
    async def away(run_id):
        raise httpx.ConnectError("refused")

    async def look(service, request):
        monkeypatch.setattr(service.runs, "sighting", away)
        return await service.http.get(f"/history/{request}/live")

    answer = running(look)
    assert (answer.status_code, answer.json()["standing"], answer.json()["percent"]) == (200, "running", None)


def test_the_picture_of_a_card_is_read_with_the_words_beside_it():
    assert picture_in(CARD, "image/svg+xml") == Picture("image/svg+xml", SVG, "Last step: video 0.1234")


@pytest.mark.parametrize(
    "card", ["", "no picture", CARD.replace("svg+xml", "png"), "![x](data:image/svg+xml;base64,A)"]
)
def test_what_is_no_picture_of_that_kind_is_none(card):
    assert picture_in(card, "image/svg+xml") is None


class Prefect:
    """The artifacts of one run, and how often somebody asks for them."""

    def __init__(self, *artifacts):
        self.artifacts, self.asked = artifacts, 0

    async def read_artifacts(self, artifact_filter, sort, limit):
        self.asked += 1
        wanted = artifact_filter
        found = [
            each
            for each in self.artifacts
            if (wanted.type is None or each.type in wanted.type.any_)
            and (wanted.key is None or each.key in wanted.key.any_)
        ]
        return sorted(found, key=lambda each: each.updated, reverse=True)[:limit]


def artifact(minute, kind, key, data, description=""):
    updated = datetime(2026, 1, 1, 0, minute, tzinfo=UTC)
    return SimpleNamespace(type=kind, key=key, data=data, description=description, updated=updated)


def test_many_who_look_on_ask_prefect_once():
    client = Prefect(
        artifact(1, "progress", "fit", 100.0, "Clips checked"),
        artifact(2, "progress", "train", 12.5, "Optimisation steps"),
        artifact(3, "markdown", "loss-curve", CARD),
    )
    run, sightings = str(uuid4()), Sightings()

    async def look():
        return [await sightings.of(client, run) for _ in range(5)]

    seen = asyncio.run(look())
    assert seen[0] == Sighting(12.5, "Optimisation steps", {"loss-curve": picture_in(CARD, "image/svg+xml")})
    assert client.asked == 3 and seen == [seen[0]] * 5
