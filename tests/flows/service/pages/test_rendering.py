"""Under our headers a browser runs no script but ours, and shows no file but from here or from where OUTPUTS are."""

import asyncio

from flows.service import register
from flows.service.auth import ANYBODY
from flows.service.pages import rendering
from flows.service.register import entry_of
from tests.support.service_app import BASE, BODY, RESULT, api

WORDS = {"Accept": "text/html"}


def asked(path, headers=WORDS):
    async def whole():
        async with api() as service:
            return await service.http.get(path, headers=headers)

    return asyncio.run(whole())


def policy(outputs):
    rows = rendering._headers(outputs)["Content-Security-Policy"].split("; ")
    return {name: sources for name, *sources in map(str.split, rows)}


def test_nothing_is_allowed_but_from_here(tmp_path):
    allowed = policy(str(tmp_path))
    assert allowed["default-src"] == ["'none'"] and allowed["img-src"] == ["'self'", "data:"]
    assert {name: sources for name, sources in allowed.items() if "unsafe" in str(sources)} == {}
    assert allowed["script-src"] == allowed["style-src"] == allowed["connect-src"] == allowed["media-src"] == ["'self'"]


def test_finished_files_on_s3_are_shown_from_there(s3, s3_endpoint):
    allowed = policy("s3://data/outputs")
    assert allowed["media-src"] == ["'self'", s3_endpoint] and allowed["script-src"] == ["'self'"]


def test_pages_hold_no_script_and_no_style_of_their_own():
    for path in ("/", "/train", "/train/extend-prefix", "/docs"):
        page = asked(path)
        assert page.headers["content-security-policy"] and "<style" not in page.text and "style=" not in page.text
        assert page.text.count("<script") == page.text.count('<script type="module" src="/static/')


def test_browsers_ask_whether_a_script_has_changed():
    first = asked("/static/form.js")
    again = asked("/static/form.js", {"If-None-Match": first.headers["etag"]})
    assert (first.headers["content-type"], again.status_code) == ("text/javascript; charset=utf-8", 304)
    assert "no-cache" in first.headers["cache-control"]


def test_what_whoever_judges_a_result_must_know_stands_on_its_page():
    entry, _ = register.add(entry_of("extend-prefix", BODY, owner=ANYBODY, origin=BASE))
    told = RESULT | {"warnings": ["the base model has random weights"]}
    register.change(entry.id, code=200, answer=told, ended_at=entry.submitted_at)
    assert "the base model has random weights" in asked(f"/history/{entry.id}").text


def test_people_are_told_on_a_page_what_is_not_here_and_programs_in_json():
    assert "Not here" in asked("/history/none").text and "no request none" in asked("/history/none").text
    assert asked("/history/none", {}).json() == {"detail": "no request none"}
    assert asked("/static/..%2fapp.py").status_code == 404
