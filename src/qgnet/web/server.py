"""The server behind the page: a thin layer over the session, the folder's pictures and the thread with the network."""

import io
import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import FastAPI, HTTPException, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, Response, StreamingResponse
from fastapi.staticfiles import StaticFiles
from PIL import Image
from pydantic import BaseModel
from starlette.background import BackgroundTask

from datamodules.errors import InputError
from datamodules.files import picture_size
from qgnet.segmenter import Segmenter
from qgnet.web.export import OFFERED, write_zip
from qgnet.web.pictures import DISPLAY, THUMBNAIL, Picture, Pictures, add_dropped, scaled
from qgnet.web.security import Guard
from qgnet.web.session import Labels, Session, Settings
from qgnet.web.worker import Worker

MOST_BYTES = 64 * 2**20
"""Of a picture or mask that is sent here."""


class Begin(BaseModel):
    """What is sent with a press of *Segment*: the picture that is looked at."""

    first: str = ""


def make_app(folder: Path, segmenter: Segmenter, host: str = "127.0.0.1", token: str | None = None) -> FastAPI:
    """The application.

    Args:
        folder: of the photographs.
        segmenter: finds what is painted.
        host: where it listens.
        token: needed in the address; None: none.

    Raises:
        InputError: if the folder does not exist, or no session can be kept in it.
    """
    pictures = Pictures(folder)
    pictures.find()
    session = Session(folder)
    worker = Worker(segmenter, session, pictures)
    presence = segmenter.presence if segmenter.model.calibration is not None else 0.0

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        worker.close()

    app = FastAPI(lifespan=lifespan, openapi_url=None)
    app.state.worker = worker
    app.add_middleware(Guard, host=host, token=token)
    tell_errors(app)

    def wanted(key: str) -> Picture:
        try:
            return pictures.get(key)
        except KeyError:
            raise HTTPException(404, "This picture is no longer in the folder. Load the page again.") from None

    def described(picture: Picture) -> dict[str, Any]:
        painted, outcome = session.kept.painted.get(picture.key), session.outcome(picture)
        return {
            "key": picture.key,
            "name": session.kept.titles.get(picture.key, picture.name),
            "painted": painted and painted.model_dump(),
            "outcome": outcome and outcome.model_dump(exclude={"stamp"}),
        }

    @app.get("/api/session")
    def read_session() -> dict[str, Any]:
        return {
            "folder": folder.resolve().name,
            "settings": session.kept.settings.model_dump(),
            "learnt": {number: learnt.model_dump() for number, learnt in session.kept.learnt.items()},
            "presence": presence,
            "maps": ["guided", "prior"] if segmenter.model.kind == "qgnet" else ["guided"],
            "pictures": [described(picture) for picture in pictures.find()],
        }

    @app.put("/api/settings")
    def change_settings(settings: Settings) -> None:
        session.set(settings)

    @app.get("/api/pictures/{key}")
    def read_facts(key: str) -> dict[str, Any]:
        picture = wanted(key)
        height, width = picture_size(picture.path)
        return {"height": height, "width": width, **described(picture)}

    @app.get("/api/pictures/{key}/thumbnail.jpg")
    def read_thumbnail(key: str) -> Response:
        return FileResponse(scaled(wanted(key), THUMBNAIL, session.folder / "thumbnails"), media_type="image/jpeg")

    @app.get("/api/pictures/{key}/display.jpg")
    def read_display(key: str) -> Response:
        return FileResponse(scaled(wanted(key), DISPLAY, session.folder / "displayed"), media_type="image/jpeg")

    @app.get("/api/pictures/{key}/mask.png")
    def read_mask(key: str, small: bool = False) -> Response:
        file = session.mask_file(wanted(key).key)
        return small_png(file, Image.Resampling.NEAREST) if small else png(file)

    @app.put("/api/pictures/{key}/mask.png")
    async def paint(key: str, request: Request, support: bool) -> dict[str, Any]:
        content = await received(request)

        def keep() -> dict[str, Any]:
            picture = wanted(key)
            session.paint(key, decoded_mask(content, picture_size(picture.path)), support)
            return described(picture)

        return await run_in_threadpool(keep)

    @app.delete("/api/pictures/{key}/mask.png")
    def clear(key: str) -> dict[str, Any]:
        picture = wanted(key)
        session.clear(key)
        return described(picture)

    @app.get("/api/pictures/{key}/{number}/{kind}.png")
    def read_result(key: str, number: int, kind: Literal["probability", "guided", "prior"], small: bool = False) -> Any:
        file = session.result_file(wanted(key).key, number, kind)
        return small_png(file, Image.Resampling.BILINEAR) if small else png(file)

    @app.post("/api/pictures")
    async def drop(request: Request, name: Annotated[str, Query(max_length=500)] = "") -> dict[str, Any]:
        content = await received(request)

        def keep() -> dict[str, Any]:
            try:
                stored = add_dropped(folder, content, session.folder / "incoming")
            except InputError as error:
                raise InputError(f"{name[:60] or 'The picture'} was not taken: {error}") from None
            picture = next(p for p in pictures.find() if p.name == stored)
            session.change(titles=session.kept.titles | {picture.key: name[:200] or stored})
            return described(picture)

        return await run_in_threadpool(keep)

    @app.post("/api/segment")
    def segment(begin: Begin) -> None:
        worker.start(begin.first)

    @app.delete("/api/segment")
    def stop() -> None:
        worker.stop()

    @app.get("/api/events")
    def events() -> Response:
        return StreamingResponse(worker.events(), media_type="text/event-stream", headers={"Cache-Control": "no-store"})

    @app.post("/api/download")
    def download(formats: Annotated[list[Literal[OFFERED]], Query(min_length=1)]) -> Response:  # type: ignore[valid-type]
        to = Path(tempfile.mkdtemp(prefix="qgnet-"))
        clean = BackgroundTask(shutil.rmtree, to)
        try:
            archive = write_zip(session, pictures, presence, formats, to)
        except BaseException:
            shutil.rmtree(to)
            raise
        return FileResponse(archive, media_type="application/zip", filename="masks.zip", background=clean)

    app.mount("/", StaticFiles(directory=str(files("qgnet.web") / "static"), html=True))
    return app


def new_token() -> str:
    """A token that cannot be guessed."""
    return secrets.token_urlsafe(24)


def tell_errors(app: FastAPI) -> None:
    """Every failure becomes ``{"error": message}``, for the page to show."""

    def told(status: int, message: str) -> JSONResponse:
        return JSONResponse({"error": message}, status)

    @app.exception_handler(InputError)
    def mistake(request: Request, error: InputError) -> Response:
        return told(422, str(error))

    @app.exception_handler(HTTPException)
    def refused(request: Request, error: HTTPException) -> Response:
        return told(error.status_code, str(error.detail))

    @app.exception_handler(RequestValidationError)
    def invalid(request: Request, error: RequestValidationError) -> Response:
        return told(422, "; ".join(str(one["msg"]) for one in error.errors()))

    @app.exception_handler(OSError)
    def failed(request: Request, error: OSError) -> Response:
        return told(507, f"{error.strerror or error}: nothing was written. Make room or give the right to write.")


async def received(request: Request) -> bytes:
    """The body, of which no more is read than may be sent."""
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > MOST_BYTES:
            raise HTTPException(413, f"The file is larger than {MOST_BYTES // 2**20} MB, which is the most.")
        parts.append(part)
    return b"".join(parts)


def decoded_mask(content: bytes, size: tuple[int, int]) -> Labels:
    """A mask sent by the page, (H, W) of `size`; InputError if it is no grey PNG of this size."""
    try:
        with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
            if (image.height, image.width, image.mode) != (*size, "L"):
                raise InputError(
                    f"The mask is {image.width}x{image.height} px, {image.mode}; expected {size[1]}x{size[0]} px, grey. "
                    "If the picture's file was changed, load the page again."
                )
            return np.asarray(image)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"The mask is no PNG: {error}.") from None


def png(file: Path) -> Response:
    """A file that may change at any time; 404 if there is none."""
    if not file.is_file():
        raise HTTPException(404, "There is none.")
    return FileResponse(file, media_type="image/png", headers={"Cache-Control": "no-store"})


def small_png(file: Path, resampling: Image.Resampling) -> Response:
    """A mask or probability for the strip, as long as a thumbnail."""
    if not file.is_file():
        raise HTTPException(404, "There is none.")
    with Image.open(file) as image:
        image.thumbnail((THUMBNAIL, THUMBNAIL), resampling)
        content = io.BytesIO()
        image.save(content, format="PNG", compress_level=1)
    return Response(content.getvalue(), media_type="image/png", headers={"Cache-Control": "no-store"})
