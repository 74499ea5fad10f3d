"""The masked autoencoder: its patches, positions and masks, and what it learns from them."""

import pytest
import torch
from aebench_masked import cut, join, sine_cosine_positions
from torch import Generator
from torch.nn import functional

SHAPES = [(1, 8, 8), (1, 28, 28), (1, 32, 32), (3, 10, 6), (3, 9, 12), (2, 33, 8), (3, 64, 64)]


def draw(*shape, seed=0):
    return torch.rand(shape, generator=Generator().manual_seed(seed))


def visible_patches(model, x, seed=0):
    """For each image, the tokens that the encoder gets in `loss`: (B, visible, width)."""
    seen = []
    handle = model.encoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    model.loss(x, Generator().manual_seed(seed))
    handle.remove()
    return seen[0]


@pytest.mark.parametrize("shape", SHAPES)
def test_each_pixel_is_in_one_patch(build, shape):
    """A change of one pixel changes one token, and patches fill the image in either direction."""
    model = build("masked", shape)
    x = draw(1, *shape)
    rows, columns = model.grid
    assert model.tokens(x).shape[1] == rows * columns <= 90
    for row, column in ((0, 0), (shape[1] - 1, shape[2] - 1), (shape[1] // 2, 1)):
        other = x.clone()
        other[0, -1, row, column] += 1
        changed = (model.tokens(other) != model.tokens(x)).any(dim=2)[0]
        assert changed.nonzero().tolist() == [[row // model.patch * columns + column // model.patch]]


def test_patches_are_those_of_unfold():
    images = draw(3, 2, 12, 15)
    patches = cut(images, (4, 5), 3)
    assert torch.equal(patches, functional.unfold(images, 3, stride=3).mT)
    assert torch.equal(join(patches, (4, 5), 3), images)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_patch_is_decoded_from_its_own_token(build, shape):
    """The inverse of the above: what `to_pixels` adds to one token lies in one patch of the image."""
    model = build("masked", shape).eval()
    rows, columns = model.grid
    patches = torch.zeros(1, rows * columns, shape[0] * model.patch**2)
    patches[0, columns] = 1.0
    model.to_pixels.register_forward_hook(lambda *_: patches)
    decoded = model.decode(torch.zeros(1, 4))
    expected = torch.zeros(1, *shape)
    expected[:, :, model.patch : 2 * model.patch, : model.patch] = 1.0
    assert torch.equal(decoded, expected)


def test_three_quarters_of_the_patches_are_masked_in_every_image(build):
    model, x = build("masked", (1, 32, 32)), draw(200, 1, 32, 32)
    tokens, visible = model.tokens(x), visible_patches(model, x)
    is_visible = (tokens[:, :, None] == visible[:, None]).all(dim=3).any(dim=2)
    assert torch.equal(is_visible.sum(dim=1), torch.full((200,), 16))
    share = is_visible.float().mean(dim=0)  # of each of the 64 patches: 0.25, give or take 0.031
    assert 0.25 - 0.15 < share.min() < share.max() < 0.25 + 0.15
    assert not torch.equal(visible, visible_patches(model, x, seed=1))


@pytest.mark.parametrize(("ratio", "visible"), [(0.0, 16), (0.5, 8), (0.75, 4), (0.99, 1)])
def test_the_mask_ratio(build, ratio, visible):
    assert visible_patches(build("masked", mask_ratio=ratio), draw(3, 1, 8, 8)).shape[1] == visible


def test_the_code_depends_only_on_the_visible_patches_in_training(build):
    """The encoder sees nothing of masked patches; the loss covers them all the same."""
    model, x = build("masked", (1, 32, 32)).eval(), draw(1, 1, 32, 32)
    visible = (model.tokens(x)[0][:, None] == visible_patches(model, x)[0][None]).all(dim=2).any(dim=1)
    mask = visible.view(1, 1, 8, 8).repeat_interleave(4, dim=2).repeat_interleave(4, dim=3)
    codes = []
    handle = model.to_code.register_forward_hook(lambda _, __, output: codes.append(output))
    losses = [model.loss(image, Generator().manual_seed(0)).total for image in (x, torch.where(mask, x, 0.0))]
    losses.append(model.loss(torch.where(mask, 0.0, x), Generator().manual_seed(0)).total)
    handle.remove()
    assert torch.equal(codes[0], codes[1])
    assert not torch.equal(codes[0], codes[2])
    assert len({float(loss.detach()) for loss in losses}) == 3


def test_without_a_mask_the_loss_is_the_reconstruction_error(build):
    model, x = build("masked", mask_ratio=0.0).eval(), draw(5, 1, 8, 8)
    expected = model.likelihood.nll(model.decode(model.embed(x)), x).mean()
    torch.testing.assert_close(model.loss(x, Generator().manual_seed(0)).total, expected)


def test_the_code_does_not_depend_on_the_order_of_the_patches(build):
    model = build("masked").eval()
    tokens = model.tokens(draw(2, 1, 8, 8))
    order = torch.randperm(16, generator=Generator().manual_seed(0))
    torch.testing.assert_close(model.encode_tokens(tokens[:, order]), model.encode_tokens(tokens))


def test_positions():
    """All differ; the product of two depends only on the distance between them along each axis."""
    positions = sine_cosine_positions(5, 7, 32)
    assert positions.shape == (35, 32)
    products = (positions @ positions.T).view(5, 7, 5, 7)
    torch.testing.assert_close(products[:4, :6, :4, :6], products[1:, 1:, 1:, 1:])
    torch.testing.assert_close(products[0, 0, 2, 3], products[2, 3, 0, 0])
    torch.testing.assert_close(products[0, 0, 0, 0], torch.tensor(16.0))
    assert products.view(35, 35).fill_diagonal_(0).max() < 15.99
    cell = positions.view(5, 7, 32)[2, 3]
    frequencies = 10000 ** -(torch.arange(8) / 8)
    expected = torch.cat(
        [(2 * frequencies).sin(), (2 * frequencies).cos(), (3 * frequencies).sin(), (3 * frequencies).cos()]
    )
    torch.testing.assert_close(cell, expected)


def test_masked_patches_are_reconstructed_better_than_by_the_mean_image(build, train, digits):
    model = train(build("masked", latent_dim=20), digits, epochs=18).eval()
    x = digits.test.x()
    with torch.no_grad():
        tokens = model.tokens(x)
        kept = torch.rand(tokens.shape[:2], generator=Generator().manual_seed(3)).argsort(dim=1)[:, :4]
        z = model.encode_tokens(tokens.gather(1, kept[:, :, None].expand(-1, -1, tokens.shape[2])))
        masked = torch.ones(len(x), 16).scatter_(1, kept, 0.0).view(-1, 1, 4, 4)
        masked = masked.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
        error = ((model.decode_images(z) - x).square() * masked).sum()
        of_mean = ((digits.train.x().mean(dim=0) - x).square() * masked).sum()
    assert masked.mean() == 0.75
    assert error < 0.95 * of_mean
