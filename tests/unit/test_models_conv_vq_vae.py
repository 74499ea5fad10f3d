"""The convolutional VQ-VAE: its grid, its quantisation, and how its codewords move."""

import pytest
import torch
from aebench_conv_vq_vae import RARE
from torch import Generator

from aebench.training.fitting import fit
from aebench.training.records import Budget


def draw(*shape, seed=0):
    return torch.rand(shape, generator=Generator().manual_seed(seed))


def with_random_codebook(model):
    model.codebook.normal_(generator=Generator().manual_seed(3))
    return model.eval()


@pytest.mark.parametrize(
    ("shape", "latent_dim", "cells"),
    [
        ((1, 8, 8), 20, (4, 5)),
        ((1, 32, 32), 20, (4, 5)),
        ((1, 32, 32), 2, (1, 2)),
        ((1, 28, 28), 1, (1, 1)),
        ((3, 64, 64), 64, (8, 8)),
        ((3, 10, 6), 5, (2, 2)),
        ((3, 9, 40), 20, (2, 10)),
        ((1, 8, 8), 1000, (8, 8)),
    ],
)
def test_the_grid_has_at_most_latent_dim_cells_in_the_proportions_of_the_image(build, shape, latent_dim, cells):
    model = build("conv_vq_vae", shape, latent_dim, codeword_dim=3)
    maps = []
    handle = model.encoder[-1].register_forward_pre_hook(lambda _, inputs: maps.append(inputs[0]))
    assert model.embed(draw(2, *shape)).shape == (2, model.latent_dim) == (2, 3 * cells[0] * cells[1])
    handle.remove()
    assert maps[0].shape == (2, 3, *cells)


@pytest.mark.parametrize(("row", "column"), [(0, 0), (2, 5), (7, 1)])
def test_a_cell_encodes_its_part_of_the_image(build, row, column):
    """If one of 8 x 8 parts of an image changes, nearly all of the change is in the vectors of cells near by."""
    model = build("conv_vq_vae", (1, 32, 32), 64)
    x = draw(1, 1, 32, 32)
    other = x.clone()
    other[:, :, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4] = 0.0
    change = (model.encode(other) - model.encode(x)).view(-1, 8, 8).square().sum(dim=0)
    near = change[max(0, row - 2) : row + 3, max(0, column - 2) : column + 3]
    assert near.sum() > 0.95 * change.sum()


def test_the_nearest_codeword_by_brute_force(build):
    model = with_random_codebook(build("conv_vq_vae", codeword_dim=8))
    h = torch.randn(50, model.latent_dim, generator=Generator().manual_seed(4))
    grid = h.view(50, 8, 4)  # 4 cells with 8 numbers each
    distances = (grid[:, None] - model.codebook[None, :, :, None]).square().sum(dim=2)
    chosen = distances.argmin(dim=1)
    assert torch.equal(model.nearest(h), chosen)
    expected = model.codebook[chosen].mT.flatten(1)
    code = model.bottleneck(h)
    torch.testing.assert_close(code.z, expected)
    torch.testing.assert_close(code.penalty, 0.25 * (h - expected).square().sum() / 50)


def test_gradients_pass_straight_through(build):
    model = with_random_codebook(build("conv_vq_vae"))
    h = torch.randn(16, model.latent_dim, generator=Generator().manual_seed(4), requires_grad=True)
    weight = torch.randn(16, model.latent_dim, generator=Generator().manual_seed(5))
    code = model.bottleneck(h)
    (through,) = torch.autograd.grad((code.z * weight).sum(), h, retain_graph=True)
    assert torch.equal(through, weight)
    (commitment,) = torch.autograd.grad(code.penalty, h)
    torch.testing.assert_close(commitment, 0.25 * 2 * (h - code.z).detach() / 16)


def test_codewords_move_to_the_means_of_their_vectors(build):
    """Appendix A.1 in closed form: after t steps on one batch, of n vectors with sum s that chose a codeword,
    it is (decay^t m + (1 - decay^t) s) / (decay^t N + (1 - decay^t) n); the limit s / n is that of k-means.
    """
    model = build("conv_vq_vae", latent_dim=1, codebook_size=2, codeword_dim=2, decay=0.9).train()
    codebook, counts = torch.tensor([[-1.0, 0.0], [1.0, 0.0]]), torch.tensor([1.0, 3.0])
    model.codebook.copy_(codebook)
    model.counts.copy_(counts)
    model.sums.copy_(codebook * counts[:, None])
    vectors = torch.tensor([[-3.0, 1.0], [-2.0, 0.0], [-1.0, 2.0], [2.0, 0.0], [3.0, 3.0]])
    n, s = torch.tensor([3.0, 2.0]), torch.stack([vectors[:3].sum(dim=0), vectors[3:].sum(dim=0)])
    for step in range(1, 61):
        model.bottleneck(vectors, stochastic=True, generator=Generator().manual_seed(step))
        old = 0.9**step
        expected = (old * codebook * counts[:, None] + (1 - old) * s) / (old * counts + (1 - old) * n)[:, None]
        torch.testing.assert_close(model.codebook, expected)
    torch.testing.assert_close(model.codebook, s / n[:, None], rtol=0, atol=0.005)


def test_codewords_stand_still_in_evaluation_and_in_the_validation_loss(build):
    model = build("conv_vq_vae").eval()
    before = {name: value.clone() for name, value in model.named_buffers()}
    model.loss(draw(8, 1, 8, 8), Generator().manual_seed(0))
    assert all(torch.equal(value, before[name]) for name, value in model.named_buffers())


def test_a_rare_codeword_becomes_a_vector_of_the_batch(build):
    model = build("conv_vq_vae", codebook_size=3, latent_dim=1, codeword_dim=2).train()
    model.codebook.copy_(torch.tensor([[0.0, 0.0], [50.0, 50.0], [60.0, 60.0]]))
    model.counts.copy_(torch.tensor([5.0, RARE, 2 * RARE]))
    model.sums.copy_(model.codebook * model.counts[:, None])
    vectors = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    model.bottleneck(vectors, stochastic=True, generator=Generator().manual_seed(0))
    assert (model.codebook[1] == vectors).all(dim=1).any()
    assert model.counts[1] == 1
    torch.testing.assert_close(model.codebook[2], torch.tensor([60.0, 60.0]))


@pytest.fixture(scope="module")
def trained(build, digits):
    model = build("conv_vq_vae", latent_dim=4)
    fit(model, digits, Budget(4, 64), batches=Generator().manual_seed(0), noise=Generator().manual_seed(0))
    return model.eval()


def test_training_uses_many_codewords(trained, digits):
    """The perplexity exp(entropy) of the codewords counts those in use: between 1 and 512."""
    used = torch.bincount(trained.nearest(trained.encode(digits.train.x())).flatten(), minlength=512)
    perplexity = torch.special.entr(used / used.sum()).sum().exp()
    assert 40 < perplexity <= 512


def test_the_prior_has_the_frequencies_of_the_training_images(trained, digits):
    indices = trained.nearest(trained.encode(digits.train.x()))
    for cell in range(4):
        assert torch.equal(trained.usage[cell], torch.bincount(indices[:, cell], minlength=512).float())
    grids = []
    handle = trained.decoder.register_forward_pre_hook(lambda _, inputs: grids.append(inputs[0]))
    trained.sample(4000, Generator().manual_seed(0))
    handle.remove()
    grid = torch.cat(grids)
    drawn = trained.nearest(grid)
    torch.testing.assert_close(trained.look_up(drawn), grid)
    for cell in range(4):
        share = torch.bincount(drawn[:, cell], minlength=512) / 4000
        expected = trained.usage[cell] / len(indices)
        assert (share[expected == 0] == 0).all()
        assert (share - expected).abs().max() < 5 * (expected.max() / 4000).sqrt()


def test_each_point_of_an_interpolation_is_a_grid_of_codewords(trained, digits):
    x, y = digits.test.x(slice(0, 3)), digits.test.x(slice(3, 6))
    grids = []
    handle = trained.decoder.register_forward_pre_hook(lambda _, inputs: grids.append(inputs[0]))
    path = trained.interpolate(x, y, 7)
    handle.remove()
    torch.testing.assert_close(trained.look_up(trained.nearest(grids[0])), grids[0])
    torch.testing.assert_close(path[:, 0], trained.reconstruct(x))
    torch.testing.assert_close(path[:, -1], trained.reconstruct(y))
    middle = (trained.encode(x) + trained.encode(y)) / 2
    torch.testing.assert_close(path[:, 3], trained.decode_images(trained.look_up(trained.nearest(middle))))
