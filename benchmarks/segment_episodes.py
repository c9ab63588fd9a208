"""Does ``qgnet segment`` lose anything? The test's episodes through the command, beside the score of the test protocol.

python benchmarks/segment_episodes.py --root data/voc20 --fold 2 --episodes 40

Each episode's supports are written as files and its query is segmented by the command by the test's rule (``--threshold
0.5 --presence 0 --image-size 321 --refine none``) and by the command's defaults; by the latter each query is also asked
for a class that it does not show. ``--data folder`` takes what `qgnet prepare folder` leaves, with all of its classes;
nothing is trained here.
"""

import argparse
import contextlib
import io
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from datamodules import FolderDataModule, Pascal5iDataModule
from datamodules.episodes.dataset import EpisodeDataset
from datamodules.episodes.episode import Episode, collate
from datamodules.episodes.letterbox import restore
from datamodules.episodic import EpisodeDataModule
from qgnet.commands import main as qgnet
from qgnet.common.boundary import boundary
from qgnet.common.progress import progress
from qgnet.inference.models import open_model
from qgnet.metrics import EpisodeIoU
from qgnet.tasks.base import normalise

RULES = {
    "test's rule": ["--threshold", "0.5", "--presence", "0", "--image-size", "321", "--refine", "none"],
    "default": [],
}
SIDE = 321


def main() -> None:
    """Print the scores."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=("voc", "folder"), default="voc")
    parser.add_argument("--root", required=True)
    parser.add_argument("--fold", type=int, default=0)
    parser.add_argument("--shots", type=int, default=1)
    parser.add_argument("--episodes", type=int, default=40)
    parser.add_argument("--min-class-area", type=int, default=512)
    options = parser.parse_args()
    settings = {"fold": options.fold, "shots": options.shots, "image_size": SIDE, "episodes": options.episodes}
    settings |= {"min_class_area": options.min_class_area, "negative": 1.0}
    data: EpisodeDataModule
    if options.data == "voc":
        data = Pascal5iDataModule(options.root, **settings)
    else:
        data = FolderDataModule(options.root, **settings)
    data.setup("test")
    episodes = data.data["val"]
    net = open_model("matching").net
    scores = {name: EpisodeIoU(data.novel_classes) for name in ("test", *RULES)}
    empty: dict[str, list[bool]] = {
        name: [] for name in ("test's rule, present", "default, present", "default, absent")
    }
    differing = pixels = 0
    for i in progress(range(options.episodes), "episodes", unit="episode"):
        right, wrong = episodes[i], episodes.control(i)
        target, class_id = right.original_mask[0], int(right.class_id)
        tested, masks = protocol(net, right), segmented(episodes, right, list(RULES))
        scores["test"].update(tested, target, class_id)
        differing += int((tested != masks["test's rule"]).sum())
        pixels += tested.numel()
        for rule, mask in masks.items():
            empty[f"{rule}, present"].append(not mask.any())
            scores[rule].update(mask, target, class_id)
        if wrong is not None:
            empty["default, absent"].append(not segmented(episodes, wrong, ["default"])["default"].any())
    for name, score in scores.items():
        print(f"mIoU {100 * score.compute().miou:6.2f}  {name}")
    print(f"{differing} of {pixels} pixels differ between the test and the test's rule by the command")
    for name, values in empty.items():
        print(f"left empty {100 * np.mean(values):3.0f} % of {len(values)}  {name}")


@torch.inference_mode()
def protocol(net: torch.nn.Module, episode: Episode) -> torch.Tensor:
    """The mask that the test protocol scores."""
    batch = collate([episode])
    output = net(normalise(batch.query_image), normalise(batch.support_images), batch.support_masks)
    score_map = output.logits[0, 1] - output.logits[0, 0]
    return (restore(score_map, batch.content_size[0], batch.original_size[0]) > 0).to(torch.uint8)


def segmented(episodes: EpisodeDataset, episode: Episode, rules: Sequence[str]) -> dict[str, torch.Tensor]:
    """Masks of an episode's query by the command, for each of the rules."""
    source, masks = episodes.source, {}
    number = {name: n for n, name in enumerate(source.names)}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "query").mkdir()
        Image.fromarray(source.image(number[episode.query_name[0]])).save(folder / "query/q.png")
        supports: list[str] = []
        for k, support in enumerate(episode.support_names[0]):
            Image.fromarray(source.image(number[support])).save(folder / f"{k}.png")
            Image.fromarray(source.mask(number[support], int(episode.class_id))).save(folder / f"{k}m.png")
            supports += ["--support", str(folder / f"{k}.png"), str(folder / f"{k}m.png")]
        for rule in rules:
            out = folder / rule
            line = ["segment", str(folder / "query"), *supports, "--out", str(out), "--workers", "0", *RULES[rule]]
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                qgnet(line)
            masks[rule] = torch.from_numpy(np.array(Image.open(out / "q.png")))
    return masks


if __name__ == "__main__":
    with boundary("Run it again to measure."):
        main()
