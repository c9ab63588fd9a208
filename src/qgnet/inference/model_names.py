"""The models that are known by name, without opening one."""

from pathlib import Path

from qgnet.weights.packaged import ENCODER

MATCHING = "matching"
DEFAULT = MATCHING
"""The model if none is named."""
HEADS = Path(__file__).parent / "heads"
PREFIX = "qgnet/"


def named_models() -> dict[str, str]:
    """Name → what it is."""
    matching = f"training-free matching of the supports on a frozen {ENCODER}, ImageNet's weights"
    heads = {f"{PREFIX}{path.stem}": card_summary(path.with_suffix(".md")) for path in sorted(HEADS.glob("*.pt"))}
    return {MATCHING: matching, **heads}


def card_summary(card: Path) -> str:
    """A model card's first paragraph, on one line; its title is left out."""
    paragraphs = card.read_text(encoding="utf-8").split("\n\n") if card.is_file() else []
    return next((" ".join(p.split()) for p in paragraphs if p.strip() and not p.startswith("#")), "no model card")
