"""What the page asks for."""

import io
import shutil
import tempfile
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, HTTPException, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse, Response, StreamingResponse
from PIL import Image
from pydantic import BaseModel
from starlette.background import BackgroundTask

from datamodules.files import picture_size
from datamodules.files.pictures import count_pages
from qgnet.common.errors import InputError
from qgnet.web.export import Format, write_zip
from qgnet.web.kept import Settings
from qgnet.web.pictures import DISPLAY, THUMBNAIL, add_dropped, scaled
from qgnet.web.session import Labels
from qgnet.web.work import Work

MOST_BYTES = 64 * 2**20
"""Of a picture or mask that is sent here."""
Kind = Literal["probability", "guided", "prior"]


class Begin(BaseModel):
    """What is sent with a press of *Segment*: the picture that is looked at."""

    first: str = ""


def of_work(work: Work) -> APIRouter:
    """The session, runs and the download."""
    router = APIRouter(prefix="/api")

    @router.get("/session")
    def read_session() -> dict[str, Any]:
        kept = work.session.kept
        return {
            "folder": work.folder.resolve().name,
            "settings": kept.settings.model_dump(),
            "learnt": {number: learnt.model_dump() for number, learnt in kept.learnt.items()},
            "presence": work.presence,
            "maps": work.maps,
            "pictures": [work.described(picture) for picture in work.pictures.find()],
        }

    @router.put("/settings")
    def change_settings(settings: Settings) -> None:
        work.session.set(settings)

    @router.post("/segment")
    def segment(begin: Begin) -> None:
        work.worker.start(begin.first)

    @router.delete("/segment")
    def stop() -> None:
        work.worker.stop()

    @router.get("/events")
    async def events() -> Response:
        headers = {"Cache-Control": "no-store"}
        return StreamingResponse(work.worker.events(), media_type="text/event-stream", headers=headers)

    @router.post("/download")
    def download(formats: Annotated[list[Format], Query(min_length=1)]) -> Response:
        to = Path(tempfile.mkdtemp(prefix="qgnet-"))
        clean = BackgroundTask(shutil.rmtree, to)
        try:
            archive = write_zip(work.session, work.pictures, work.presence, formats, to)
        except BaseException:
            shutil.rmtree(to)
            raise
        return FileResponse(archive, media_type="application/zip", filename="masks.zip", background=clean)

    return router


def of_pictures(work: Work) -> APIRouter:
    """Pictures, their masks, and what was found in them."""
    router = APIRouter(prefix="/api/pictures")
    session = work.session

    @router.post("")
    async def drop(request: Request, name: Annotated[str, Query(max_length=500)] = "") -> dict[str, Any]:
        content = await received(request)

        def keep() -> dict[str, Any]:
            try:
                stored = add_dropped(work.folder, content, session.folder / "incoming")
            except InputError as error:
                raise InputError(f"{name[:60] or 'The picture'} was not taken: {error}") from None
            picture = next(p for p in work.pictures.find() if p.name == stored)
            session.give_title(picture.key, name[:200] or stored)
            return work.described(picture)

        return await run_in_threadpool(keep)

    @router.get("/{key}")
    def read_facts(key: str) -> dict[str, Any]:
        picture = work.wanted(key)
        height, width = picture_size(picture.path)
        return {"height": height, "width": width, "pages": count_pages(picture.path), **work.described(picture)}

    @router.get("/{key}/thumbnail.jpg")
    def read_thumbnail(key: str) -> Response:
        return FileResponse(scaled(work.wanted(key), THUMBNAIL, session.folder / "thumbnails"), media_type="image/jpeg")

    @router.get("/{key}/display.jpg")
    def read_display(key: str) -> Response:
        return FileResponse(scaled(work.wanted(key), DISPLAY, session.folder / "displayed"), media_type="image/jpeg")

    @router.get("/{key}/mask.png")
    def read_mask(key: str, small: bool = False) -> Response:
        file = session.mask_file(work.wanted(key).key)
        return small_png(file, Image.Resampling.NEAREST) if small else png(file)

    @router.put("/{key}/mask.png")
    async def paint(key: str, request: Request, support: bool) -> dict[str, Any]:
        content = await received(request)

        def keep() -> dict[str, Any]:
            picture = work.wanted(key)
            session.paint(key, decoded_mask(content, picture_size(picture.path)), support)
            return work.described(picture)

        return await run_in_threadpool(keep)

    @router.delete("/{key}/mask.png")
    def clear(key: str) -> dict[str, Any]:
        picture = work.wanted(key)
        session.clear(key)
        return work.described(picture)

    @router.get("/{key}/{number}/{kind}.png")
    def read_result(key: str, number: int, kind: Kind, small: bool = False) -> Response:
        file = session.result_file(work.wanted(key).key, number, kind)
        return small_png(file, Image.Resampling.BILINEAR) if small else png(file)

    return router


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
                    f"The mask is {image.width}x{image.height} px, {image.mode}; expected {size[1]}x{size[0]} px and "
                    "grey. If the picture's file was changed, load the page again."
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
