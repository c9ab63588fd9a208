"""The HTTP routes of the page."""

import base64
import io
import shutil
import tempfile
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Depends, HTTPException, Query, Request
from fastapi.responses import FileResponse, Response, StreamingResponse
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel
from starlette.background import BackgroundTask

from datamodules.files import read_image, read_image_size
from datamodules.files.images import count_pages
from datamodules.files.sources import IGNORE
from qgnet.common.errors import InputError
from qgnet.inference.snap import snap
from qgnet.outputs import CLASS_COLOURS, FORMATS
from qgnet.web.export import result_of, write_zip
from qgnet.web.images import DISPLAY, THUMBNAIL, FolderImage, scaled, store_dropped
from qgnet.web.session import Labels
from qgnet.web.session_file import Settings
from qgnet.web.workspace import Workspace

MOST_BYTES = 64 * 2**20
"""Most bytes of an image or mask that the page sends."""
PAGE_FORMATS = {name: one.label for name, one in FORMATS.items() if one.on_page}
NONE = HTTPException(404, "There is no mask or map for this image.")


class Begin(BaseModel):
    """The request of the *Segment* button: the key of the image that is shown."""

    first: str = ""


async def received(request: Request) -> bytes:
    """The body of a request; stop reading and answer 413 after `MOST_BYTES`."""
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > MOST_BYTES:
            raise HTTPException(413, f"The file is larger than {MOST_BYTES // 2**20} MB, which is the most.")
        parts.append(part)
    return b"".join(parts)


Body = Annotated[bytes, Depends(received)]


def workspace_routes(workspace: Workspace) -> APIRouter:
    """Routes of the session, the runs and the download."""
    router = APIRouter(prefix="/api")

    @router.get("/session")
    def read_session() -> dict[str, Any]:
        state = workspace.session.state
        return {
            "folder": workspace.folder.resolve().name,
            "settings": state.settings.model_dump(),
            "learnt": {number: learnt.model_dump() for number, learnt in state.learnt.items()},
            "presence": workspace.presence,
            "maps": workspace.maps,
            "formats": PAGE_FORMATS,
            "colours": CLASS_COLOURS,
            "warnings": workspace.session.warnings,
            "images": [workspace.description(image) for image in workspace.images.find()],
        }

    @router.put("/settings")
    def change_settings(settings: Settings) -> None:
        workspace.session.set(settings)

    @router.post("/segment")
    def segment(begin: Begin) -> None:
        workspace.worker.start(begin.first)

    @router.delete("/segment")
    def stop() -> None:
        workspace.worker.stop()

    @router.get("/events")
    async def events() -> Response:
        headers = {"Cache-Control": "no-store"}
        return StreamingResponse(workspace.worker.events(), media_type="text/event-stream", headers=headers)

    @router.post("/download")
    def download(formats: Annotated[list[str], Query(min_length=1)], instances: bool = False) -> Response:
        unknown = [name for name in formats if name not in PAGE_FORMATS]
        if unknown:
            raise InputError(f"There is no format {unknown[0]!r}; expected some of {', '.join(PAGE_FORMATS)}.")
        to = Path(tempfile.mkdtemp(prefix="qgnet-"))
        clean = BackgroundTask(shutil.rmtree, to)
        try:
            archive = write_zip(workspace.session, workspace.images, workspace.presence, formats, to, instances)
        except BaseException:
            shutil.rmtree(to)
            raise
        return FileResponse(archive, media_type="application/zip", filename="masks.zip", background=clean)

    return router


def image_routes(workspace: Workspace) -> APIRouter:
    """Routes of the images, their masks and their results."""
    router = APIRouter(prefix="/api/images")
    session = workspace.session

    @router.post("")
    def drop(content: Body, name: Annotated[str, Query(max_length=500)] = "") -> dict[str, Any]:
        session.check_there()
        try:
            stored = store_dropped(workspace.folder, content, session.folder / "incoming")
        except InputError as error:
            raise InputError(f"{name[:60] or 'The image'} was not taken: {error}") from None
        image = next(p for p in workspace.images.find() if p.name == stored)
        session.set_title(image.key, name[:200] or stored)
        return workspace.description(image)

    @router.get("/{key}")
    def read_facts(key: str) -> dict[str, Any]:
        image = workspace.find(key)
        height, width = read_image_size(image.path)
        return {"height": height, "width": width, "pages": count_pages(image.path), **workspace.description(image)}

    def jpeg(key: str, side: int, folder: str) -> Response:
        image = workspace.find(key)
        session.check_there()
        return FileResponse(scaled(image, side, session.folder / folder), media_type="image/jpeg")

    @router.get("/{key}/thumbnail.jpg")
    def read_thumbnail(key: str) -> Response:
        return jpeg(key, THUMBNAIL, "thumbnails")

    @router.get("/{key}/display.jpg")
    def read_display(key: str) -> Response:
        return jpeg(key, DISPLAY, "displayed")

    @router.get("/{key}/mask.png")
    def read_mask(key: str, small: bool = False) -> Response:
        image = workspace.find(key)
        if image.key not in session.state.painted:
            raise NONE
        session.mask(image)  # raises if the mask cannot be used
        return png(session.mask_file(key), Image.Resampling.NEAREST, small)

    @router.put("/{key}/mask.png")
    def paint(key: str, content: Body, support: bool, rough: bool = False) -> dict[str, Any]:
        image = workspace.find(key)
        session.paint(key, decoded_mask(content, read_image_size(image.path)), support, rough)
        return workspace.description(image)

    @router.post("/{key}/{number}/snap.png")
    def grow(key: str, number: int, content: Body, rough: bool = False) -> Response:
        image = workspace.find(key)
        mask = decoded_mask(content, read_image_size(image.path))
        return Response(grown(image, mask, number, rough), media_type="image/png")

    @router.delete("/{key}/mask.png")
    def clear(key: str) -> dict[str, Any]:
        image = workspace.find(key)
        session.clear(key)
        return workspace.description(image)

    @router.get("/{key}/objects")
    def read_objects(key: str) -> dict[str, Any]:
        names = session.names
        result = result_of(session, workspace.find(key), names, workspace.presence)
        if result is None:
            return {"counts": {}, "png": ""}
        counts = {number: segment.count for number, segment in zip(names, result.segments.values(), strict=True)}
        return {"counts": counts, "png": base64.b64encode(numbered(result.instances)).decode()}

    @router.get("/{key}/{number}/{kind}.png")
    def read_result(key: str, number: int, kind: str, small: bool = False) -> Response:
        file = session.result_file(workspace.find(key), number, kind)
        if file is None or kind not in ("probability", *workspace.maps):
            raise NONE
        return png(file, Image.Resampling.BILINEAR, small)

    return router


def grown(image: FolderImage, mask: Labels, number: int, rough: bool) -> bytes:
    """Grow the strokes of a class to the edge of the object, over unpainted pixels; return the mask as a grey PNG.

    InputError without a stroke of the class.
    """
    if not (mask == number).any():
        raise InputError("There is no stroke of this class in the image. Paint one, then press Snap.")
    strokes = np.where(mask == number, 1, np.where((mask == 0) | ((mask == IGNORE) & (not rough)), IGNORE, 0))
    found = snap(read_image(image.path), strokes.astype(np.uint8))
    file = io.BytesIO()
    Image.fromarray(np.where((mask == 0) & (found == 1), np.uint8(number), mask)).save(file, "PNG", compress_level=1)
    return file.getvalue()


def decoded_mask(content: bytes, size: tuple[int, int]) -> Labels:
    """A mask sent by the page, (H, W) of `size`; InputError if it is not a grey PNG of this size."""
    try:
        with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
            if (image.height, image.width, image.mode) != (*size, "L"):
                raise InputError(
                    f"The mask is {image.width}x{image.height} px, {image.mode}; expected {size[1]}x{size[0]} px and "
                    "grey. If the image's file was changed, load the page again."
                )
            return np.asarray(image)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"The mask is not a PNG: {error}.") from None


def numbered(objects: NDArray[np.int32]) -> bytes:
    """A grey PNG of (H, W) object numbers, 0 for none; numbers above 255 start again at 1."""
    file = io.BytesIO()
    Image.fromarray(np.where(objects > 0, (objects - 1) % 255 + 1, 0).astype(np.uint8)).save(file, format="PNG")
    return file.getvalue()


def png(file: Path, resampling: Image.Resampling, small: bool) -> Response:
    """Answer with a PNG file, not cached because it may change at any time; ``small``: at the size of a thumbnail."""
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        raise NONE from None
    if small:
        with Image.open(io.BytesIO(content)) as image:
            image.thumbnail((THUMBNAIL, THUMBNAIL), resampling)
            less = io.BytesIO()
            image.save(less, format="PNG", compress_level=1)
        content = less.getvalue()
    return Response(content, media_type="image/png", headers={"Cache-Control": "no-store"})
