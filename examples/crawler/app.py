"""A crawler: a job for each page, one request at a time to each host."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import AsyncIterator
from typing import TypedDict
from urllib.parse import urldefrag, urljoin, urlsplit
from uuid import uuid4

import httpx

import taskd

app = taskd.App()
#: Seconds between two requests to one host.
PAUSE = 0.05
LINK = re.compile(r'href="([^"]+)"')
TITLE = re.compile(r"<title>(.*?)</title>", re.DOTALL)


@app.provide
async def http_client() -> AsyncIterator[httpx.AsyncClient]:
    """One for each executor: connections are kept."""
    async with httpx.AsyncClient(timeout=10, headers={"User-Agent": "taskd-example"}) as client:
        yield client


@app.on_stop
async def close() -> None:
    """What ctx.submit has opened."""
    await app.aclose()


class Found(TypedDict):
    """A page; `links` are the ids of the jobs that its links were given."""

    url: str
    title: str
    links: list[int]


@app.task(max_retries=5, timeout=120)
async def page(
    ctx: taskd.Context, url: str, crawl: str, depth: int = 3, client: httpx.AsyncClient = taskd.Depends(http_client)
) -> Found:
    """Fetch a page, and submit a job for each of its links."""
    host = urlsplit(url).netloc
    try:
        async with ctx.lock(f"host {host}", wait=5):
            answer = await client.get(url)
            await asyncio.sleep(PAUSE)
    except TimeoutError:
        raise taskd.Snooze(1, f"others ask {host} now") from None
    if answer.status_code == httpx.codes.NOT_FOUND:
        raise taskd.Fail(f"there is no {url}")
    answer.raise_for_status()
    found = sorted({urldefrag(urljoin(url, link)).url for link in LINK.findall(answer.text)}) if depth > 0 else []
    links = [
        await ctx.submit(page.options(dedupe_key=f"{crawl} {link}"), link, crawl=crawl, depth=depth - 1)
        for link in found
    ]
    title = TITLE.search(answer.text)
    return {"url": url, "title": title[1] if title else "", "links": [link.id for link in links]}


def main(url: str, depth: int) -> None:
    """Crawl from there, and tell what was found."""
    crawl = uuid4().hex
    first = page.options(dedupe_key=f"{crawl} {url}").submit_sync(url, crawl=crawl, depth=depth)
    jobs = [first.id]
    for job in jobs:  # it grows while it is walked
        try:
            found = page.handle_sync(job).result(timeout=300)
        except taskd.JobFailed as failed:
            print(failed.error)
            continue
        print(found["url"], found["title"])
        jobs += [link for link in found["links"] if link not in jobs]


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 3)
