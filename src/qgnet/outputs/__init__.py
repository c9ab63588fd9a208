"""What is written for people and other tools: masks, records, figures."""

from typing import NamedTuple


class OutputFormat(NamedTuple):
    """A format of results.

    Attributes:
        label: for people who choose one.
        path: of an image's file below the output folder; with a ``{folder}``, one file per class. Empty: one file of
            all images.
        on_page: whether the page offers it.
    """

    label: str
    path: str
    on_page: bool = True


FORMATS = {
    "index": OutputFormat("Index PNGs", "{name}.png"),
    "binary": OutputFormat("Black-and-white PNGs", "{folder}{name}.png", on_page=False),
    "coco": OutputFormat("COCO (annotations.json)", ""),
    "labelme": OutputFormat("labelme", "labelme/{name}.json"),
    "overlay": OutputFormat("Overlays to look at", "overlays/{name}.jpg"),
    "probability": OutputFormat("Probability PNGs", "probabilities/{folder}{name}.png", on_page=False),
}
"""All that the command and the page can write."""
CLASS_COLOURS = [(255, 60, 40), (60, 150, 255), (255, 200, 0), (60, 200, 90), (190, 90, 255), (0, 210, 210)]
"""Of the classes in overlays and on the page, again from the first after the last."""
