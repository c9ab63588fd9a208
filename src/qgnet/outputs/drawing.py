"""Drawing: images with masks, heat maps and frames, and sheets of them."""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from skimage.segmentation import find_boundaries
from torch import Tensor

from datamodules.episodes.episode import Episode
from datamodules.episodes.transforms import letterbox_size
from datamodules.views.dataset import ViewDataset
from qgnet.networks.layers import resize
from qgnet.tasks.episodic import Segmented

Pixels = NDArray[np.uint8]
"""(H, W, 3), RGB."""
FOREGROUND = np.array([255, 60, 40], np.float32)
IGNORED = np.array([200, 200, 200], np.float32)
BOUNDARY = (255, 255, 0)
VIEW_FRAME = (60, 150, 255)
PATCH_FRAME = (255, 60, 40)
SHOWN_ABOVE = 0.5
"""Where region maps are cut to be shown as a mask."""
CELL = 160
GAP = 6
HEADER = 24
LABEL = 150


def view_row(views: ViewDataset, i: int) -> list[Pixels]:
    """Views number ``i``: the image with its regions and the frames of views (blue) and patches (red), then these."""
    drawn, made = views.drawn(i), views[i]
    image = drawn.image.copy()
    height, width = image.shape[:2]
    if drawn.regions is not None:
        labels = cv2.resize(drawn.regions, (width, height), interpolation=cv2.INTER_NEAREST)
        image[find_boundaries(labels)] = BOUNDARY
    line = max(1, max(height, width) // 80)
    frames = [(view, VIEW_FRAME) for view in drawn.views] + [(patch.window, PATCH_FRAME) for patch in drawn.patches]
    for (rows, columns), colour in frames:
        cv2.rectangle(image, (columns.start, rows.start), (columns.stop - 1, rows.stop - 1), colour, line)
    return [image, *(to_array(v) for v in (*made.global_views, *made.local_patches))]


def episode_row(episode: Episode, segmented: Segmented, i: int) -> dict[str, Pixels]:
    """Heading → image of episode ``i`` of a batch, with the network's own maps; of several supports the first."""
    full = query_image(episode, i)
    maps = segmented.output.maps.items()
    return {
        "support + mask": support_image(episode, i),
        "query": query_content(episode, i),
        **{f"{name} map": heat(on_canvas(values, episode, i)[0]) for name, values in maps},
        "prediction": overlay(full, segmented.masks[i]),
        "ground truth": overlay(full, episode.original_mask[i]),
    }


def support_image(episode: Episode, i: int) -> Pixels:
    """The first support of episode ``i`` with its mask, without padding."""
    support = overlay(to_array(episode.support_images[i, 0]), episode.support_masks[i, 0])
    used = (episode.support_masks[i, 0] != 255).cpu().numpy()
    rows, columns = np.flatnonzero(used.any(1)), np.flatnonzero(used.any(0))
    return support[: rows[-1] + 1, : columns[-1] + 1]


def query_content(episode: Episode, i: int) -> Pixels:
    """The query as the network sees it, without padding."""
    height, width = episode.content_size[i]
    return to_array(episode.query_image[i])[:height, :width]


def query_image(episode: Episode, i: int) -> Pixels:
    """The query at its original size."""
    size = episode.original_size[i][::-1]
    return cv2.resize(query_content(episode, i), size, interpolation=cv2.INTER_LINEAR).astype(np.uint8, copy=False)


def on_canvas(values: Tensor, episode: Episode, i: int) -> NDArray[np.float32]:
    """A region map (B, 1, h, w) → (1, H', W') of episode ``i`` at the network's size, without padding."""
    side = episode.query_mask.shape[-1]
    height, width = episode.content_size[i]
    return resize(values[i : i + 1].float(), (side, side))[0, :, :height, :width].cpu().numpy()


def to_array(image: Tensor) -> Pixels:
    """(3, H, W) uint8 → (H, W, 3) uint8."""
    return image.permute(1, 2, 0).cpu().numpy().astype(np.uint8, copy=False)


def overlay(image: Pixels, mask: Tensor) -> Pixels:
    """Foreground red, ignored pixels grey, both half transparent."""
    label = mask.cpu().numpy()
    blended = image.astype(np.float32)
    for value, colour in ((1, FOREGROUND), (255, IGNORED)):
        inside = label == value
        blended[inside] = 0.45 * blended[inside] + 0.55 * colour
    return blended.astype(np.uint8)


def heat(values: NDArray[np.float32]) -> Pixels:
    """(H, W) in [0, 1] → viridis colours."""
    grey = (values.clip(0, 1) * 255).astype(np.uint8)
    return cv2.applyColorMap(grey, cv2.COLORMAP_VIRIDIS)[..., ::-1].astype(np.uint8)


def contact_sheet(headings: Sequence[str], rows: Sequence[Sequence[Pixels]], labels: Sequence[str]) -> Pixels:
    """Rows of images under headings, a label before each row, on white; every image fits a square cell."""
    left = LABEL if any(labels) else GAP
    width = left + len(headings) * (CELL + GAP)
    sheet = Image.new("RGB", (width, HEADER + len(rows) * (CELL + GAP)), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(13)
    for column, heading in enumerate(headings):
        draw.text((left + column * (CELL + GAP), 5), heading, "black", font)
    for row, (images, label) in enumerate(zip(rows, labels, strict=True)):
        top = HEADER + row * (CELL + GAP)
        draw.multiline_text((GAP, top + CELL // 2 - 16), label, "black", font)
        for column, image in enumerate(images):
            height, width = letterbox_size(image.shape[0], image.shape[1], CELL)
            scaled = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
            sheet.paste(scaled, (left + column * (CELL + GAP), top))
    return np.asarray(sheet)
