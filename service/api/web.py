"""The page `/`: the files of `service/web`, to whoever asks. They hold no data: that comes by the API, with a token."""

import gzip
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from pathlib import Path

from fastapi import APIRouter, Request, Response

import service
from service.api.strict_route import StrictRoute
from service.errors import NotFound

router = APIRouter(include_in_schema=False, route_class=StrictRoute)

FOLDER = Path(service.__file__).parent / "web"
MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}
# What is open to everyone is exactly what lies in the folder: no path is ever made of what a request says.
FILES = {"/": FOLDER / "index.html"} | {
    f"/web/{path.relative_to(FOLDER).as_posix()}": path
    for path in sorted(FOLDER.rglob("*"))
    if path.suffix in MEDIA_TYPES and path.name != "index.html"
}

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"  # nobody turns text into markup
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
    "Vary": "Accept-Encoding",
}


@dataclass(frozen=True)
class File:
    plain: bytes
    compressed: bytes
    tag: str


@router.api_route("/", methods=["GET", "HEAD"])
def show_page(request: Request) -> Response:
    return _answer(request, "/")


@router.api_route("/web/{name:path}", methods=["GET", "HEAD"])
def show_file(request: Request, name: str) -> Response:
    return _answer(request, f"/web/{name}")


def _answer(request: Request, path: str) -> Response:
    """A file as it is or compressed, or 304 when the browser has it. Raises NotFound."""
    if path not in FILES:
        raise NotFound("page")
    file = _read(FILES[path], FILES[path].stat().st_mtime_ns)
    headers = HEADERS | {"ETag": file.tag}
    if file.tag in (each.strip() for each in request.headers.get("if-none-match", "").split(",")):
        return Response(status_code=304, headers=headers)
    content = file.plain
    if "gzip" in request.headers.get("accept-encoding", ""):
        content = file.compressed
        headers["Content-Encoding"] = "gzip"
    if request.method == "HEAD":
        headers["Content-Length"] = str(len(content))
        content = b""
    return Response(content, headers=headers, media_type=MEDIA_TYPES[FILES[path].suffix])


@lru_cache(maxsize=len(FILES))
def _read(path: Path, _changed: int) -> File:
    """Compressed once, and again when the file was changed: an edit shows at the next reload."""
    plain = path.read_bytes()
    # Weak: the same file as it is and compressed are not equal byte for byte.
    return File(plain, gzip.compress(plain, mtime=0), f'W/"{sha256(plain).hexdigest()[:32]}"')
