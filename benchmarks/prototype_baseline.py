"""What the frozen features give without QGNet: baselines on the very episodes of a configuration's test.

Scores, at the original size and over the same episodes as ``lightning test``:

- everything foreground;
- a masked-average-pooling prototype: the support's mean foreground and mean background feature of E, each query
  position taking the nearer one by cosine similarity (as in PANet, without any training), on the mid-level features
  (stages 2 and 3 side by side) and on the last stage alone.

Usage: python benchmarks/prototype_baseline.py --config lightning_configs/pascal5i_small.yaml --data.fold 1
"""

import json
import sys
import time

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from datamodules.base import EpisodeDataModule
from qgnet.cli import parse
from qgnet.metrics import EpisodeIoU
from qgnet.networks.layers import resize
from qgnet.networks.qgnet import masked_average, mid_level
from qgnet.tasks.base import normalise
from qgnet.tasks.segmentation import FewShotSegmentation, restore


def prototype_logits(query: Tensor, supports: Tensor, masks: Tensor) -> Tensor:
    """Cosine similarity to the mean background and the mean foreground feature.

    Args:
        query: (C, h, w).
        supports: (K, C, h, w).
        masks: (K, H, W) in {0, 1, 255}.

    Returns:
        (2, h, w): background, foreground.
    """
    size = (query.shape[-2], query.shape[-1])
    prototypes = []
    for label in (0, 1):
        weight = resize((masks == label).float().unsqueeze(1), size)
        prototypes.append(masked_average(supports, weight).mean(dim=0))
    return torch.stack([F.cosine_similarity(query, p, dim=0) for p in prototypes])


@torch.no_grad()
def evaluate(task: FewShotSegmentation, data: EpisodeDataModule) -> dict[str, EpisodeIoU]:
    """Score every baseline over the DataModule's test episodes."""
    data.setup("test")
    task.load_starting_weights()
    encoder = task.net.encoder.eval()
    names = ("everything foreground", "prototype, mid-level", "prototype, last stage")
    scores = {name: EpisodeIoU(data.novel_classes) for name in names}
    for episode in tqdm(data.test_dataloader(), unit="batch"):
        shots = episode.support_images.shape[1]
        images = torch.cat([episode.query_image, episode.support_images.flatten(0, 1)])
        stages = encoder(normalise(images))
        features = {"prototype, mid-level": mid_level(stages), "prototype, last stage": stages[encoder.high_stage]}
        side = episode.query_mask.shape[-1]
        for i, (target, class_id) in enumerate(zip(episode.original_mask, episode.class_id.tolist(), strict=True)):
            scores["everything foreground"].update(torch.ones_like(target), target, class_id)
            for name, feature in features.items():
                batch = len(episode.class_id)
                supports = feature[batch + i * shots : batch + (i + 1) * shots]
                logits = prototype_logits(feature[i], supports, episode.support_masks[i])
                background, foreground = resize(logits.unsqueeze(0), (side, side))[0]
                margin = restore(foreground - background, episode.fitted_size[i], episode.original_size[i])
                scores[name].update(margin > 0, target, class_id)
    return scores


def main(args: list[str]) -> None:
    """Print one JSON line per baseline."""
    task, data = parse(args)
    start = time.perf_counter()
    for name, metric in evaluate(task, data).items():
        score = metric.compute()
        per_class = dict(zip(metric.class_ids, (round(x, 4) for x in score.class_iou), strict=True))
        row = {"baseline": name, "fold": data.fold, "shots": data.shots, "episodes": len(data.data["val"])}
        print(
            json.dumps(row | {"miou": round(score.miou, 4), "fb_iou": round(score.fb_iou, 4), "class_iou": per_class})
        )
    print(f"{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main(sys.argv[1:])
