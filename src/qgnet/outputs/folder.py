"""The output folder of a run: what is done in it, what is written, and what of earlier runs is moved aside."""

import os
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path

from datamodules.input_images import InputImage
from qgnet.common.errors import InputError
from qgnet.outputs import Format
from qgnet.outputs.file_names import FOLDER, Classes, all_files, every_file, record_file
from qgnet.outputs.formats import FORMATS, look_at, the_file
from qgnet.outputs.records import Record, is_right, is_whole, keep, read_record, record_of, unreadable
from qgnet.outputs.segments import Result

ASIDE = ".qgnet-earlier"
"""In the output folder: what was moved aside, in the folders it was in; the last of each name."""


class OutputFolder:
    """What a run writes, photograph by photograph; several processes may share the photographs.

    Args:
        out: the folder, which is there.
        photographs: name → file; of all processes.
        formats: that are written.
        classes: all of them.
        run: fingerprint of what results depend on, beside the photograph.
    """

    def __init__(
        self, out: Path, photographs: Mapping[str, Path], formats: Sequence[Format], classes: Classes, run: str
    ) -> None:
        self.out = out
        self.photographs = photographs
        self.formats = formats
        self.classes = classes
        self.run = run

    def wanted(self, name: str) -> dict[str, Format]:
        """A photograph's files in this run → the format of each."""
        return all_files(name, self.formats, self.classes)

    @cached_property
    def all_wanted(self) -> frozenset[str]:
        """The files of all photographs in this run."""
        return frozenset(file for name in self.photographs for file in self.wanted(name))

    def left(self) -> dict[str, Path]:
        """The photographs that are not done."""
        return {name: path for name, path in self.photographs.items() if not self._is_done(name, path)}

    def _is_done(self, name: str, path: Path) -> bool:
        record = read_record(self.out, name)
        if record is None or not is_right(record, path, self.run):
            return False
        files = record["files"]
        return all(files.get(file) == kind and is_whole(self.out / file) for file, kind in self.wanted(name).items())

    def write(self, photograph: InputImage, result: Result | None) -> None:
        """Write a photograph's files, move aside what is there of it from earlier runs, and keep its record last.

        What the same run wrote in other formats stays, and what nobody has recorded is moved aside first.

        Args:
            photograph: as it was read.
            result: what was found in it; None if it could not be read.
        """
        name, wanted = photograph.name, self.wanted(photograph.name)
        before = read_record(self.out, name)
        earlier = self._earlier(name, before)
        aside = [] if self._is_recorded(name) else self._set_aside(wanted)
        record = self._written(photograph, result)
        if "error" not in record:
            same = before is not None and is_right(before, photograph.path, self.run)
            files = {file: kind for file, kind in earlier.items() if same} | wanted
            record |= {"stamp": photograph.stamp, "pages": photograph.pages, "files": files}
        stale = (earlier.keys() | wanted.keys()) - record.get("files", {}).keys()
        aside += self._set_aside(file for file in stale if file in wanted or file not in self.all_wanted)
        keep(self.out, name, record | {"file": os.path.abspath(photograph.path), "aside": aside})

    def _written(self, photograph: InputImage, result: Result | None) -> Record:
        if result is None:
            return unreadable(photograph.path, photograph.error, self.run)
        try:
            for write in filter(None, (FORMATS[name] for name in self.formats)):
                write(self.out, photograph.name, photograph.path, result)
        except InputError as error:  # it was taken away while it was segmented
            return unreadable(photograph.path, str(error), self.run)
        return record_of(photograph.path, result, self.run)

    def follow(self, name: str, record: Record) -> None:
        """Note where a photograph that was done before lies now, and let its labelme file look there.

        Raises:
            InputError: if the labelme file is none any more.
        """
        path = self.photographs[name]
        if "labelme" in self.formats:
            look_at(self.out / the_file("labelme", name), path)
        if record["file"] != os.path.abspath(path):
            keep(self.out, name, record | {"file": os.path.abspath(path)})

    def clear(self) -> list[str]:
        """Move aside what earlier runs have written of photographs that are not in this one, unless it is still right.

        It is if this run would say the same of the photograph, and does not write of it under another name.

        Returns:
            The files, below the output folder.
        """
        own, aside = {os.path.abspath(path) for path in self.photographs.values()}, []
        for name in self._recorded() - self.photographs.keys():
            record = read_record(self.out, name)
            if record and record["file"] not in own and is_right(record, Path(record["file"]), self.run):
                continue
            aside += self._set_aside(self._earlier(name, record).keys() - self.all_wanted)
            (self.out / record_file(name)).unlink()
        return aside

    def _recorded(self) -> set[str]:
        """Names of all photographs that have a record, be it a broken one."""
        folder = self.out / FOLDER
        files = (path for path in folder.rglob("*.json") if path.is_file())
        return {path.relative_to(folder).as_posix().removesuffix(".json") for path in files}

    def _is_recorded(self, name: str) -> bool:
        return (self.out / record_file(name)).exists()

    def _earlier(self, name: str, record: Record | None) -> dict[str, Format]:
        """What earlier runs wrote of a photograph; where its record is broken, what they may have written."""
        if record is not None:
            files: dict[str, Format] = record.get("files", {})
            return files
        return every_file(name, self.classes) if self._is_recorded(name) else {}

    def _set_aside(self, files: Iterable[str]) -> list[str]:
        return [file for file in sorted(files) if set_aside(self.out, file)]


def set_aside(out: Path, file: str) -> bool:
    """Move a file of the output folder to `ASIDE`; whether there was one."""
    if not os.path.lexists(out / file) or (out / file).is_dir():
        return False
    target = out / ASIDE / file
    target.parent.mkdir(parents=True, exist_ok=True)
    (out / file).replace(target)
    return True
