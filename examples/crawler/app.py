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
    """Open one client for each executor, so that connections are kept."""
    async with httpx.AsyncClient(timeout=10, headers={"User-Agent": "taskd-example"}) as client:
        yield client


@app.on_stop
async def close() -> None:
    """Close the connections that ctx.submit has opened."""
    await app.aclose()


class Page(TypedDict):
    """A page; `links` are the ids of the jobs for its links."""

    url: str
    title: str
    links: list[int]


@app.task(max_retries=5, timeout=120)
async def page(
    ctx: taskd.Context, url: str, crawl: str, depth: int = 3, client: httpx.AsyncClient = taskd.Depends(http_client)
) -> Page:
    """Fetch a page, and submit a job for each of its links."""
    host = urlsplit(url).netloc
    try:
        async with ctx.lock(f"host {host}", wait=5):
            response = await client.get(url)
            await asyncio.sleep(PAUSE)
    except TimeoutError:
        raise taskd.Snooze(1, f"another job has the lock of {host}") from None
    if response.status_code == httpx.codes.NOT_FOUND:
        raise taskd.Fail(f"there is no {url}")
    response.raise_for_status()
    urls = sorted({urldefrag(urljoin(url, link)).url for link in LINK.findall(response.text)}) if depth > 0 else []
    links = [
        await ctx.submit(page.options(dedupe_key=f"{crawl} {link}"), link, crawl=crawl, depth=depth - 1)
        for link in urls
    ]
    title = TITLE.search(response.text)
    return {"url": url, "title": title[1] if title else "", "links": [link.id for link in links]}


def main(url: str, depth: int) -> None:
    """Crawl from a URL, and print every page."""
    crawl = uuid4().hex
    first = page.options(dedupe_key=f"{crawl} {url}").submit_sync(url, crawl=crawl, depth=depth)
    jobs = [first.id]
    for job in jobs:  # the list grows during the loop
        try:
            result = page.handle_sync(job).result(timeout=300)
        except taskd.JobFailed as failed:
            print(failed.error)
            continue
        print(result["url"], result["title"])
        jobs += [link for link in result["links"] if link not in jobs]


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 3)
