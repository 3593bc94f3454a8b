"""The style and the script of the page, each under a name that says which version it is, so that browsers keep it."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

from fastapi import APIRouter, Request, Response

from stager.errors import NotFoundError

FOLDER = Path(__file__).parent / "static"
MEDIA = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
FOR_EVER = "public, max-age=31536000, immutable"
PREFIX = "/static/"


class Assets:
    """The files, read once."""

    def __init__(self) -> None:
        self._urls: dict[str, str] = {}
        self._files: dict[str, tuple[bytes, str]] = {}
        for path in sorted(FOLDER.iterdir()):
            if path.suffix in MEDIA:
                data = path.read_bytes()
                name = f"{path.stem}-{sha256(data).hexdigest()[:12]}{path.suffix}"
                self._urls[path.name] = PREFIX + name
                self._files[name] = data, MEDIA[path.suffix]

    def url(self, name: str) -> str:
        """Where a file is served."""
        return self._urls[name]

    def routes(self) -> APIRouter:
        """The route ``/static/{name}``; anybody may read it."""
        router = APIRouter(include_in_schema=False)

        @router.get(PREFIX + "{name}")
        async def asset(name: str, request: Request) -> Response:
            if name not in self._files:
                raise NotFoundError(f"there is no file {name[:80]!r}", cause="it is of another version")
            data, media = self._files[name]
            headers = {"ETag": f'"{name}"', "Cache-Control": FOR_EVER}
            if headers["ETag"] in request.headers.get("if-none-match", ""):
                return Response(status_code=304, headers=headers)
            return Response(data, media_type=media, headers=headers)

        return router
