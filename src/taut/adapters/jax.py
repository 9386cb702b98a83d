"""Functions of JAX, and NumPyro's models and guides: values by calls, gradients in z by ``jax.grad``."""

# the package is there where its models are, and not where types are checked
# pyright: reportMissingImports=false
from collections.abc import Callable, Iterator, Mapping
from functools import reduce
from operator import add
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Distribution

from taut.adapters.base import Adapter, LogJoint, OfFunctions, Simulate, Subject, checked, name_of
from taut.adapters.proposal import Sampled, family_of, gaussian
from taut.adapters.sites import Layout, layout_of, repeated
from taut.evidence.target import Target


class Jax(OfFunctions):
    r"""A model of functions of JAX, which are given and give its arrays.

    They are called with 64 bits enabled, x in its own precision and z in float64, whatever the process is set to, and
    compiled only where the caller has compiled them.

    ``q`` is a function from x to mean and log-variance of a Gaussian, ``[b, d]`` each; or an object with
    ``sample(key, x, k)``, which gives z ``[k, b, *z]``, and ``log_prob(x, z)``, ``[k, b]``. ``simulate`` takes a key
    and n. The prior is a distribution of torch.
    """

    def of_tensors(self, x: Tensor) -> tuple[LogJoint, Callable[[Tensor], Distribution], Simulate | None]:
        simulate = None if self.simulate is None else _simulating(self.simulate, x)
        return _of_jax(self.log_joint), self._proposal(x), simulate

    def _proposal(self, x: Tensor) -> Callable[[Tensor], Distribution]:
        if not hasattr(self.q, "sample"):
            return lambda x: gaussian(*_called(self.q, x))

        def sample(x: Tensor, k: int) -> Tensor:
            return _called(lambda rows: self.q.sample(_key(), rows, k), x)

        with torch.random.fork_rng(devices=[]):
            z_shape = sample(x[:1], 1).shape[2:]
        return lambda x: Sampled(x, sample, _of_jax(self.q.log_prob), z_shape)


class NumPyro(Adapter):
    r"""``model(x)`` and ``guide(x)``, each a function of a batch of data with a plate over them.

    z of K draws for each of b data is put before the model as one batch of ``k * b`` data: its plate must be as long as
    x, as in ``with numpyro.plate("data", len(x))``. Where several sites are latent, z is their concatenation in the
    order of the guide, each without bounds. Densities are taken without the scales of ``handlers.scale``. Where x
    enters the model as its one observation alone, data are simulated by ``handlers.uncondition``. One latent site that
    is Gaussian, alike for all x, is the prior.

    Args:
        model: The model.
        guide: Its guide.
        params: What was learned: the values of ``numpyro.param`` and ``numpyro.module`` by their names.
        name: What the model is called.
    """

    def __init__(
        self,
        model: Callable[..., Any],
        guide: Callable[..., Any],
        params: Mapping[str, Any] | None = None,
        name: str | None = None,
    ) -> None:
        self.model, self.guide, self.params = model, guide, dict(params or {})
        self.name = name or name_of(model)

    def subject(self, x: Tensor) -> Subject:
        with torch.random.fork_rng(devices=[]):
            layout = self._layout(x)
            own = self._gaussian(self.model, layout, x[:10])
            alone = len(x) > 1 and self._observes_alone(x, layout)
        log_q = _of_jax(lambda x, z: self._log_prob(self.guide, layout, x, z))

        def sample(x: Tensor, k: int) -> Tensor:
            return _called(lambda rows: self._drawn(layout, rows, k), x)

        def q(x: Tensor) -> Distribution:
            given = self._gaussian(self.guide, layout, x)
            return Sampled(x, sample, log_q, torch.Size(layout.z_shape)) if given is None else given

        log_joint = _of_jax(lambda x, z: self._log_prob(self.model, layout, x, z))

        def simulate(n: int) -> tuple[Tensor, Tensor]:
            z, made = _called(lambda rows: self._simulated(layout, rows), x[torch.arange(n) % len(x)])
            return z.double(), made.to(x)

        prior = None if own is None else repeated(own)
        target = Target(log_joint, q, prior, simulate=simulate if alone else None, mass=layout.mass)
        return checked(Subject(target, family_of(q, x)), x)

    def _layout(self, x: Tensor) -> Layout:
        """Latent sites, their shapes, and the plate of the data, from two traces of different length."""
        one, two = (self._traced(self.guide, _array(x[:1].expand(n, *x.shape[1:]))) for n in (1, 2))
        given = self._traced(self.model, _array(x[:1]))
        return layout_of(*(dict(_sampled(trace)) for trace in (one, two, given)))

    def _traced(self, program: Callable[..., Any], x: Any, values: Mapping[str, Any] | None = None) -> Any:
        from numpyro import handlers

        given = handlers.substitute(handlers.seed(program, _key()), data=self.params)
        return handlers.trace(handlers.condition(given, data=dict(values or {}))).get_trace(x)

    def _log_prob(self, program: Callable[..., Any], layout: Layout, x: Any, z: Any) -> Any:
        """Log-density of all sites of a program, given z, ``[k, b]``."""
        rows = x[None].repeat(len(z), 0).reshape(-1, *x.shape[1:])
        trace = self._traced(program, rows, layout.sites(z.reshape(-1, *z.shape[2:])))
        parts = (layout.of_each_datum(name, site, site["fn"].log_prob(site["value"])) for name, site in _sampled(trace))
        return reduce(add, parts).reshape(z.shape[:2])

    def _drawn(self, layout: Layout, x: Any, k: int) -> Any:
        trace = self._traced(self.guide, x[None].repeat(k, 0).reshape(-1, *x.shape[1:]))
        return self._joined(trace, layout, k * len(x)).reshape(k, len(x), *layout.z_shape)

    def _joined(self, trace: Any, layout: Layout, n: int) -> Any:
        import jax.numpy as jnp

        return jnp.concatenate([trace[name]["value"].reshape(n, -1) for name in layout.shapes], 1)

    def _observes_alone(self, x: Tensor, layout: Layout) -> bool:
        """Tell whether x is the one observation of the model, and its density given z is that of no other x."""
        drawn = self._drawn(layout, _array(x[:1]), 1)[0]
        traces = [self._traced(self.model, _array(row), layout.sites(drawn)) for row in (x[:1], x[1:2])]
        return layout.observe_alone(*(dict(_sampled(trace)) for trace in traces), size=x[0].numel())

    def _simulated(self, layout: Layout, x: Any) -> tuple[Any, Any]:
        """Pairs (z, x) of the model, as many as x has rows, of whose values none is read."""
        from numpyro import handlers

        trace = self._traced(handlers.uncondition(self.model), x)
        z = self._joined(trace, layout, len(x)).reshape(len(x), *layout.z_shape)
        (made,) = [site["value"] for name, site in _sampled(trace) if name not in layout.shapes]
        return z, made.reshape(x.shape)

    def _gaussian(self, program: Callable[..., Any], layout: Layout, x: Tensor) -> Distribution | None:
        """The one site of a program, where it is a Gaussian of independent coordinates, as a distribution of torch."""
        import numpyro.distributions as dist

        def of_site(rows: Any) -> Any:
            (name,) = layout.shapes
            fn = self._traced(program, rows)[name]["fn"]
            while isinstance(fn, dist.Independent | dist.ExpandedDistribution):
                fn = fn.base_dist
            if not isinstance(fn, dist.Normal):
                return None
            shape = (len(rows), *layout.z_shape)
            return np.broadcast_to(fn.loc, shape), 2 * np.log(np.broadcast_to(fn.scale, shape))

        found = _called(of_site, x) if len(layout.shapes) == 1 else None
        return None if found is None else gaussian(*found)


class _Values(torch.autograd.Function):
    """Values of a function of JAX, each of one z, and their gradients in it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, z: Tensor, function: Callable[[Any, Any], Any]) -> Tensor:
        ctx.function = function
        ctx.save_for_backward(x, z)
        return _called(lambda x, z: function(x, z), x, z)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor, None]:
        import jax

        x, z = ctx.saved_tensors
        # of the sum, since each value depends on its own z alone
        pull = _called(lambda x, z: jax.grad(lambda z: ctx.function(x, z).sum())(z), x, z)
        return None, gradients[0].reshape(*gradients[0].shape, *[1] * (z.dim() - 2)) * pull, None


def _of_jax(function: Callable[[Any, Any], Any]) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda x, z: _Values.apply(x, z, function)  # type: ignore[return-value]


def _simulating(simulate: Callable[[Any, int], tuple[Any, Any]], x: Tensor) -> Callable[[int], tuple[Tensor, Tensor]]:
    def simulated(n: int) -> tuple[Tensor, Tensor]:
        z, made = _called(lambda: simulate(_key(), n))
        return z.double(), made.to(x)

    return simulated


def _called(function: Callable[..., Any], *arguments: Tensor) -> Any:
    """What a function of JAX gives, as tensors: one, a pair of them, or None."""
    import jax

    with jax.enable_x64(True):
        answer = function(*map(_array, arguments))
        return tuple(map(_tensor, answer)) if isinstance(answer, tuple | list) else _tensor(answer)


def _array(values: Tensor) -> Any:
    import jax.numpy as jnp

    return jnp.asarray(values.detach().cpu().numpy())


def _tensor(values: Any) -> Any:
    # a copy: arrays of JAX cannot be written to
    return None if values is None else torch.from_numpy(np.array(values))


def _key() -> Any:
    """A key of JAX from torch's generator, by which every draw of an audit is seeded."""
    import jax

    return jax.random.key(int(torch.randint(2**31, ())))


def _sampled(trace: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    return ((name, site) for name, site in trace.items() if site["type"] == "sample")
