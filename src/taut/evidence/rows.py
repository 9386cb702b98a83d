"""Data put before estimators, with the log-weights drawn for them so far."""

from collections.abc import Callable
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.distributions import Distribution, MixtureSameFamily

from taut.errors import UserError
from taut.evidence.target import Target
from taut.evidence.weights import EQUAL, Weights
from taut.functional import seeding
from taut.functional.precision import exact_arithmetic
from taut.functional.sampling import NoiseKeys, ProcessShare, Proposal
from taut.functional.types import LogWeights
from taut.model.draws import draw_seeded, log_prob_in_double, log_weights

MOST_WEIGHTS = 2_000_000
"""Log-weights held at once: a few dozen arrays of 16 MB."""
RAREST = -30.0
"""Log-probability under q below which a value of a discrete z counts for nothing."""
ASKED = 4
"""Draws of each Gaussian of q by which it is told whether it is the posterior."""


class Rows:
    """Data put before estimators, and the log-weights drawn for them so far: estimators that share them draw once.

    Args:
        target: The model and its proposal.
        x: Data, shape ``[b, *x_shape]``.
        index: Row of each datum in its split, what its noise is keyed by; 0, 1, ... if not given.
        seed: Seed of the noise.
        split: Name of the split, part of the key.
        z: For data simulated from the model, the z each came from: one exact draw of its posterior.
        share: The blocks of samples that this process draws.
        proposal: Where z is drawn from instead of the target's q, e.g. the best member of its family for each datum;
            of rows given as a slice or by number.
        tick: Called with the share of an estimator's work done so far.

    Raises:
        UserError: If a datum is not finite.
    """

    def __init__(
        self,
        target: Target,
        x: Float[Tensor, "b *x"],
        index: Int[Tensor, " b"] | None = None,
        *,
        seed: int = 0,
        split: str = "x",
        z: Float[Tensor, "b *z"] | None = None,
        share: ProcessShare = ProcessShare(),  # noqa: B008 (frozen)
        proposal: Proposal | None = None,
        tick: Callable[[float], None] = lambda _: None,
    ) -> None:
        index = torch.arange(len(x), device=x.device) if index is None else index
        _check_finite(x, index, target.holes)
        self.target, self.x, self.z, self.share, self.tick = target, x, z, share, tick
        self.proposal = proposal
        self.keys = NoiseKeys(index, seed, split)
        self._weights: dict[tuple[str, int], Weights] = {}

    def __len__(self) -> int:
        return len(self.x)

    def q(self, rows: slice) -> Distribution:
        """The proposal of some of the data."""
        return self.target.q(self.x[rows]) if self.proposal is None else self.proposal(rows)

    def part(self, some: slice) -> "Rows":
        """Some of the data; what is done of them counts for their share of all."""
        first, last, _ = some.indices(len(self))
        return self._chosen(
            torch.arange(first, last, device=self.x.device),
            lambda done: self.tick((first + done * (last - first)) / len(self)),
        )

    def padded(self, size: int) -> "Rows":
        """Repeat the first datum until there are ``size``: for calls of one shape, whatever n."""
        at = torch.arange(size, device=self.x.device)
        return self._chosen(torch.where(at < len(self), at, 0), self.tick)

    def _chosen(self, at: Int[Tensor, " m"], tick: Callable[[float], None]) -> "Rows":
        own = self.proposal
        return Rows(
            self.target,
            self.x[at],
            self.keys.index[at],
            seed=self.keys.seed,
            split=self.keys.split,
            z=None if self.z is None else self.z[at],
            share=self.share,
            proposal=None if own is None else lambda rows: own(at[rows]),
            tick=tick,
        )

    def weights(self, k: int, purpose: str = "", proposal: Proposal | None = None) -> Weights:
        """K weights of each datum: of q, or of another proposal that ``purpose`` names, whose noise is its own."""
        key = (purpose, k)
        if key not in self._weights:
            same = self._without_noise if proposal is None and self.proposal is None else None
            log_w = self.drawn(k, purpose, proposal or self.q) if same is None else same.repeat(k, 1)
            self._weights[key] = Weights(log_w)
        return self._weights[key]

    @cached_property
    def _without_noise(self) -> Float[Tensor, " b"] | None:
        r"""$\log p(x)$, which the log-weight of every z is where q is the posterior; None where a z denies it.

        All z are asked, the values of a discrete z. Draws would say less: of 1,000 of each datum, which took ten times
        as long as all else of an evaluation, none may have a value that is rare. Where z is continuous, a few of every
        Gaussian that q is made of are asked: there the log-weight is an analytic function of z, which is the same for
        draws of a density only if it is the same for all z.
        """
        target = self.target
        if not target.posterior or target.exact is None:
            return None
        with exact_arithmetic(self.x.device):
            q, log_px = target.q(self.x), target.exact(self.x).double()
            z = self._asked(q)
            log_qz = log_prob_in_double(q, z)
            log_w = target.log_joint(self.x, z) - log_qz
        # a z that the posterior all but excludes may have lost its digits, and no draw would meet it
        met = log_qz > RAREST if target.discrete else torch.ones_like(log_qz, dtype=torch.bool)
        return log_px if torch.allclose(log_w[met], log_px.expand_as(log_w)[met], rtol=EQUAL, atol=EQUAL) else None

    def _asked(self, q: Distribution) -> Float[Tensor, "m b *z"]:
        """Every value of a discrete z; of a continuous one some draws of each component of q, the same every time."""
        if self.target.discrete:
            assert self.target.prior is not None
            z = self.target.prior.enumerate_support().unsqueeze(1)
            return z.expand(len(z), len(self), *z.shape[2:])
        mixture = isinstance(q, MixtureSameFamily)
        with seeding.forked(self.x.device):
            z = draw_seeded(q.component_distribution if mixture else q, ASKED, 0, self.x.device)
        return z.movedim(2, 1).flatten(0, 1) if mixture else z

    def drawn(self, k: int, purpose: str, proposal: Proposal) -> LogWeights:
        """K log-weights of each datum under a proposal, not kept."""
        keys = self.keys.for_purpose(purpose) if purpose else self.keys
        with exact_arithmetic(self.x.device):
            return log_weights(self.target.log_joint, proposal, self.x, keys, k, share=self.share)


def refuse_inconsistent(target: Target, x: Tensor) -> None:
    """Refuse a q of the wrong shape, and one that answers differently when asked again, as dropout makes it.

    Raises:
        UserError: Naming the remedy.
    """
    with exact_arithmetic(x.device), seeding.forked(x.device):
        # a fixed seed: whether q is refused does not change from run to run
        seeding.seed(0, x.device)
        q = target.q(x[:1])
        if q.batch_shape != (1,):
            raise UserError(
                f"q(x) of one datum has batch shape {list(q.batch_shape)} and event shape {list(q.event_shape)}; the "
                "batch shape must be [b]: wrap it in torch.distributions.Independent."
            )
        z = q.sample((2,))
        first, again = (target.log_joint(x[:1], z) - target.q(x[:1]).log_prob(z) for _ in range(2))
    # where the model has no mass the difference may be NaN, both times
    if not torch.allclose(first, again, rtol=1e-4, atol=1e-4, equal_nan=True):
        raise UserError(
            "q or log_joint gives the same z two different values; switch dropout and batch normalisation off, with "
            "module.eval()."
        )


def _check_finite(x: Tensor, index: Tensor, holes: bool) -> None:
    bad = (x.isinf() if holes else ~x.isfinite()).flatten(1).any(1)
    if bad.any():
        what = "an infinite value" if holes else "a NaN or an infinite value"
        raise UserError(f"Row {int(index[bad][0])} of x holds {what}; remove or replace it first.")
