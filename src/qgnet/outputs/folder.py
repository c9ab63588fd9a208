"""The output folder of a run: its files, and how files of earlier runs are moved aside."""

import os
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path

from datamodules.input_images import InputImage
from qgnet.common.errors import InputError
from qgnet.outputs.file_names import FOLDER, Classes, all_files, files_of_all_formats, record_file
from qgnet.outputs.formats import OF_OBJECTS, the_file, update_image_path, writers
from qgnet.outputs.records import (
    Record,
    error_record,
    has_objects,
    is_complete,
    is_current,
    read_record,
    record_of,
    result_of,
    with_objects,
    without_objects,
    write_record,
)
from qgnet.outputs.segments import Result

ASIDE = ".qgnet-earlier"
"""Folder in the output folder for files that were moved aside, with their folders; the last of each name is kept."""

APART = " of single objects"
"""Added to the format of a file in records if the file holds single objects."""


class OutputFolder:
    """Writes the files of a run, image by image. Several processes may share the images.

    Args:
        out: the folder; it must exist.
        images: name → file, of all processes.
        formats: the formats to write.
        classes: names of all classes.
        run: fingerprint of all that results depend on, except the image.
        instances: whether files hold single objects. Masks do not depend on it, so finished images are only updated,
            see :meth:`update`.
    """

    def __init__(
        self,
        out: Path,
        images: Mapping[str, Path],
        formats: Sequence[str],
        classes: Classes,
        run: str,
        instances: bool = False,
    ) -> None:
        self.out = out
        self.images = images
        self.formats = formats
        self.classes = classes
        self.run = run
        self.instances = instances
        self.writers = writers(instances)

    def files(self, name: str) -> dict[str, str]:
        """An image's files in this run → the content of each: its format, and whether it holds single objects."""
        files = all_files(name, self.formats, self.classes)
        return {
            file: f"{kind}{APART}" if self.instances and kind in OF_OBJECTS else kind for file, kind in files.items()
        }

    @cached_property
    def files_of_all(self) -> frozenset[str]:
        """The files of all images in this run."""
        return frozenset(file for name in self.images for file in self.files(name))

    def pending(self) -> dict[str, Path]:
        """The images that are not finished."""
        return {name: path for name, path in self.images.items() if not self._is_done(name, path)}

    def _is_done(self, name: str, path: Path) -> bool:
        record = read_record(self.out, name)
        if record is None or not is_current(record, path, self.run):
            return False
        files = record["files"]
        return all(
            files.get(file, "").removesuffix(APART) == kind.removesuffix(APART) and is_complete(self.out / file)
            for file, kind in self.files(name).items()
        )

    def write(self, image: InputImage, result: Result | None) -> None:
        """Write an image's files, move aside its files of earlier runs, and write its record last.

        Files of the same run in other formats stay. Files without a record are moved aside first.

        Args:
            image: as it was read.
            result: its masks; None if it could not be read.
        """
        name, files = image.name, self.files(image.name)
        before = read_record(self.out, name)
        earlier = self._earlier_files(name, before)
        aside = [] if self._is_recorded(name) else self._move_aside(files)
        record = self._write_files(image, result)
        if "error" not in record:
            same = before is not None and is_current(before, image.path, self.run)
            written = {file: kind for file, kind in earlier.items() if same} | files
            record |= {"stamp": image.stamp, "pages": image.pages, "files": written}
        stale = (earlier.keys() | files.keys()) - record.get("files", {}).keys()
        aside += self._move_aside(file for file in stale if file in files or file not in self.files_of_all)
        write_record(self.out, name, record | {"file": os.path.abspath(image.path), "aside": aside})

    def _write_files(self, image: InputImage, result: Result | None) -> Record:
        if result is None:
            return error_record(image.path, image.error, self.run)
        try:
            for write in (self.writers[chosen] for chosen in self.formats if chosen in self.writers):
                write(self.out, image.name, image.path, result)
        except InputError as error:  # it was taken away while it was segmented
            return error_record(image.path, str(error), self.run)
        return record_of(image.path, result, self.run, self.instances)

    def update(self, name: str, record: Record) -> Record:
        """Update the files of a finished image for this run, and return its new record.

        Updated are the path of the image, also in its labelme file, and whether files hold single objects.

        Raises:
            InputError: if the labelme file is damaged, or the image has just changed.
        """
        path, before = self.images[name], record
        if "labelme" in self.formats:
            update_image_path(self.out / the_file("labelme", name), path)
        files = self.files(name)
        stale = {file: kind for file, kind in files.items() if record["files"][file] != kind}
        if stale or has_objects(record) != self.instances:
            kept = {file: kind for file, kind in record["files"].items() if file not in stale}
            write_record(self.out, name, record | {"files": kept})  # so that it is done again if this is cut off
            result = result_of(record)
            for chosen in {kind.removesuffix(APART) for kind in stale.values()}:
                self.writers[chosen](self.out, name, path, result)
            record = with_objects(record, result) if self.instances else without_objects(record)
            record |= {"files": kept | stale}
        record = record | {"file": os.path.abspath(path)}
        if record != before:
            write_record(self.out, name, record)
        return record

    def clear(self) -> list[str]:
        """Move aside the outdated files of images that are not in this run, and return them.

        Files stay if this run would write the same, and does not write them under another name.
        """
        own, aside = {os.path.abspath(path) for path in self.images.values()}, []
        for name in self._recorded() - self.images.keys():
            record = read_record(self.out, name)
            if record and record["file"] not in own and is_current(record, Path(record["file"]), self.run):
                continue
            aside += self._move_aside(self._earlier_files(name, record).keys() - self.files_of_all)
            (self.out / record_file(name)).unlink()
        return aside

    def _recorded(self) -> set[str]:
        """Names of all images with a record, broken records included."""
        folder = self.out / FOLDER
        files = (path for path in folder.rglob("*.json") if path.is_file())
        return {path.relative_to(folder).as_posix().removesuffix(".json") for path in files}

    def _is_recorded(self, name: str) -> bool:
        return (self.out / record_file(name)).exists()

    def _earlier_files(self, name: str, record: Record | None) -> dict[str, str]:
        """Files of an image from earlier runs; if its record is broken, all files that they may have written."""
        if record is not None:
            files: dict[str, str] = record.get("files", {})
            return files
        return files_of_all_formats(name, self.classes) if self._is_recorded(name) else {}

    def _move_aside(self, files: Iterable[str]) -> list[str]:
        return [file for file in sorted(files) if move_aside(self.out, file)]


def move_aside(out: Path, file: str) -> bool:
    """Move a file of the output folder to `ASIDE`; whether there was one."""
    if not os.path.lexists(out / file) or (out / file).is_dir():
        return False
    target = out / ASIDE / file
    target.parent.mkdir(parents=True, exist_ok=True)
    (out / file).replace(target)
    return True
