"""Models of pythae whose q is a Gaussian that its encoder gives, and whose prior is standard normal."""

from typing import Any

from torch import Tensor

from taut.adapters.base import Adapter, dtype_of
from taut.adapters.plain import Plain
from taut.errors import UserError, nearest

KNOWN = (
    *("VAE", "BetaVAE", "DisentangledBetaVAE", "BetaTCVAE", "FactorVAE", "INFOVAE_MMD"),
    *("IWAE", "CIWAE", "MIWAE", "PIWAE"),
)
"""Models that differ in what they minimise alone."""
LIKELIHOODS: dict[str, dict[str, Any]] = {
    # what its get_nll takes mse for: its loss leaves the constant out
    "mse": {"likelihood": "gaussian", "scale": 1.0},
    "bce": {"likelihood": "bernoulli", "output": "means"},
}


def adapted(model: Any) -> Adapter:
    """The adapter of a model.

    Raises:
        UserError: If its q, its prior or its likelihood is another one.
    """
    name = next(kind.__name__ for kind in type(model).__mro__ if kind.__module__.startswith("pythae."))
    loss = getattr(model.model_config, "reconstruction_loss", None)
    if name not in KNOWN:
        raise UserError(
            f"pythae's {name} has a q or a prior of its own, and an audit knows those of {', '.join(KNOWN)}; give its "
            "parts: taut.audit(prior=, likelihood=, q=, data=)."
        )
    if loss not in LIKELIHOODS:
        raise UserError(f"reconstruction_loss={loss!r} of a {name} is no likelihood; {nearest(str(loss), LIKELIHOODS)}")

    def q(x: Tensor) -> tuple[Tensor, Tensor]:
        code = model.encoder(x.to(dtype_of(model.encoder, x)))
        return code.embedding, code.log_covariance

    def decoder(z: Tensor) -> Tensor:
        return model.decoder(z.to(dtype_of(model.decoder, z)))["reconstruction"]

    adapter = Plain(q=q, decoder=decoder, name=type(model).__name__, **LIKELIHOODS[loss])
    adapter.modules = (model,)
    return adapter
