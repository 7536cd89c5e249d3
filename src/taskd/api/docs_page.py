"""GET /openapi.json and GET /docs: the API's description, and a page that shows it. The page loads nothing from elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from openapi_ui_bundles.swagger_ui import static_path

from taskd.api.problems import not_found
from taskd.api.request import Request
from taskd.api.responses import Response
from taskd.api.routes import Resource, Route

#: The files of Swagger UI that the page needs, and their media types.
ASSETS = {
    "swagger-ui.css": b"text/css; charset=utf-8",
    "swagger-ui-bundle.js": b"text/javascript; charset=utf-8",
    "favicon-32x32.png": b"image/png",
}
#: The page's own script. It is a file of its own, because the policy below allows no inline script.
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
#: Restrictions for browsers: the page loads its own files only, and no other page may embed it.
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
CACHE = (b"cache-control", b"max-age=3600")


class DocsResource(Resource):
    """Serves the OpenAPI document and its page. Both are for browsers and tools, and are not in the document."""

    def __init__(self, document: bytes) -> None:
        self._document = document

    def routes(self) -> Sequence[Route]:
        return (
            Route("GET", "/openapi.json", self.document, None),
            Route("GET", "/docs", self.page, None),
            Route("GET", "/docs/{name}", self.asset, None),
        )

    async def document(self, request: Request) -> Response:
        """GET /openapi.json."""
        request.query()
        return Response(200, self._document, POLICY)

    async def page(self, _: Request) -> Response:
        """GET /docs."""
        return Response(200, PAGE, POLICY, content_type=b"text/html; charset=utf-8")

    async def asset(self, request: Request) -> Response:
        """GET /docs/{name}: a file of the page."""
        name = request.segment("name")
        if name == "start.js":
            return Response(200, START, (CACHE, *POLICY), content_type=b"text/javascript; charset=utf-8")
        if name not in ASSETS:
            raise not_found(f"there is nothing at {request.path}; the API's page is at /docs")
        return Response(200, await asyncio.to_thread(_file, name), (CACHE, *POLICY), content_type=ASSETS[name])


@cache
def _file(name: str) -> bytes:
    return (Path(static_path) / name).read_bytes()
