"""The models that have a name. No model is opened here."""

from pathlib import Path
from typing import NamedTuple

from qgnet.weights.packaged import ENCODER

MATCHING = "matching"
DEFAULT = MATCHING
"""The default model."""
HEADS = Path(__file__).parent / "heads"
PREFIX = "qgnet/"


class Trainable(NamedTuple):
    """A few-shot network that can be trained: its paper, and the configuration of its recipe."""

    name: str
    paper: str
    configuration: str


TRAINABLE = (
    Trainable("QGNet", "Liu et al., arXiv 2108.05293", "pascal5i.yaml"),
    Trainable("QGNet, ours", "follows the support; EfficientNet-Lite0", "pascal5i_lite0.yaml"),
    Trainable("Score maps", "corrects score maps; ours, for few data", "heads/score_maps.yaml"),
    Trainable("PFENet", "Tian et al., TPAMI 2020", "heads/pfenet.yaml"),
    Trainable("HSNet", "Min et al., ICCV 2021", "heads/hsnet.yaml"),
    Trainable("DCAMA", "Shi et al., ECCV 2022", "heads/dcama.yaml"),
)


def named_models() -> dict[str, str]:
    """Name → description."""
    matching = f"training-free matching of the supports on a frozen {ENCODER}, ImageNet's weights"
    heads = {f"{PREFIX}{path.stem}": card_summary(path.with_suffix(".md")) for path in sorted(HEADS.glob("*.pt"))}
    return {MATCHING: matching, **heads}


def card_summary(card: Path) -> str:
    """The first paragraph of a model card on one line, without the title."""
    paragraphs = card.read_text(encoding="utf-8").split("\n\n") if card.is_file() else []
    return next((" ".join(p.split()) for p in paragraphs if p.strip() and not p.startswith("#")), "no model card")
