"""A Pyro model and its guide, with a latent z for each datum."""

# the package is there where its models are, and not where types are checked
# pyright: reportMissingImports=false
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints
from torch.distributions.constraints import Constraint

from taut.adapters.base import Adapter, Subject, checked, modules_in, name_of
from taut.adapters.proposal import Sampled, family_of, whole
from taut.adapters.sites import Layout, layout_of, repeated
from taut.errors import UserError
from taut.evidence.target import Target, innermost


class Pyro(Adapter):
    r"""``model(x)`` and ``guide(x)``, each a function of a batch of data with a plate over them.

    z of K draws for each of b data is put before the model as one batch of ``k * b`` data: its plate must be as long as
    x, as in ``with pyro.plate("data", len(x))``. Where several sites are latent, z is their concatenation in the order
    of the guide. Densities are taken without the scales of ``poutine.scale``: KL warm-up is no part of a model.

    Where x enters the model as its one observation alone, data are simulated by ``poutine.uncondition``. One latent
    site that is Gaussian, alike for all x, is the prior.

    Args:
        model: The model.
        guide: Its guide.
        name: What the model is called.
    """

    def __init__(self, model: Callable[..., Any], guide: Callable[..., Any], name: str | None = None) -> None:
        self.model, self.guide = model, guide
        self.name = name or name_of(model)
        self.modules = modules_in(model, guide)

    def subject(self, x: Tensor) -> Subject:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            layout = self._layout(x)
            prior = self._prior(x[:10], layout)
            alone = len(x) > 1 and self._observes_alone(x, layout)
        q = self._one_site(layout) if len(layout.shapes) == 1 else self._several_sites(layout)

        def log_joint(x: Tensor, z: Tensor) -> Tensor:
            return self._log_prob(self.model, layout, x, z)

        def simulate(n: int) -> tuple[Tensor, Tensor]:
            return self._simulated(x, n, layout)

        target = Target(log_joint, q, prior, simulate=simulate if alone else None, mass=layout.mass)
        return checked(Subject(target, family_of(q, x)), x)

    def _layout(self, x: Tensor) -> Layout:
        """Latent sites, their shapes, and the plate of the data, from two traces of different length."""
        if len(x) < 2:
            raise UserError("An audit of a Pyro model needs two data or more, to tell the plate of the data.")
        traces = [self._traced(self.guide, x[:1]), self._traced(self.guide, x[:2])]
        one, two, given = (dict(_sampled(trace)) for trace in (*traces, self._traced(self.model, x[:2])))
        layout = layout_of(one, two, given)
        supports = [innermost(one[name]["fn"].support) for name in layout.shapes]
        return replace(layout, support=_support(supports, layout.shapes))

    def _traced(self, program: Callable[..., Any], x: Tensor, values: Mapping[str, Tensor] | None = None) -> Any:
        from pyro import poutine

        return poutine.trace(poutine.condition(program, data=dict(values or {}))).get_trace(x)

    def _log_prob(self, program: Callable[..., Any], layout: Layout, x: Tensor, z: Tensor) -> Tensor:
        """Log-density of all sites of a program, given z, ``[k, b]``."""
        rows = x.expand(len(z), *x.shape).flatten(0, 1)
        trace = self._traced(program, rows, layout.sites(z.flatten(0, 1)))
        trace.compute_log_prob()
        parts = [layout.of_each_datum(name, site, site["unscaled_log_prob"]) for name, site in _sampled(trace)]
        return sum(part.double() for part in parts).reshape(z.shape[:2])  # type: ignore[union-attr]

    def _one_site(self, layout: Layout) -> Callable[[Tensor], Distribution]:
        (name,) = layout.shapes
        return lambda x: whole(self._traced(self.guide, x).nodes[name]["fn"], len(x))

    def _several_sites(self, layout: Layout) -> Callable[[Tensor], Distribution]:
        def sample(x: Tensor, k: int) -> Tensor:
            trace = self._traced(self.guide, x.expand(k, *x.shape).flatten(0, 1))
            parts = [trace.nodes[name]["value"].reshape(k * len(x), -1) for name in layout.shapes]
            return torch.cat(parts, 1).unflatten(0, (k, len(x)))

        def log_prob(x: Tensor, z: Tensor) -> Tensor:
            return self._log_prob(self.guide, layout, x, z)

        return lambda x: Sampled(x, sample, log_prob, torch.Size([layout.size]), layout.support)

    def _prior(self, x: Tensor, layout: Layout) -> Distribution | None:
        """The prior of one Gaussian site, where it is alike for all data."""
        if len(layout.shapes) > 1:
            return None
        (name,) = layout.shapes
        return repeated(whole(self._traced(self.model, x).nodes[name]["fn"], len(x)))

    def _observes_alone(self, x: Tensor, layout: Layout) -> bool:
        """Tell whether x is the one observation of the model, and its density given z is that of no other x."""
        z = layout.sites(self._one_draw(x, layout))
        traces = [self._traced(self.model, row, z) for row in (x[:1], x[1:2])]
        return layout.observe_alone(*(dict(_sampled(trace)) for trace in traces), size=x[0].numel())

    def _one_draw(self, x: Tensor, layout: Layout) -> Tensor:
        trace = self._traced(self.guide, x[:1])
        return torch.cat([trace.nodes[name]["value"].reshape(1, -1) for name in layout.shapes], 1)

    def _simulated(self, x: Tensor, n: int, layout: Layout) -> tuple[Tensor, Tensor]:
        from pyro import poutine

        rows = x[torch.arange(n) % len(x)]  # of whose values none is read: only how many there are
        trace = self._traced(poutine.uncondition(self.model), rows)
        z = torch.cat([trace.nodes[name]["value"].reshape(n, -1) for name in layout.shapes], 1)
        (made,) = [site["value"] for name, site in _sampled(trace) if name not in layout.shapes]
        return z.double().reshape(n, *layout.z_shape), made.reshape(rows.shape).to(rows)


def _sampled(trace: Any) -> Iterator[tuple[str, Any]]:
    """The random sites of a trace, without those of a plate's own subsample."""
    from pyro.poutine.util import site_is_subsample

    for name, site in trace.nodes.items():
        if site["type"] == "sample" and not site_is_subsample(site):
            yield name, site


def _support(supports: list[Constraint], shapes: Mapping[str, tuple[int, ...]]) -> Constraint:
    if all(support is constraints.real for support in supports):
        return constraints.real_vector
    lengths = [torch.Size(shape).numel() for shape in shapes.values()]
    return constraints.cat(supports, -1, lengths)
