"""scvi-tools' SCVI: counts of genes given a library size, a batch and covariates."""

# the package is there where its models are, and not where types are checked
# pyright: reportMissingImports=false
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal

from taut.adapters.base import Adapter, Subject, checked
from taut.adapters.proposal import family_of
from taut.errors import UserError
from taut.evidence.target import Target

LIBRARY = "library"


class Scvi(Adapter):
    r"""A trained ``SCVI``: $\log p(x \mid l, s)$ of the counts x, given library size l, batch and covariates s.

    This is what ``get_marginal_ll`` estimates. A row of the data is what the model registered of a cell: its counts,
    then the logarithm of their sum, batch, label and covariates, so that counts simulated from the model keep the
    library size that they were simulated with. Where the library size is latent, it stands behind z.

    Args:
        model: The model, which brings its data along.
    """

    def __init__(self, model: Any) -> None:
        if not model.is_trained:
            raise UserError(f"The {type(model).__name__} has not been trained; call its train() first.")
        self.model, self.name, self.modules = model, type(model).__name__, (model.module,)
        held = self._registered()
        self.columns = {name: values.shape[1] for name, values in held.items()}
        self.types = [values.dtype for values in held.values()]
        self.data = torch.cat([values.float() for values in held.values()], 1)

    def subject(self, x: Tensor) -> Subject:
        if x.shape[1:] != (sum(self.columns.values()),):
            parts = ", ".join(f"{name} ({width})" for name, width in self.columns.items())
            raise UserError(
                f"x has rows of shape {list(x.shape[1:])}, and a cell of this {self.name} is {parts}; leave data out, "
                "or give some rows of taut.adapters.scvi.Scvi(model).data."
            )
        prior = self._prior(x) if self.model.module.use_observed_lib_size else None

        def log_joint(x: Tensor, z: Tensor) -> Tensor:
            rows, flat = x.expand(len(z), *x.shape).flatten(0, 1), z.flatten(0, 1)
            px, pl = self._given(rows, flat)
            log_p = px.log_prob(self._counts(rows)).double().sum(-1) + _standard(flat[:, : self._dim]).sum(-1)
            log_p = log_p if pl is None else log_p + _in_double(pl).log_prob(flat[:, self._dim :]).sum(-1)
            return log_p.reshape(z.shape[:2])

        def simulate(n: int) -> tuple[Tensor, Tensor]:
            # library size, batch and covariates are those of cells of the data
            rows = x[torch.arange(n) % len(x)]
            assert prior is not None
            z = prior.sample(torch.Size([n]))
            made = self._given(rows, z)[0].sample()
            return z, torch.cat([made.to(rows), rows[:, made.shape[1] :]], 1)

        target = Target(log_joint, self._q, prior, simulate=simulate if prior is not None else None, mass=True)
        return checked(Subject(target, family_of(self._q, x)), x)

    @property
    def _dim(self) -> int:
        return int(self.model.module.n_latent)

    def _registered(self) -> dict[str, Tensor]:
        """Everything that the model registered of its cells, by name."""
        loader = self.model._make_data_loader(adata=self.model.adata, shuffle=False)
        batches = [{name: part for name, part in batch.items() if part is not None} for batch in loader]
        held = {name: torch.cat([batch[name] for batch in batches]) for name in batches[0]}
        counts = held.pop("X")
        return {"X": counts, LIBRARY: counts.sum(1, keepdim=True).log(), **held}

    def _tensors(self, rows: Tensor) -> dict[str, Tensor]:
        parts = rows.split(list(self.columns.values()), 1)
        return {name: part.to(dtype) for name, part, dtype in zip(self.columns, parts, self.types, strict=True)}

    def _counts(self, rows: Tensor) -> Tensor:
        return rows[:, : self.columns["X"]]

    def _q(self, x: Tensor) -> Distribution:
        module, tensors = self.model.module, self._tensors(x)
        found = module.inference(**module._get_inference_input(tensors, full_forward_pass=True))
        parts = [part for part in (found["qz"], found["ql"]) if part is not None]
        mean, scale = (torch.cat([getattr(part, name).double() for part in parts], 1) for name in ("loc", "scale"))
        return Independent(Normal(mean, scale, validate_args=False), 1, validate_args=False)

    def _given(self, rows: Tensor, z: Tensor) -> tuple[Any, Any]:
        """p(x | z, l) of each row, and p(l) where the library size is latent."""
        module, tensors = self.model.module, self._tensors(rows)
        own = z.to(rows.dtype)
        library = tensors[LIBRARY] if module.use_observed_lib_size else own[:, self._dim :]
        inferred: Mapping[str, Tensor] = {
            "z": module.z_encoder.z_transformation(own[:, : self._dim]),
            LIBRARY: library,
        }
        found = module.generative(**module._get_generative_input(tensors, inferred))
        return found["px"], found["pl"]

    def _prior(self, x: Tensor) -> Distribution:
        zero = x.new_zeros(self._dim).double()
        return Independent(Normal(zero, torch.ones_like(zero), validate_args=False), 1, validate_args=False)


def adapted(model: Any) -> Adapter:
    """The adapter of a model.

    Raises:
        UserError: If it is no SCVI.
    """
    from scvi.module import LDVAE, VAE

    # not what is derived from them, which has a likelihood or latents of its own
    if type(getattr(model, "module", None)) not in (VAE, LDVAE):
        raise UserError(
            f"Of scvi-tools' models an audit knows SCVI and LinearSCVI, and not {type(model).__name__}; give "
            "log p(x, z) and q: taut.audit(log_joint=, q=, data=)."
        )
    return Scvi(model)


def _standard(z: Tensor) -> Tensor:
    return Normal(torch.zeros_like(z), 1.0, validate_args=False).log_prob(z)


def _in_double(normal: Any) -> Normal:
    return Normal(normal.loc.double(), normal.scale.double(), validate_args=False)
