"""Two processes of the HTTP API over one database, as far as a test needs them."""

import asyncio

from tests.support.service_app import FakeRuns, api


def two(doing, runs=None):
    """Two processes, as far as a test needs them: two applications over the same runs and the same database."""

    async def both():
        shared = runs or FakeRuns()
        async with api(shared) as first, api(shared) as second:
            return await doing(first, second)

    return asyncio.run(both())


async def tell(*services):
    await asyncio.gather(*(each.app.state.watcher.deliveries.tell_due() for each in services))
    await asyncio.gather(*(each.app.state.watcher.deliveries.all_told() for each in services))


async def read(*services):
    for each in services:
        await each.app.state.watcher.read()
