"""The models of pythae 0.1.2: one row for each that can be run, one reason for each that cannot.

Defaults are pythae's, except where they would switch off what a model is about; those have a comment.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field
from pythae import models
from torch import Tensor
from torch.nn.functional import softplus

from aebench.contracts import UnavailableRecord
from aebench_pythae.adapter import CRITIC, DecayedDecoder, Disentangled, Row, Vamp, WithPrior


def weight(default: float) -> Any:
    """A parameter of at least 0."""
    return float, Field(default, ge=0, allow_inf_nan=False)


def positive(default: float) -> Any:
    """A parameter above 0."""
    return float, Field(default, gt=0, allow_inf_nan=False)


def share(default: float) -> Any:
    """A parameter in [0, 1]."""
    return float, Field(default, ge=0, le=1)


def count(default: int) -> Any:
    """A whole number of at least 1."""
    return int, Field(default, gt=0)


def nearest_codewords(model: models.VQVAE, h: Tensor) -> Tensor:
    """Each element of h (B, D) becomes the nearest value of the one codebook that all elements share."""
    return model.quantizer(h.reshape(len(h), 1, -1, 1)).quantized_vector.flatten(1)


def planar_flows(model: models.VAE_LinNF, z: Tensor) -> Tensor:
    """z (B, D) after all planar flows."""
    for layer in model.net:
        z = layer(z).out
    return z


def autoregressive_flow(model: models.VAE_IAF, z: Tensor) -> Tensor:
    """z (B, D) after the inverse autoregressive flow."""
    return model.iaf_flow.inverse(z).out


NETWORKS = ("encoder", "decoder")
ADVERSARIAL = (("autoencoder_loss", NETWORKS), (CRITIC, ("pythae.discriminator",)))
ONE_FOR_EACH = (("encoder_loss", ("encoder",)), ("decoder_loss", ("decoder",)))

MODELS = (
    Row("ae", "AE", "the plain autoencoder", "Rumelhart, Hinton & Williams 1986", models.AE),
    Row("vae", "VAE", "Gaussian posterior and prior", "Kingma & Welling 2014", models.VAE, adapter=WithPrior),
    Row(
        *("beta_vae", "β-VAE", "the KL divergence is weighted by beta", "Higgins et al. 2017", models.BetaVAE),
        params={"beta": weight(4.0)},  # pythae: 1, a VAE
        adapter=WithPrior,
    ),
    Row(
        *("disentangled_beta_vae", "Disentangled β-VAE", "the KL divergence approaches a rising target"),
        *("Burgess et al. 2018", models.DisentangledBetaVAE),
        params={"beta": weight(10.0), "C": weight(50.0), "warmup_epoch": count(25)},
        adapter=Disentangled,
    ),
    Row(
        *("beta_tc_vae", "β-TC-VAE", "the total correlation of the code is weighted by beta"),
        *("Chen, Li, Grosse & Duvenaud 2018", models.BetaTCVAE),
        params={"alpha": weight(1.0), "beta": weight(6.0), "gamma": weight(1.0)},  # pythae: beta 1, a VAE
        fixed={"use_mss": False},  # stratified sampling needs the number of images, which a loss does not know
        adapter=WithPrior,
    ),
    Row(
        *("info_vae", "InfoVAE", "a maximum mean discrepancy besides the KL divergence"),
        *("Zhao, Song & Ermon 2019", models.INFOVAE_MMD),
        params={"alpha": weight(0.0), "lbd": weight(10.0)},  # pythae: lbd 0.001, which rewards the discrepancy
        adapter=WithPrior,
    ),
    Row(
        *("wae_mmd", "WAE-MMD", "codes match the prior by their maximum mean discrepancy"),
        *("Tolstikhin, Bousquet, Gelly & Schölkopf 2018", models.WAE_MMD),
        params={"reg_weight": weight(10.0)},  # pythae: 0.03, next to nothing beside nats per image
        adapter=WithPrior,
    ),
    Row(
        *("iwae", "IWAE", "a bound from several weighted codes", "Burda, Grosse & Salakhutdinov 2016", models.IWAE),
        params={"number_samples": count(10)},
        adapter=WithPrior,
    ),
    Row(
        *("miwae", "MIWAE", "the mean of several IWAE bounds", "Rainforth et al. 2018", models.MIWAE),
        params={"number_gradient_estimates": count(5), "number_samples": count(10)},
        adapter=WithPrior,
    ),
    Row(
        *("ciwae", "CIWAE", "a mixture of the bounds of VAE and IWAE", "Rainforth et al. 2018", models.CIWAE),
        params={"number_samples": count(10), "beta": share(0.5)},
        adapter=WithPrior,
    ),
    Row(
        *("piwae", "PIWAE", "MIWAE's bound for the encoder, IWAE's for the decoder"),
        *("Rainforth et al. 2018", models.PIWAE),
        params={"number_gradient_estimates": count(5), "number_samples": count(10)},
        adapter=WithPrior,
        updates=ONE_FOR_EACH,
    ),
    Row(
        *("msssim_vae", "MS-SSIM-VAE", "structural similarity instead of the likelihood"),
        *("Snell et al. 2017", models.MSSSIM_VAE),
        params={"beta": weight(0.01)},  # pythae: 1, which outweighs an error of at most 1
        adapter=WithPrior,
    ),
    Row(
        *("vq_vae", "VQ-VAE", "each code element is replaced by the nearest value of one shared codebook"),
        *("van den Oord, Vinyals & Kavukcuoglu 2017", models.VQVAE),
        params={
            "num_embeddings": count(512),
            "commitment_loss_factor": weight(0.25),
            "quantization_loss_factor": weight(1.0),
        },
        transform=nearest_codewords,
    ),
    Row(
        *("vamp", "VampPrior VAE", "the prior is a mixture of posteriors", "Tomczak & Welling 2018", models.VAMP),
        params={"number_components": count(50)},
        adapter=Vamp,
    ),
    Row(
        *("vae_lin_nf", "VAE, planar flows", "two planar flows follow the Gaussian posterior"),
        *("Rezende & Mohamed 2015", models.VAE_LinNF),
        adapter=WithPrior,
        transform=planar_flows,
    ),
    Row(
        *("vae_iaf", "VAE, IAF", "an inverse autoregressive flow follows the Gaussian posterior"),
        *("Kingma et al. 2016", models.VAE_IAF),
        params={"n_made_blocks": count(2), "n_hidden_in_made": count(3), "hidden_size": count(128)},
        adapter=WithPrior,
        transform=autoregressive_flow,
    ),
    Row(
        *("rae_l2", "RAE-L2", "penalises large codes and large weights of the decoder"),
        *("Ghosh et al. 2020", models.RAE_L2),
        # pythae's 1e-4 and 1e-7 change nothing; these are those of Ghosh et al. for a sum over pixels.
        params={"embedding_weight": weight(0.0128), "reg_weight": weight(2e-4)},
        adapter=DecayedDecoder,
    ),
    Row(
        *("rae_gp", "RAE-GP", "penalises large codes and the slope of the reconstruction"),
        *("Ghosh et al. 2020", models.RAE_GP),
        # As for RAE-L2, except for the weight of the slope, which is pythae's.
        params={"embedding_weight": weight(0.0128), "reg_weight": weight(1e-7)},
        differentiates=True,
    ),
    Row(
        *("hvae", "Hamiltonian VAE", "Hamiltonian dynamics move the code along the posterior"),
        *("Caterini, Doucet & Sejdinovic 2018", models.HVAE),
        params={"n_lf": count(3), "eps_lf": positive(0.001), "beta_zero": positive(0.3)},
        adapter=WithPrior,
        deviation=softplus,
        differentiates=True,
    ),
    Row(
        *("adversarial_ae", "AAE", "a discriminator matches codes to the prior"),
        *("Makhzani et al. 2016", models.Adversarial_AE),
        params={"adversarial_loss_scale": share(0.5)},
        adapter=WithPrior,
        updates=ADVERSARIAL,
    ),
    Row(
        *("factor_vae", "FactorVAE", "a discriminator estimates the total correlation of the code"),
        *("Kim & Mnih 2018", models.FactorVAE),
        params={"gamma": weight(2.0)},
        adapter=WithPrior,
        updates=ADVERSARIAL,
    ),
)

UNAVAILABLE = (
    UnavailableRecord(
        name="pythae_vaegan",
        title="VAE-GAN (pythae)",
        reason="reads the values of its losses in every step to decide which network it trains",
    ),
    UnavailableRecord(
        name="pythae_svae",
        title="Hyperspherical VAE (pythae)",
        reason="samples by rejection in a loop that ends by the values drawn, and computes Bessel functions on the CPU",
    ),
    UnavailableRecord(
        name="pythae_poincare_vae",
        title="Poincaré VAE (pythae)",
        reason="checks in every step, by value, that codes lie inside the Poincaré ball, and the encoder does not "
        "keep them there",
    ),
    UnavailableRecord(
        name="pythae_rhvae",
        title="Riemannian Hamiltonian VAE (pythae)",
        reason="collects its metric in Python lists during training, outside its state dict",
    ),
)
