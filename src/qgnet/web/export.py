"""Everything that was found and painted, as one ZIP."""

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from datamodules.files.photographs import find_photographs
from qgnet.common.errors import InputError
from qgnet.outputs.formats import FORMATS
from qgnet.outputs.records import record_of, write_coco, write_csv
from qgnet.web.pictures import Pictures
from qgnet.web.session import Session

Format = Literal["index", "coco", "labelme", "overlay"]
"""As `qgnet segment` writes them."""


def write_zip(session: Session, pictures: Pictures, presence: float, formats: Sequence[Format], to: Path) -> Path:
    """Write ``masks.zip`` and return it.

    Args:
        session: the work.
        pictures: of the folder.
        presence: least score of a picture that is not left empty.
        formats: to write.
        to: an empty folder.

    Raises:
        InputError: if there is nothing to write.
    """
    out = to / "masks"
    out.mkdir()
    keys = {picture.path: picture for picture in pictures.find()}
    records = {}
    for name, path in find_photographs([str(pictures.folder)], out).items():
        result = session.result(keys[path], presence) if path in keys else None
        if result is None:
            continue
        records[name] = record_of(path, result, run="")
        for chosen in formats:
            write = FORMATS[chosen]
            if write is not None:
                write(out, name, path, result)
    if not records:
        raise InputError("There is nothing to download yet. Paint an object and press Segment first.")
    write_csv(out, records)
    (out / "classes.txt").write_text("".join(f"{name}\n" for name in session.names.values()), encoding="utf-8")
    if "coco" in formats:
        write_coco(out, records, list(session.names.values()), as_polygons=False)
    archive = to / "masks.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for path in sorted(out.rglob("*")):
            file.write(path, path.relative_to(out))
    return archive
