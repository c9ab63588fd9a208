"""The results of a test as a file, with baselines on the same episodes."""

import json
import math
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from datamodules.episodes.episode import Episode
from datamodules.episodes.letterbox import restore
from datamodules.episodic import EpisodeDataModule
from datamodules.files.writing import atomic_write
from qgnet.common.terminal import say
from qgnet.metrics import EpisodeIoU, EpisodeScore
from qgnet.networks.layers import resize
from qgnet.networks.qgnet import GUIDED
from qgnet.runs.conditions import conditions
from qgnet.runs.folders import checkpoint_run, training_of
from qgnet.runs.results import EVERYTHING, RESULTS, THRESHOLDS, guided, matching
from qgnet.tasks.episodic import EpisodicTask, Segmented


class TestResults(pl.Callback):
    """Writes ``results.json``: the scores of the task and of baselines on the same episodes.

    The baselines are everything foreground, the guided map at nine thresholds, and each score map of support matching.
    """

    __test__ = False  # not for pytest

    def __init__(self) -> None:
        self.baselines: dict[str, EpisodeIoU] = {}

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Create one metric per baseline on the device."""
        assert isinstance(pl_module, EpisodicTask)
        classes = pl_module.data.novel_classes
        net = pl_module.net
        thresholds = THRESHOLDS if GUIDED in net.map_names else ()
        names = [EVERYTHING, *map(guided, thresholds), *map(matching, net.score_map_names)]
        self.baselines = {name: EpisodeIoU(classes).to(pl_module.device) for name in names}

    def on_test_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Count the batch for each baseline."""
        count_baselines(self.baselines, outputs, batch)

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the file."""
        assert isinstance(pl_module, EpisodicTask)
        baselines = {name: metric.compute() for name, metric in self.baselines.items()}
        scores = {pl_module.method: pl_module.scores["test"]}
        scores |= {name: score for name, score in baselines.items() if name not in scores}
        if trainer.is_global_zero:
            folder = Path(trainer.default_root_dir)
            result = summary(trainer, pl_module, scores)
            with atomic_write(folder / RESULTS) as part:
                part.write_text(json.dumps(result, indent=2) + "\n")
            say(f"Results: {folder / RESULTS}")


def count_baselines(baselines: dict[str, EpisodeIoU], segmented: Segmented, episode: Episode) -> None:
    """Count one batch of episodes for each baseline; skip episodes whose class is absent."""
    side = episode.query_mask.shape[-1]
    maps = {**segmented.output.maps, **segmented.output.score_maps}
    canvases = {name: resize(values.float(), (side, side))[:, 0] for name, values in maps.items()}
    for i in episode.present.nonzero().flatten().tolist():
        target, class_id = episode.original_mask[i], int(episode.class_id[i])
        size = (target.shape[0], target.shape[1])
        full = {name: restore(canvas[i], episode.content_size[i], size) for name, canvas in canvases.items()}
        baselines[EVERYTHING].update(torch.ones_like(target), target, class_id)
        for threshold in THRESHOLDS if GUIDED in full else ():
            baselines[guided(threshold)].update(full[GUIDED] > threshold, target, class_id)
        for name in segmented.output.score_maps:
            baselines[matching(name)].update(full[name] > 0, target, class_id)


def summary(trainer: pl.Trainer, task: EpisodicTask, scores: dict[str, EpisodeScore]) -> dict[str, Any]:
    """The content of ``results.json``; scores are in [0, 1], null for a class without an episode."""
    data: EpisodeDataModule = task.data
    classes = [task.class_names[c] for c in data.novel_classes]
    checkpoint = trainer.ckpt_path and Path(trainer.ckpt_path)
    control = task.controls["test"]
    return {
        "method": task.method,
        "trained": training_of(checkpoint_run(checkpoint) if checkpoint else Path(trainer.default_root_dir)),
        "checkpoint": str(checkpoint) if checkpoint else None,
        **conditions(data, task.scores["test"].episodes, task.leaked_classes(refuse=False)),
        "files_sha256": task.file_hashes,
        "control": control and {k: (None if math.isnan(x) else x) for k, x in control._asdict().items()},
        "scores": {
            name: {
                "miou": score.miou,
                "fb_iou": score.fb_iou,
                "class_iou": {c: (None if math.isnan(x) else x) for c, x in zip(classes, score.class_iou, strict=True)},
            }
            for name, score in scores.items()
        },
    }
