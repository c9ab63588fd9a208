"""The images that a user names: folders, files or patterns."""

import os
from collections import Counter
from collections.abc import Sequence
from glob import glob, has_magic
from pathlib import Path

from datamodules.files.finding import find_files
from qgnet.common.errors import InputError


def find_images(given: Sequence[str], out: Path) -> dict[str, Path]:
    """Name → file of all images that folders, files and patterns (``*.jpg``, ``**``) stand for.

    Raises:
        InputError: if one does not exist, there is no image, ``out`` lies in a folder of images or holds one,
            or the results of two images would have the same name.
    """
    pairs = list(dict.fromkeys(pair for one in given for pair in _images(one, out)))
    stems = [path.with_suffix("").as_posix() for path, _ in pairs]
    count = Counter(stems)
    files: dict[str, Path] = {}
    for (relative, path), stem in zip(pairs, stems, strict=True):
        name = relative.as_posix() if count[stem] > 1 else stem
        if name in files and files[name] != path:
            raise InputError(
                f"{files[name]} and {path} would have the same name in {out}. Segment their folders one after the "
                "other, each to an --out of its own."
            )
        files[name] = path
    return files


def _images(given: str, out: Path) -> list[tuple[Path, Path]]:
    """(path below the folder given, file) of each image."""
    path, written = Path(given), Path(os.path.realpath(out))  # which takes a link to itself as it is
    if path.is_dir():
        if written.is_relative_to(path.resolve()):
            raise InputError(
                f"--out {out} lies in the folder of images {path}: the results would be taken for images "
                "next time. Choose a folder beside it."
            )
        found = find_files(path)
        if not found.files:
            raise InputError(f"{path} holds no images. {found.left_out_message(path)}".strip())
        return [(Path(name), path / name) for name in found.files]
    pattern = not path.exists() and has_magic(given)
    files = [Path(file) for file in sorted(glob(given, recursive=True))] if pattern else [path]
    files = [file for file in files if file.is_file()]
    if not files:
        raise InputError(f"{given} stands for no image. Give a folder, a file or a pattern ('photos/*.jpg').")
    for file in files:
        if written == file.resolve().parent:
            raise InputError(f"--out {out} is the folder of the image {file}. Choose another folder.")
    return [(Path(file.name), file) for file in files]
