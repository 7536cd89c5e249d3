"""GET /openapi.json and GET /docs: the description, and a page that shows it. Nothing comes from the Internet."""

from __future__ import annotations

import asyncio
from functools import cache
from pathlib import Path

from openapi_ui_bundles.swagger_ui import static_path

from taskd.api.answers import Answer
from taskd.api.call import Call
from taskd.api.openapi import build
from taskd.api.problems import not_found
from taskd.settings import HttpSettings

#: The files of Swagger UI that the page needs, and what they are.
ASSETS = {
    "swagger-ui.css": b"text/css; charset=utf-8",
    "swagger-ui-bundle.js": b"text/javascript; charset=utf-8",
    "favicon-32x32.png": b"image/png",
}
#: The page's own script, which has to come from a file: the policy below allows none in the page.
START = b"SwaggerUIBundle({url: 'openapi.json', dom_id: '#api', deepLinking: true, validatorUrl: null})\n"
PAGE = b"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>taskd API</title>
<link rel="icon" href="docs/favicon-32x32.png">
<link rel="stylesheet" href="docs/swagger-ui.css">
</head>
<body>
<div id="api"></div>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</body>
</html>
"""
#: What a browser may do with the page: load what belongs to it from here, and show it in no other page.
POLICY = (
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self';"
        b" base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
#: The files change only with the installed version.
KEEP = (b"cache-control", b"max-age=3600")


class Manual:
    """The API's description of itself."""

    def __init__(self, settings: HttpSettings) -> None:
        self._description = build(settings)

    async def description(self, call: Call) -> Answer:
        """GET /openapi.json."""
        call.query()
        return Answer(200, self._description, POLICY)

    async def page(self, _: Call) -> Answer:
        """GET /docs."""
        return Answer(200, PAGE, POLICY, content_type=b"text/html; charset=utf-8")

    async def asset(self, call: Call) -> Answer:
        """GET /docs/{name}: a file of the page."""
        name = call.segment("name")
        if name == "start.js":
            return Answer(200, START, (KEEP, *POLICY), content_type=b"text/javascript; charset=utf-8")
        if name not in ASSETS:
            raise not_found(f"there is nothing at {call.path}; the API's page is at /docs")
        return Answer(200, await asyncio.to_thread(_file, name), (KEEP, *POLICY), content_type=ASSETS[name])


@cache
def _file(name: str) -> bytes:
    return (Path(static_path) / name).read_bytes()
