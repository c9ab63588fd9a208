"""HSNet against slow references: the centre-pivot convolution, the hypercorrelations, the votes; its sizes."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from qgnet.networks.encoders import create_encoder
from qgnet.networks.hsnet import HSNet, vote
from qgnet.networks.hypercorrelation import CentrePivotConv4d, HypercorrelationSqueeze, over_query


def dense_conv4d(x: Tensor, kernel: Tensor, bias: Tensor, stride: int) -> Tensor:
    """A full 4D convolution of (C, h, w, h', w') with (D, C, k, k, k, k), position by position, zeros around."""
    reach = kernel.shape[-1] // 2
    padded = F.pad(x, [reach] * 8)
    grid = x.shape[1:]
    out = torch.zeros(len(kernel), *grid[:2], *(-(-n // stride) for n in grid[2:]))
    for place in itertools.product(*map(range, out.shape[1:])):
        start = [place[0], place[1], place[2] * stride, place[3] * stride]
        window = padded[(slice(None), *(slice(i, i + 2 * reach + 1) for i in start))]
        out[(slice(None), *place)] = (kernel * window).sum(dim=(1, 2, 3, 4, 5)) + bias
    return out


@torch.no_grad()
@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (3, 2), (5, 4)])
def test_a_centre_pivot_convolution_is_a_4d_one_with_two_centres(kernel: int, stride: int) -> None:
    torch.manual_seed(0)
    conv = CentrePivotConv4d(2, 3, kernel, stride)
    x = torch.randn(2, 2, 3, 4, 6, 5)
    dense, centre = torch.zeros(3, 2, *[kernel] * 4), kernel // 2
    dense[:, :, :, :, centre, centre] += conv.over_query.weight
    dense[:, :, centre, centre] += conv.over_support.weight
    bias = conv.over_query.bias + conv.over_support.bias
    expected = torch.stack([dense_conv4d(one, dense, bias, stride) for one in x])
    assert torch.allclose(conv(x), expected, atol=1e-5)


@torch.no_grad()
def test_a_2d_layer_over_the_query_is_that_of_each_support_position() -> None:
    torch.manual_seed(0)
    net, x = torch.nn.Conv2d(2, 3, 3, padding=1), torch.randn(2, 2, 3, 4, 2, 3)
    found = over_query(net, x)
    for row, column in itertools.product(range(2), range(3)):
        assert torch.allclose(found[..., row, column], net(x[..., row, column]), atol=1e-6)


@pytest.mark.parametrize(("blocks", "parameters"), [((4, 6, 3), 2_573_794), ((4, 23, 3), 2_587_394)])
def test_the_head_has_the_released_parameters(blocks: tuple[int, int, int], parameters: int) -> None:
    """Of ``HPNLearner`` over ResNet-50 and ResNet-101, counted on the released code."""
    assert sum(p.numel() for p in HypercorrelationSqueeze(blocks).parameters()) == parameters


@torch.no_grad()
def test_shapes_over_a_resnet_50_as_in_the_released_code() -> None:
    """401 px stand for 400: 51, 26 and 13 positions a side for 50, 25 and 13; the support is squeezed to 2 x 2."""
    net = HSNet(create_encoder("resnet50", dilated=False)).eval()
    image, mask = torch.randn(1, 3, 401, 401), torch.zeros(1, 401, 401, dtype=torch.uint8)
    mask[:, 100:300, 100:300] = 1
    query, supports = net.encode_query(image), net.encode_support(image, mask)
    assert [len(names) for names in net.blocks] == [4, 6, 3]
    pyramid = net.pyramid(query, supports.shots[0])
    assert [tuple(x.shape) for x in pyramid] == [(1, n, *[side] * 4) for n, side in ((4, 51), (6, 26), (3, 13))]
    squeezed = [squeeze(x) for squeeze, x in zip(net.head.squeeze, pyramid, strict=True)]
    assert [tuple(x.shape) for x in squeezed] == [(1, 128, side, side, 2, 2) for side in (51, 26, 13)]
    assert net.head(pyramid).shape == (1, 2, 102, 102)
    assert net.decode(query, supports, (401, 401)).logits.shape == (1, 2, 401, 401)


@torch.no_grad()
def test_hypercorrelations_are_cosines_with_the_masked_support() -> None:
    """Of features before the last ReLU, position by position."""
    torch.manual_seed(0)
    net = HSNet(create_encoder("test_resnet", dilated=False)).eval()
    image, other = torch.randn(2, 1, 3, 65, 65)
    mask = torch.zeros(1, 65, 65, dtype=torch.uint8)
    mask[:, 8:40, 16:64], mask[:, :, 60:] = 1, 255
    pyramid = net.pyramid(net.encode_query(image), net.encode_support(other, mask).shots[0])
    encoder = net.encoder
    for level, found in zip(net.levels, pyramid, strict=True):
        names = list(encoder.blocks_of(level))
        ours, theirs = encoder(image, names), encoder(other, names)
        for i, name in enumerate(names):
            query, support = ours[name][0], theirs[name][0]
            assert float(query.min()) < 0
            size = tuple(support.shape[1:])
            soft = F.interpolate((mask == 1).float()[None], size, mode="bilinear", align_corners=True)[0, 0]
            for at in itertools.product(*map(range, size)):
                for to in itertools.product(*map(range, size)):
                    one, two = query[:, at[0], at[1]], support[:, to[0], to[1]] * soft[to]
                    cosine = float(one @ two / ((one.norm() + 1e-5) * (two.norm() + 1e-5)))
                    assert abs(float(found[(0, i, *at, *to)]) - max(cosine, 0)) < 1e-4


def test_blocks_of_a_resnet_end_before_their_relu_and_stages_after() -> None:
    encoder = create_encoder("resnet18", dilated=False).eval()
    torch.nn.init.ones_(encoder.net["layer2"][1].bn2.weight)  # timm's is 0: the block would be the identity
    with torch.no_grad():
        features = encoder(torch.randn(1, 3, 64, 64), ["stage2.1", "stage2"])
    assert float(features["stage2.1"].min()) < 0
    assert torch.equal(features["stage2.1"].relu(), features["stage2"])


def test_votes_as_in_the_released_code() -> None:
    """Of five positions 0, 1, 2, 3 and 4 of four shots: at least half of the most votes."""
    logits = torch.zeros(4, 1, 2, 1, 5)
    for position, number in enumerate((0, 1, 2, 3, 4)):
        logits[:number, 0, 1, 0, position] = 1.0
    assert (vote(list(logits)) > 0).flatten().tolist() == [False, False, True, True, True]
    assert (vote(list(logits[1:])) > 0).flatten().tolist() == [False, False, False, True, True]  # 0, 0, 1, 2 and 3
    assert not (vote([torch.zeros(1, 2, 1, 5)] * 3) > 0).any()


@torch.no_grad()
def test_five_shots_are_five_predictions_that_vote() -> None:
    torch.manual_seed(0)
    net = HSNet(create_encoder("test_resnet", dilated=False)).eval()
    query, images = torch.randn(1, 3, 65, 65), torch.randn(1, 5, 3, 65, 65)
    masks = (torch.rand(1, 5, 65, 65) > 0.5).to(torch.uint8)
    single = [net(query, images[:, k : k + 1], masks[:, k : k + 1]).logits for k in range(5)]
    votes = sum((x[:, 1] > x[:, 0]).long() for x in single)
    both = net(query, images, masks).logits
    assert torch.equal(both[:, 1] > both[:, 0], votes >= 0.5 * votes.max().clamp(min=1))


def test_training_with_several_shots_has_a_gradient() -> None:
    net = HSNet(create_encoder("test_resnet", dilated=False)).train()
    masks = torch.ones(1, 2, 65, 65, dtype=torch.uint8)
    net(torch.randn(1, 3, 65, 65), torch.randn(1, 2, 3, 65, 65), masks).logits[:, 1].sum().backward()
    assert all(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in net.head.decode_fine.parameters())


@pytest.mark.parametrize(("name", "dilated"), [("resnet18", True), ("vgg11_bn", False)])
def test_an_encoder_on_other_grids_is_refused(name: str, dilated: bool) -> None:
    with pytest.raises(ValueError, match="expected 8, 16, 32, as of a ResNet that is not dilated"):
        HSNet(create_encoder(name, dilated=dilated))
