"""The server of the local page. It answers this machine alone, asks no network, and writes nothing.

A page of the web that a user has open at the same time could send requests to 127.0.0.1, under a name of its own: so
only requests to 127.0.0.1 or localhost are answered, and only those that this page sends.
"""

from __future__ import annotations

import socket
import traceback
from collections.abc import Callable, Mapping
from errno import EACCES
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simgpu.catalog import Catalogue
from simgpu.errors import InputError, SimgpuError
from simgpu.explore.asking import answer, names
from simgpu.version import __version__

if TYPE_CHECKING:
    from flask import Flask

HERE = Path(__file__).parent
LOCAL = ("127.0.0.1", "localhost")
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'"
)
LARGEST = 200_000
"""Bytes of a question."""
NEEDS = "the local page needs Flask: pip install 'simgpu[ui]'"


def make_app(starts: Mapping[str, Mapping[str, Any]], catalogue: Catalogue) -> Flask:
    """The page as an application: `/` the page, `/start` what it offers, `/ask` a question. Raises `InputError`."""
    try:
        from flask import Flask, Response, abort, jsonify, request
        from werkzeug.exceptions import HTTPException
    except ImportError:
        raise InputError(NEEDS) from None
    app = Flask("simgpu", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = LARGEST
    app.json.sort_keys = False  # type: ignore[attr-defined]  # figures keep their order

    @app.before_request
    def _only_this_page() -> None:
        host = request.host.rpartition(":")[0] or request.host
        origin = request.headers.get("Origin")
        if host not in LOCAL or (origin is not None and origin != f"http://{request.host}"):
            abort(403)

    @app.after_request
    def _closed(response: Any) -> Any:
        response.headers["Content-Security-Policy"] = POLICY
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Cache-Control"] = "no-store"
        return response

    @app.get("/")
    def _page() -> Any:
        return Response((HERE / "page.html").read_bytes(), mimetype="text/html")

    @app.get("/<any('page.css', 'page.js'):name>")
    def _part(name: str) -> Any:
        kind = "text/css" if name.endswith(".css") else "text/javascript"
        return Response((HERE / name).read_bytes(), mimetype=kind)

    @app.get("/favicon.ico")
    def _icon() -> Any:
        return "", 204

    @app.get("/start")
    def _start() -> Any:
        return jsonify({"starts": starts, "names": names(catalogue), "version": __version__})

    @app.post("/ask")
    def _ask() -> Any:
        return jsonify(_told(lambda: answer(_question(request.get_json(silent=True)), catalogue)))

    @app.errorhandler(Exception)
    def _fault(error: Exception) -> Any:
        if isinstance(error, HTTPException):
            return error
        traceback.print_exception(error)
        return jsonify({"error": f"This is a fault of simgpu, not of yours: {type(error).__name__}: {error}"})

    return app


def _question(given: Any) -> Mapping[str, Any]:
    if not isinstance(given, dict):
        raise InputError("expected a question in JSON")
    return given


def _told(ask: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """An answer, or the one line that says why there is none."""
    try:
        return ask()
    except RecursionError:
        return {"error": "the question is nested too deeply"}
    except SimgpuError as error:
        return {"error": str(error).replace("<experiment>: ", "")}


def serve(app: Flask, port: int, ready: Callable[[str], None]) -> None:
    """Answer on this machine until interrupted; `ready` is told the address. Raises `InputError` for a port in use."""
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Silent(WSGIRequestHandler):
        """Requests are not worth a line each."""

        def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
            """Say nothing."""

    try:
        door = socket.create_server(("127.0.0.1", port))  # werkzeug prints a line of its own for a port in use
    except OSError as error:
        why = "may not be used" if error.errno == EACCES else "is taken"
        raise InputError(f"port {port} {why}; expected a free one, or 0 for any", key="--port") from None
    port = door.getsockname()[1]
    with door:  # the server holds its own copy
        server = make_server("127.0.0.1", port, app, threaded=False, request_handler=Silent, fd=door.fileno())
    try:
        ready(f"http://127.0.0.1:{port}/")
        server.serve_forever()
    finally:
        server.server_close()
