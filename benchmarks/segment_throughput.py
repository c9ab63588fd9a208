"""Photographs per second of ``qgnet segment`` beside the bare network's, and its memory.

python benchmarks/segment_throughput.py --photographs 200 --image-size 321 --refine none

Drawn photographs of 500 x 375 px, one support, the command's default network; with ``--encoder-weights`` a ResNet-18 up
to stage 3. The bare network is encoder, matching and refinement on arrays that are decoded and brought to its squares
beforehand. None is left empty, so that both refine all of them. The clock and the processors' time are both given,
since other work on the machine changes the first.
"""

import argparse
import os
import resource
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch

from qgnet.commands import main as qgnet
from qgnet.common.boundary import boundary
from qgnet.inference import REFINE
from qgnet.inference.segmenter import BATCH, Segmenter
from qgnet.inference.supports import as_image
from qgnet.inference.tiling import batch_limit, blend
from qgnet.inference.tuning import join_scales
from qgnet.tasks.base import normalise

EARLY = 200
"""Photographs after which memory is compared with that at the end; as many are enough to time the bare network."""


def main() -> None:
    """Draw, time both, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photographs", type=int, default=1000)
    parser.add_argument("--encoder-weights", help="of a ResNet-18 up to stage 3, or `random`")
    parser.add_argument("--image-size", type=int)
    parser.add_argument("--refine", choices=REFINE, default=REFINE[0])
    options = parser.parse_args()
    settings = {"refine": options.refine, "presence": 0, "image_size": options.image_size}
    if options.encoder_weights:
        settings |= {"encoder": "resnet18", "encoder_weights": options.encoder_weights, "high_stage": 3}
    settings = {name: value for name, value in settings.items() if value is not None}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "photographs").mkdir()
        rng = np.random.default_rng(0)
        for i in range(options.photographs):
            coarse = rng.integers(0, 255, (15, 20, 3), dtype=np.uint8)
            image = cv2.resize(coarse, (500, 375), interpolation=cv2.INTER_CUBIC)
            cv2.imwrite(str(folder / f"photographs/{i:05d}.jpg"), image)
        mask = np.zeros((375, 500), np.uint8)
        mask[100:250, 150:350] = 255
        cv2.imwrite(str(folder / "mask.png"), mask)
        support = [str(folder / "photographs/00000.jpg"), str(folder / "mask.png")]
        first = sorted((folder / "photographs").iterdir())[:BATCH]
        bare(Segmenter(**settings).fit([(support[0], support[1])]), first, min(EARLY, options.photographs))
        flags = [word for key, value in settings.items() for word in (f"--{key.replace('_', '-')}", str(value))]
        machine = ["--workers", "1", "--accelerator", "cpu"]
        started = now()
        out = ["--out", str(folder / "out")]
        memory = Memory(folder / "out")
        qgnet(["segment", str(folder / "photographs"), "--support", *support, *out, *flags, *machine])
        tell("qgnet segment, with start and end", started, options.photographs)
        print(f"memory: {memory}")


class Memory:
    """MiB of this process when so many masks had been written."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.found: dict[int, float] = {}
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while True:
            done = len(list(self.out.glob("*.png")))
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            self.found[done] = pages * os.sysconf("SC_PAGE_SIZE") / 2**20
            time.sleep(0.5)

    def __str__(self) -> str:
        some = [n for n in self.found if n >= EARLY] or list(self.found)
        return ", ".join(f"{self.found[n]:.0f} MiB after {n}" for n in (min(some), max(some)))


@torch.inference_mode()
def bare(segmenter: Segmenter, photographs: Sequence[Path], number: int) -> None:
    """Time the network and the refinement alone, on some photographs again and again."""
    net, one = segmenter.model.net, segmenter.fitted[0]
    images = [segmenter.prepare(as_image(path)) for path in photographs]
    print(f"squares of {segmenter.sides} px, {one.choice}")

    def score_maps(scale: int) -> torch.Tensor:
        side = segmenter.sides[scale]
        squares = torch.cat([image.scales[scale].squares for image in images])
        outputs = [
            net.decode(net.encode_query(normalise(some)), one.encoded[scale], (side, side), with_levels=False)
            for some in squares.split(batch_limit(side, BATCH))
        ]
        return torch.cat([output.logits[:, 1] - output.logits[:, 0] for output in outputs])

    def segment() -> None:
        scales = [score_maps(scale) for scale in range(len(segmenter.sides))]
        for image, *of_scales in zip(images, *scales, strict=True):
            blended = [blend(of_scale[None], at) for of_scale, at in zip(of_scales, image.scales, strict=True)]
            probability = join_scales(blended, one.choice.coarse_weight).sigmoid().numpy()
            segmenter.refiners[one.choice.refinement](image.guide, probability, one.threshold)

    segment()
    started = now()
    rounds = max(1, number // len(images))
    for _ in range(rounds):
        segment()
    tell("bare network and refinement", started, rounds * len(images))


def now() -> tuple[float, float]:
    """Seconds of the clock, and of all processors for this process and its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return time.perf_counter(), sum(u.ru_utime + u.ru_stime for u in used)


def tell(what: str, started: tuple[float, float], photographs: int) -> None:
    """Print a rate."""
    clock, processors = (end - start for end, start in zip(now(), started, strict=True))
    rate = photographs / clock
    print(f"{what}: {rate:.2f} photographs a second, {1000 * processors / photographs:.1f} ms of processor each")


if __name__ == "__main__":
    with boundary("Run it again to measure."):
        main()
