"""How well maps find any object, without training: prior maps of given weights against baselines that know no image.

Each map is scored on the same photographs against the union of their masks (``qgnet.metrics.MapQuality``: average
precision, class-agnostic IoU at the best of nine thresholds):

- noise, whose average precision is the objects' mean share of the photographs;
- the centre prior: nearer to the middle is higher;
- spectral-residual saliency (Hou and Zhang, CVPR 2007);
- prior maps (``untrained_prior_map``) of every ``--weights``: ``random``, ``imagenet``, a weights file or a
  prior_extractor.ckpt.

Usage: python benchmarks/prior_map_quality.py --root data/voc20/JPEGImages --mask-root data/voc20/SegmentationClassAug
    --mask-list data/voc20/ImageSets/Segmentation/val.txt --encoder resnet18 --high-stage 3
    --weights random weights/resnet18_stage3.safetensors runs/pretrain_voc_small/seed321/prior_extractor.ckpt
"""

import argparse
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from datamodules.unlabeled import ImageFolder
from datamodules.views.object_images import MaskFolder, ObjectImageDataset
from qgnet.common.boundary import boundary
from qgnet.common.progress import progress
from qgnet.metrics import MapQuality
from qgnet.tasks.base import make_encoder
from qgnet.tasks.pretraining import PriorMaps
from qgnet.weights.store import load_encoder_weights

SALIENCY_SIDE = 64
"""Side at which the spectral residual is taken, as in its paper."""


def centre_prior(side: int) -> Tensor:
    """(side, side) in [0, 1]: 1 in the middle, 0 in the corners."""
    axis = torch.linspace(-1, 1, side)
    return 1 - torch.hypot(axis[:, None], axis[None, :]) / 2**0.5


def spectral_residual(image: Tensor) -> Tensor:
    """(3, S, S) uint8 → (S, S) float32 in [0, 1]: what a smooth log-amplitude spectrum does not explain."""
    grey = cv2.cvtColor(image.permute(1, 2, 0).numpy(), cv2.COLOR_RGB2GRAY)
    small = cv2.resize(grey, (SALIENCY_SIDE, SALIENCY_SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
    spectrum = np.fft.fft2(small)
    log_amplitude = np.log(np.abs(spectrum) + 1e-9).astype(np.float32)
    residual = log_amplitude - cv2.blur(log_amplitude, (3, 3))
    saliency = np.abs(np.fft.ifft2(np.exp(residual + 1j * np.angle(spectrum)))) ** 2
    smooth = cv2.GaussianBlur(saliency.astype(np.float32), (0, 0), 2.5)
    smooth = cv2.resize((smooth - smooth.min()) / (smooth.max() - smooth.min() + 1e-9), grey.shape[::-1])
    return torch.from_numpy(smooth)


def main() -> None:
    """Print a line per map."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--mask-root", type=Path, required=True)
    parser.add_argument("--mask-list", type=Path)
    parser.add_argument("--encoder", default="resnet50")
    parser.add_argument("--high-stage", type=int, default=4)
    parser.add_argument("--size", type=int, default=193)
    parser.add_argument("--weights", nargs="+", default=["random"])
    options = parser.parse_args()
    images = ImageFolder(options.root, options.mask_list)
    masks = MaskFolder(options.mask_root, dict(enumerate(images.names)))
    photographs = ObjectImageDataset(images, range(len(images.names)), masks.labels, options.size)

    prior_maps = {}
    for weights in options.weights:
        torch.manual_seed(321)
        encoder = make_encoder(options.encoder, options.high_stage)
        load_encoder_weights(encoder, weights, "--weights")
        prior_maps[f"prior map, {weights}"] = PriorMaps(encoder)
    quality = {name: MapQuality() for name in ["noise", "centre prior", "spectral residual", *prior_maps]}
    generator = torch.Generator().manual_seed(321)
    centre = centre_prior(options.size)
    for i in progress(range(len(photographs)), "prior maps", unit="photograph"):
        image, objects, _ = photographs[i]
        quality["noise"].update(torch.rand(objects.shape, generator=generator), objects)
        quality["centre prior"].update(centre, objects)
        quality["spectral residual"].update(spectral_residual(image), objects)
        for name, draw in prior_maps.items():
            quality[name].update(draw(image[None])[0, 0], objects)
    print(f"{len(photographs)} photographs of {options.size} px: average precision, class-agnostic IoU (%)")
    for name, metric in quality.items():
        score = metric.compute()
        print(f"{100 * score.average_precision:6.1f} {100 * score.iou:6.1f}  {name}")


if __name__ == "__main__":
    with boundary("Run it again to measure."):
        main()
