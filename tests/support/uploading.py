"""Clients that upload to the HTTP API in this process, each with a key of its own."""

import asyncio
import os
import time

from schemas.settings import settings
from tasks.sources.upload_parts import DAY
from tests.support.service_app import api

CONTENT = b"PK first, second, third"


NEW = {"file_name": "my clips.zip", "content_type": "application/zip"}


KEY = {"Authorization": "Key mine"}


OTHER = {"Authorization": "Key other"}


def limited(monkeypatch, size):
    monkeypatch.setenv("LTX_FLOWS_MAX_DOWNLOAD_BYTES", str(size))
    settings.cache_clear()


def of_the_api(test):
    """Runs a test's coroutine with a fresh API; nothing but what it sends has a key."""

    async def with_api(**given):
        async with api() as service:
            await test(service, **given)

    def run(monkeypatch, home):
        given = {"monkeypatch": monkeypatch, "home": home}
        wanted = test.__code__.co_varnames[: test.__code__.co_argcount]
        asyncio.run(with_api(**{name: value for name, value in given.items() if name in wanted}))

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


async def begun(service, how="initiate"):
    return (await service.http.post(f"/storage/upload/{how}", json=NEW, headers=KEY)).json()


def below(link, what):
    path, _, query = link.partition("?")
    return f"{path}/{what}?{query}"


async def in_parts(service, **pieces):
    """Begun, with some parts: `_2=b"..."`; the link, the address and what their answers said."""
    links = await begun(service, "initiate-multipart")
    sent = [await service.http.put(below(links["upload_url"], name[1:]), content=each) for name, each in pieces.items()]
    return links["upload_url"], links["file_url"], [answer.json() for answer in sent]


async def complete(service, link, parts):
    return await service.http.post(below(link, "complete"), json={"parts": parts})


async def submit(service, url, headers=KEY, **more):
    return await service.submit(body={"training_data_url": url, **more}, headers=headers)


def kept(home):
    return sorted(path.name for path in (home / "store" / "parts").rglob("*") if path.is_file())


def age(folder):
    then = time.time() - DAY - 60
    for path in (*folder.iterdir(), folder):
        os.utime(path, (then, then))
