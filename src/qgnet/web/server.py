"""The server behind the page."""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from fastapi.staticfiles import StaticFiles

from qgnet.common.errors import InputError
from qgnet.inference.segmenter import Segmenter
from qgnet.web.disk_errors import disk_error_message, is_full
from qgnet.web.routes import image_routes, workspace_routes
from qgnet.web.security import Guard
from qgnet.web.workspace import Workspace


def make_app(folder: Path, segmenter: Segmenter, host: str = "127.0.0.1", token: str | None = None) -> FastAPI:
    """Create the application; its workspace is in ``state.workspace``.

    Args:
        folder: the image folder.
        segmenter: segments the images.
        host: the host name or address where the server listens.
        token: required in the address; None needs no token.

    Raises:
        InputError: see :class:`Workspace`.
    """
    workspace = Workspace(folder, segmenter)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        workspace.close()

    app = FastAPI(lifespan=lifespan, openapi_url=None)
    app.state.workspace = workspace
    app.add_middleware(Guard, host=host, token=token)
    report_errors(app)
    app.include_router(workspace_routes(workspace))
    app.include_router(image_routes(workspace))
    app.mount("/", Page(directory=str(files("qgnet.web") / "static"), html=True))
    return app


class Page(StaticFiles):
    """The static files of the page. Browsers check them at every load, so that scripts of two versions never mix."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        """Starlette's response with its ETag, and ``Cache-Control: no-cache``."""
        response = super().file_response(*args, **kwargs)
        response.headers["Cache-Control"] = "no-cache"
        return response


def new_token() -> str:
    """A random token that cannot be guessed."""
    return secrets.token_urlsafe(24)


def report_errors(app: FastAPI) -> None:
    """Answer every error with ``{"error": message}``, which the page shows."""

    def answered(status: int, message: str) -> JSONResponse:
        return JSONResponse({"error": message}, status)

    @app.exception_handler(InputError)
    def mistake(request: Request, error: InputError) -> Response:
        return answered(422, str(error))

    @app.exception_handler(HTTPException)
    def refused(request: Request, error: HTTPException) -> Response:
        return answered(error.status_code, str(error.detail))

    @app.exception_handler(RequestValidationError)
    def invalid(request: Request, error: RequestValidationError) -> Response:
        return answered(422, "; ".join(str(one["msg"]) for one in error.errors()))

    @app.exception_handler(OSError)
    def failed(request: Request, error: OSError) -> Response:
        return answered(507 if is_full(error) else 500, disk_error_message(error))
