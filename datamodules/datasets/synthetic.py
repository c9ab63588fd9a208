"""Built-in scenes: 40 classes drawn on the fly, so that the whole method runs without any download.

A class is a shape family *and* a surface; scene ``i`` is a function of (seed, i). Each scene shows several objects of
different classes, so only the support shows which of them is the target.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from datamodules.datasets.protocols import Protocol
from datamodules.datasets.spec import DatasetSpec, Split
from datamodules.files.sources import Array, LabelledImages, MaskFacts, binary_mask
from qgnet.common.settings import Count, Natural, Side

SHAPES = ("disc", "square", "triangle", "star", "cross")
SURFACES = ("striped", "dotted", "checked", "marbled", "wavy", "ringed", "netted", "plain")
HUES = {surface: 8 + 67 * i % 180 for i, surface in enumerate(SURFACES)}
"""Centre of each surface's hue in OpenCV's half degrees; objects vary by ±12 around it."""
CLASSES = {
    1 + SURFACES.index(surface) * len(SHAPES) + SHAPES.index(shape): (shape, surface)
    for surface in SURFACES
    for shape in SHAPES
}
FOLDS = [
    [c for c, (shape, surface) in CLASSES.items() if (SHAPES.index(shape) + SURFACES.index(surface)) % 4 == fold]
    for fold in range(4)
]
"""Each fold holds every shape twice; its classes are new pairings of shapes and surfaces seen apart."""
SPLITS = {"train": 0, "val": 1, "unlabeled": 2}
NOISE = 5.0
"""Standard deviation of the pixel noise, of 255."""
Float = NDArray[np.float32]


@dataclass(frozen=True)
class Synthetic(DatasetSpec):
    """Built-in scenes in four folds of ten classes; training scenes show base classes only.

    Args:
        scenes: number of training scenes; a quarter as many for the test.
        image_size: their side in pixels, and by default that of the network's square.
        seed: of all scenes.
    """

    min_class_area = 400
    fixed_images = False

    scenes: Count = 2000
    image_size: Side = 129
    seed: Natural = 321

    @property
    def class_names(self) -> dict[int, str]:
        """Such as ``striped star``."""
        return {c: f"{surface} {shape}" for c, (shape, surface) in CLASSES.items()}

    @property
    def folds(self) -> Sequence[Sequence[int]]:
        """Four folds of ten classes."""
        return FOLDS

    @property
    def image_choices(self) -> dict[str, int]:
        """Number of test scenes; each seed draws other scenes."""
        return {"scenes": self.test_scenes}

    @property
    def test_scenes(self) -> int:
        """A quarter as many as for training."""
        return max(1, self.scenes // 4)

    def with_protocol(self, protocol: Protocol, seed: int) -> "Synthetic":
        """With scenes of this seed."""
        return replace(self, seed=seed)

    def images(self, split: Split, fold: int | None = 0) -> "SyntheticScenes":
        """Scenes of base classes for training, of all classes for the test."""
        if split == "train":
            return SyntheticScenes(self.base_classes(fold), self.image_size, self.scenes, self.seed, split)
        return SyntheticScenes(list(CLASSES), self.image_size, self.test_scenes, self.seed, split)


class SyntheticScenes(LabelledImages):
    """``count`` square scenes of 2 to 4 objects, each of another of the classes, over a textured background."""

    def __init__(self, classes: Sequence[int], size: int, count: int, seed: int, split: str) -> None:
        self.classes = list(classes)
        self.size = size
        self.seed = [seed, SPLITS[split]]
        self.names = [f"{split}-{i:05d}" for i in range(count)]

    def image(self, i: int) -> Array:
        """(size, size, 3) uint8 RGB."""
        return self._draw(i, paint=True)[0]

    def labels(self, i: int) -> Array:
        """(size, size) uint8 class numbers, 0 background."""
        return self._draw(i, paint=False)[1]

    def mask(self, i: int, class_id: int, ignored: Collection[int] = ()) -> Array:
        """(size, size) uint8: 1 the class, 255 the classes ``ignored``, 0 the rest."""
        return binary_mask(self.labels(i), class_id, ignored)

    def facts(self, i: int, whole: bool = False) -> MaskFacts:
        """Size and class areas."""
        classes, pixels = np.unique(self.labels(i), return_counts=True)
        areas = dict(zip(classes.tolist(), pixels.tolist(), strict=True))
        areas.pop(0, None)
        return MaskFacts(self.size, self.size, areas)

    def identity(self, i: int) -> str:
        """Size and seed."""
        return f"{self.size} {self.seed}"

    def _draw(self, i: int, paint: bool) -> tuple[Array, Array]:
        layout = np.random.default_rng([*self.seed, i, 0])
        colours = np.random.default_rng([*self.seed, i, 1])
        mask = np.zeros((self.size, self.size), np.uint8)
        image = background(self.size, colours) if paint else np.empty(0, np.uint8)
        count = int(layout.integers(2, 5))
        for class_id in layout.permutation(self.classes)[:count]:
            shape, surface = CLASSES[int(class_id)]
            box, inside = shape_mask(shape, self.size, layout)
            if paint:
                image[box][inside] = paint_surface(surface, self.size, inside.shape, colours)[inside]
            mask[box][inside] = class_id
        if paint:
            noise = NOISE * colours.standard_normal(image.shape, dtype=np.float32)
            image = np.clip(image + noise, 0, 255).astype(np.uint8)
        return image, mask


def shape_mask(shape: str, size: int, rng: np.random.Generator) -> tuple[tuple[slice, slice], NDArray[np.bool_]]:
    """One object of the family at a random place, scale, angle and stretch: its box in the scene and its bool mask."""
    radius = size * rng.uniform(0.18, 0.32)
    centre = rng.uniform(0.18 * size, 0.82 * size, size=2)
    angle = rng.uniform(0, 2 * np.pi)
    stretch = np.array([1.0, rng.uniform(0.75, 1.0)])
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    points = outline(shape) * stretch * radius @ turn.T + centre
    canvas = np.zeros((size, size), np.uint8)
    cv2.fillPoly(canvas, [np.round(points * 16).astype(np.int32)], 1, shift=4)
    x, y, width, height = cv2.boundingRect(canvas)
    box = (slice(y, y + height), slice(x, x + width))
    return box, canvas[box].astype(bool)


def outline(shape: str) -> NDArray[np.float64]:
    """(N, 2) corners of the family's outline, about 1 from the origin."""
    if shape == "cross":
        arm = 0.34
        quarter = np.array([[arm, 1.0], [arm, arm], [1.0, arm]])
        turn = np.array([[0.0, 1.0], [-1.0, 0.0]])
        return np.concatenate([quarter @ np.linalg.matrix_power(turn, k).T for k in range(4)])
    corners = {"disc": 40, "square": 4, "triangle": 3, "star": 10}[shape]
    angles = np.arange(corners) * 2 * np.pi / corners
    radii = np.where(np.arange(corners) % 2, 0.42, 1.0) if shape == "star" else np.ones(corners)
    return radii[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def paint_surface(surface: str, size: int, box: tuple[int, ...], rng: np.random.Generator) -> Array:
    """(*box, 3) uint8 RGB of a scene of side ``size``: two tones of the surface's hue, at a random period and angle."""
    u, v = turned_grid(box, size, rng)
    period = size * rng.uniform(0.055, 0.09)
    if surface == "striped":
        tone = np.sin(2 * np.pi * u / period) > 0
    elif surface == "dotted":
        tone = np.hypot((u / period) % 1 - 0.5, (v / period) % 1 - 0.5) < 0.3
    elif surface == "checked":
        tone = (np.floor(u / period) + np.floor(v / period)) % 2 > 0
    elif surface == "wavy":
        tone = np.sin(2 * np.pi * u / period + 2 * np.sin(np.pi * v / period)) > 0
    elif surface == "ringed":
        tone = np.sin(2 * np.pi * np.hypot(u, v) / period) > 0
    elif surface == "netted":
        tone = np.maximum(np.sin(2 * np.pi * u / period), np.sin(2 * np.pi * v / period)) > 0.7
    elif surface == "marbled":
        tone = smooth_noise(max(box), period, rng)[: box[0], : box[1]] > 0
    else:
        tone = np.ones(box, bool)
    hue = (HUES[surface] + int(rng.integers(-12, 13))) % 180
    light = hsv_to_rgb(hue, int(rng.integers(60, 140)), int(rng.integers(190, 250)))
    dark = hsv_to_rgb(hue, int(rng.integers(150, 230)), int(rng.integers(70, 150)))
    return np.where(tone[..., None], light, dark).astype(np.uint8)


def background(size: int, rng: np.random.Generator) -> Array:
    """(size, size, 3) uint8 RGB: a blend of two random colours along coarse and fine noise."""
    blend = smooth_noise(size, size * 0.3, rng) + 0.5 * smooth_noise(size, size * rng.uniform(0.02, 0.08), rng)
    weight = (1 / (1 + np.exp(-2 * blend)))[..., None]
    one, two = (hsv_to_rgb(int(h), int(s), int(v)) for h, s, v in rng.integers((0, 20, 50), (180, 130, 220), (2, 3)))
    return (weight * one + (1 - weight) * two).astype(np.uint8)


def turned_grid(box: tuple[int, ...], size: int, rng: np.random.Generator) -> tuple[Float, Float]:
    """Two coordinate planes of shape ``box`` in pixels, turned, and shifted by up to ``size``, at random."""
    angle, shift = rng.uniform(0, np.pi), rng.uniform(0, size, size=2)
    y, x = np.arange(box[0], dtype=np.float32)[:, None], np.arange(box[1], dtype=np.float32)
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return cos * x - sin * y + np.float32(shift[0]), sin * x + cos * y + np.float32(shift[1])


def smooth_noise(size: int, scale: float, rng: np.random.Generator) -> Float:
    """(size, size) noise of about zero mean and unit deviation, smooth at ``scale`` pixels."""
    cells = max(2, round(size / scale))
    coarse = rng.normal(size=(cells, cells)).astype(np.float32)
    return cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC).astype(np.float32)


def hsv_to_rgb(hue: int, saturation: int, value: int) -> NDArray[np.float32]:
    """One colour, (3,) float in 0 … 255; hue in half degrees, the others 0 … 255."""
    pixel = np.array([[[hue, saturation, value]]], np.uint8)
    return cv2.cvtColor(pixel, cv2.COLOR_HSV2RGB)[0, 0].astype(np.float32)
