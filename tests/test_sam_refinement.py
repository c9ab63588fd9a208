"""``--refine sam2``, with tiny networks of random weights: what SAM is asked, what is taken of its answers, bad input.

The weights that are downloaded are not at hand here: how good the masks are is not measured by these tests.
"""

import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import huggingface_hub
import numpy as np
import pytest
import torch
from tiny_sam import SIDE, tiny_sam

import qgnet
from datamodules.episodes.prepared import prepare_image
from qgnet.commands import main
from qgnet.common.errors import InputError
from qgnet.inference import sam_refinement
from qgnet.inference.sam_refinement import FILES, FOLDER, SURE, Sam2Refiner, parts_of

pytest.importorskip("transformers", reason="transformers is not installed: pip install 'qgnet-lightning[sam]'")
RANDOM = {"encoder": "test_resnet", "encoder_weights": "random"}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_sam(tmp_path_factory.mktemp("sam"))


@pytest.fixture
def sam(weights: Path, monkeypatch: pytest.MonkeyPatch) -> Sam2Refiner:
    monkeypatch.setenv(FOLDER, str(weights))
    return Sam2Refiner()


def two_squares() -> tuple[np.ndarray, np.ndarray]:
    """An image (120, 160, 3) of two squares on a lawn, and their mask."""
    mask = np.zeros((120, 160), bool)
    mask[20:60, 20:70] = True
    mask[70:110, 100:150] = True
    return np.where(mask[..., None], (190, 60, 50), (60, 140, 70)).astype(np.uint8), mask


def blobs(size: tuple[int, int], *centres: tuple[float, float], radius: float = 24) -> np.ndarray:
    """Probabilities (H, W) that fall slowly from some centres."""
    y, x = np.mgrid[: size[0], : size[1]]
    far = np.min([np.hypot(y - cy, x - cx) for cy, cx in centres], axis=0)
    return (1 / (1 + np.exp((far - radius) / 6))).astype(np.float32)


COARSE = blobs((120, 160), (40, 45), (90, 125))


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    return (one & other).sum() / (one | other).sum()


class Knowing:
    """In place of SAM's decoder: three masks for each prompt, of which one is the square under its first point."""

    def __init__(self, sam: Sam2Refiner, mask: np.ndarray) -> None:
        self.asked: list[dict[str, torch.Tensor]] = []
        small = cv2.resize(mask.astype(np.float32), (32, 32), interpolation=cv2.INTER_AREA)
        _, self.labels = cv2.connectedComponents((small > 0.5).astype(np.uint8))
        self.logits = 20 * (small - 0.5)
        sam.model.forward = self  # type: ignore[method-assign]

    def __call__(self, image_embeddings: list[torch.Tensor], **prompts: torch.Tensor) -> Any:
        self.asked.append(prompts)
        found = []
        for point in prompts["input_points"][:, 0, 0] / (SIDE / 32):
            own = self.labels == self.labels[int(point[1]), int(point[0])]
            square = np.where(own, self.logits, -10)
            found.append(np.stack([np.full_like(square, 9), square, np.full_like(square, -9)]))
        masks = torch.from_numpy(np.stack(found)[:, None].astype(np.float32))
        return type("Output", (), {"pred_masks": masks})


def test_each_part_becomes_the_mask_that_agrees_with_it(sam: Sam2Refiner) -> None:
    image, mask = two_squares()
    Knowing(sam, mask)
    for threshold in (0.3, 0.5, 0.7):
        refined = sam(image, COARSE, threshold)
        assert overlap(threshold < COARSE, mask) < 0.8
        assert overlap(refined > threshold, mask) > 0.93
        assert refined.shape == mask.shape
        assert refined.dtype == np.float32
        assert refined.min() > 0
        assert refined.max() < 1


def test_what_sam_is_asked(sam: Sam2Refiner) -> None:
    image, mask = two_squares()
    knowing = Knowing(sam, mask)
    sam(image, COARSE, 0.5)
    [asked] = knowing.asked
    scale = np.array([SIDE / 160, SIDE / 120] * 2)  # the image is stretched to a square
    for i, (y, x) in enumerate([(40, 45), (90, 125)]):
        box = asked["input_boxes"][i, 0].numpy() / scale
        assert np.abs(box - [x - 24, y - 24, x + 24, y + 24]).max() < 5
        points = asked["input_points"][i, 0].numpy() / scale[:2]
        assert np.abs(points - [x, y]).max() < 5
        assert asked["input_labels"][i, 0].tolist() == [1, 1]
        logits = cv2.resize(asked["input_masks"][i, 0].numpy(), (160, 120))
        assert logits[y, x] == pytest.approx(SURE, abs=0.5)
        assert ((logits > 0) == (np.hypot(*np.mgrid[-y : 120 - y, -x : 160 - x]) < 24)).mean() > 0.98


def test_a_part_that_no_mask_agrees_with_stays(sam: Sam2Refiner) -> None:
    """SAM knows one of the two squares; of the other it says what is much larger, or nothing."""
    image, mask = two_squares()
    one, other = mask.copy(), mask.copy()
    one[:, 85:] = other[:, :85] = False
    Knowing(sam, one)
    refined = sam(image, COARSE, 0.5) > 0.5
    assert overlap(refined[:, :85], mask[:, :85]) > 0.93
    assert overlap(refined[:, 85:], COARSE[:, 85:] > 0.5) > 0.97
    Knowing(sam, np.ones_like(mask))
    assert sam(image, COARSE, 0.5) is COARSE


def test_tiny_parts_stay_and_are_not_asked_for(sam: Sam2Refiner) -> None:
    image, mask = two_squares()
    knowing = Knowing(sam, mask)
    coarse = COARSE.copy()
    coarse[100:108, 10:20] = 0.9  # of 2 x 2 positions
    refined = sam(image, coarse, 0.5)
    assert len(knowing.asked[0]["input_points"]) == 2
    assert (refined[102:106, 12:18] > 0.5).all()
    assert not (refined[80:95, 5:30] > 0.5).any()


def test_many_parts_go_through_in_portions(sam: Sam2Refiner, monkeypatch: pytest.MonkeyPatch) -> None:
    evidence = np.full((32, 32), -1, np.float32)
    for i in range(12):
        evidence[8 * (i // 4) : 8 * (i // 4) + 5, 8 * (i % 4) : 8 * (i % 4) + 5] = 1 + i
    image = np.zeros((64, 64, 3), np.uint8)
    together = sam.masks(image, parts_of(evidence))
    monkeypatch.setattr(sam_refinement, "AT_ONCE", 5)
    assert len(together) == 12
    for one, other in zip(together, sam.masks(image, parts_of(evidence)), strict=True):
        assert np.abs(one - other).max() < 1e-5
    monkeypatch.setattr(sam_refinement, "MOST_PARTS", 7)
    assert len(parts_of(evidence)) == 7


def test_each_part_is_asked_for_by_its_own_mask(sam: Sam2Refiner) -> None:
    """The real network: a part's answer does not depend on which others are asked for beside it."""
    image, _ = two_squares()
    small = cv2.resize(COARSE, (32, 32)) - 0.5
    parts = parts_of(small)
    both = sam.masks(image, parts)
    for part, found in zip(parts, both, strict=True):
        assert np.abs(sam.masks(image, [part])[0] - found).max() < 1e-5 * np.abs(found).max() + 1e-9
    assert np.abs(both[0] - both[1]).max() > 1e-3 * np.abs(both).max()


def test_an_image_is_encoded_once(sam: Sam2Refiner, monkeypatch: pytest.MonkeyPatch) -> None:
    image, _ = two_squares()
    encoded = []
    encode = sam.model.get_image_embeddings
    monkeypatch.setattr(sam.model, "get_image_embeddings", lambda pixels: encoded.append(pixels) or encode(pixels))
    for _ in range(3):
        sam(image, COARSE, 0.5)
    assert len(encoded) == 1
    sam(image[:, ::-1].copy(), COARSE, 0.5)
    assert len(encoded) == 2
    assert not torch.equal(*encoded)


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (50, 1), (3, 400), (40, 60)])
def test_images_of_any_size(sam: Sam2Refiner, size: tuple[int, int]) -> None:
    Knowing(sam, np.ones(size))
    for probability in (np.zeros(size), np.ones(size), np.full(size, 0.5), blobs(size, (size[0] / 2, size[1] / 3))):
        refined = sam(np.full((*size, 3), 9, np.uint8), probability.astype(np.float32), 0.5)
        assert refined.shape == size
        assert np.isfinite(refined).all()
    assert (sam(np.zeros((*size, 3), np.uint8), np.ones(size, np.float32), 0.5) > 0.5).all()


def test_the_guide_is_as_large_as_sam_looks_at(sam: Sam2Refiner) -> None:
    image = np.zeros((900, 1200, 3), np.uint8)
    segmenter = qgnet.Segmenter("matching", image_size=65, refine="sam2", **RANDOM)
    assert segmenter.prepare(image).guide.shape == (96, 128, 3)
    assert prepare_image(image, [65], guide_side=1024).guide.shape == (768, 1024, 3)
    assert prepare_image(image, [65], tile=True, guide_side=1024).guide.shape == (768, 1024, 3)


def test_in_python_and_in_files(sam: Sam2Refiner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image, mask = two_squares()
    monkeypatch.setattr(sam_refinement, "AGREEMENT", 0.0)  # random masks agree with nothing
    segmenter = qgnet.Segmenter("matching", image_size=65, refine="sam2", presence=0, **RANDOM).fit([(image, mask)])
    assert segmenter.fitted[0].choice.refinement == "sam2"
    found = segmenter.predict(image)
    plain = qgnet.Segmenter("matching", image_size=65, refine="none", presence=0, **RANDOM)
    assert not np.array_equal(found.probability, plain.fit([(image, mask)]).predict(image).probability)
    segmenter.save(tmp_path / "fitted.pt")
    loaded = qgnet.Segmenter.load(tmp_path / "fitted.pt")
    assert loaded.refine == "sam2"
    assert np.array_equal(loaded.predict(image).probability, found.probability)
    monkeypatch.setenv(FOLDER, str(tmp_path))
    with pytest.raises(InputError, match=r"no config\.json and no model\.safetensors"):
        qgnet.Segmenter.load(tmp_path / "fitted.pt")


def test_the_command(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    """What it says, and that other weights, or another refiner, make all anew."""
    image, mask = two_squares()
    (tmp_path / "images").mkdir()
    for i in range(3):
        cv2.imwrite(str(tmp_path / f"images/{i}.png"), np.roll(image, 20 * i, axis=1))
    cv2.imwrite(str(tmp_path / "mask.png"), 255 * mask.astype(np.uint8))
    support = ["--support", str(tmp_path / "images/0.png"), str(tmp_path / "mask.png")]
    flags = ["--encoder", "test_resnet", "--encoder-weights", "random", "--image-size", "65", "--accelerator", "cpu"]
    command = ["segment", str(tmp_path / "images"), *support, "--out", str(tmp_path / "out"), *flags]
    monkeypatch.setenv(FOLDER, str(weights))
    main([*command, "--refine", "sam2"])
    said = capfd.readouterr()
    assert "refinement sam2" in said.out
    assert "done before" not in said.out
    assert "sam2_video" not in said.out + said.err
    assert len(list((tmp_path / "out").glob("*.png"))) == 3
    main([*command, "--refine", "sam2"])
    assert "3 of them done before" in capfd.readouterr().out
    monkeypatch.setenv(FOLDER, str(tiny_sam(tmp_path / "other", seed=1)))
    main([*command, "--refine", "sam2"])
    assert "done before" not in capfd.readouterr().out
    main([*command, "--refine", "walk"])
    assert "done before" not in capfd.readouterr().out


def test_files_of_a_network_for_videos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    """As Meta's are: the same network for images, and no word of it."""
    monkeypatch.setenv(FOLDER, str(tiny_sam(tmp_path, video=True)))
    capfd.readouterr()
    image, _ = two_squares()
    assert Sam2Refiner()(image, COARSE, 0.5).shape == COARSE.shape
    assert "".join(capfd.readouterr()) == ""


def refused(*message: str) -> None:
    with pytest.raises(InputError) as error:
        qgnet.Segmenter("matching", image_size=65, refine="sam2", **RANDOM)
    for part in message:
        assert part in str(error.value)


def test_weights_that_cannot_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*args: Any, **settings: Any) -> None:
        raise ConnectionError("no network")

    monkeypatch.delenv(FOLDER, raising=False)
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *args: None)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", unreachable)
    refused(
        "facebook/sam2.1-hiera-tiny",
        "https://huggingface.co/",
        "(ConnectionError)",
        "hf download facebook/sam2.1-hiera-tiny config.json model.safetensors --local-dir FOLDER",
        FOLDER,
    )


def test_weights_are_not_downloaded_twice(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is in the hub's cache is taken without asking the network; half a download is gone on with."""
    kept = {name: str(weights / name) for name in FILES}
    asked = []
    monkeypatch.delenv(FOLDER, raising=False)
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda repository, name: kept.get(name))
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *args, **_: asked.append(args) or str(weights))
    assert sam_refinement.weights_folder() == weights
    assert not asked
    del kept["model.safetensors"]
    assert sam_refinement.weights_folder() == weights
    assert asked == [("facebook/sam2.1-hiera-tiny",)]


def test_folders_without_a_sam(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FOLDER, str(tmp_path / "nowhere"))
    refused(FOLDER, "there is no config.json and no model.safetensors", "nowhere")
    broken = tiny_sam(tmp_path / "broken")
    monkeypatch.setenv(FOLDER, str(broken))
    content = (broken / "model.safetensors").read_bytes()
    (broken / "model.safetensors").write_bytes(content[: len(content) // 2])
    refused("does not hold a SAM 2 that can be read", str(broken))
    (broken / "model.safetensors").write_bytes(content)
    (broken / "config.json").write_text("{")
    refused("does not hold a SAM 2 that can be read")
    from safetensors.torch import save_file  # noqa: PLC0415

    (broken / "config.json").write_bytes((weights / "config.json").read_bytes())
    save_file({"other": torch.zeros(3)}, broken / "model.safetensors", metadata={"format": "pt"})
    refused("does not hold a SAM 2 that can be read")


@pytest.mark.parametrize("found", [None, type("Old", (), {"__version__": "4.40"})()], ids=["missing", "too old"])
def test_without_the_library(found: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", found)
    refused("pip install 'qgnet-lightning[sam]'")


def test_without_it_nothing_of_it_is_imported() -> None:
    code = "import sys, qgnet; qgnet.Segmenter('matching', image_size=65); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert "qgnet.inference.refiners" in done.stdout.split()
    assert "qgnet.inference.sam_refinement" not in done.stdout.split()
