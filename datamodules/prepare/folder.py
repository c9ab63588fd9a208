"""A folder of one's own: checked, indexed and counted."""

from pathlib import Path

from datamodules.files.index import INDEX_FOLDER
from datamodules.layouts.folder import check_classes, folder_classes, folder_images, notices
from datamodules.prepare.counts import Count, Indexed, Prepared


def prepare_folder(root: Path, mask_suffix: str) -> Prepared:
    """Check, index and count a folder of your own."""
    classes = folder_classes(root)
    source = folder_images(root, mask_suffix)
    indexed = Indexed.of(source, root / INDEX_FOLDER / "folder.npz", "masks")
    check_classes(source, indexed.index)
    counts = [Count("images", len(source.names))]
    counts += [Count(f"images with {name}", len(indexed.index.images_of(c, 1))) for c, name in classes.items()]
    return Prepared(counts, {"folder": indexed}, notices(source, indexed.index, classes))
