"""A search for modes that q misses, and a lower bound that counts them."""

import math
from dataclasses import replace
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.distributions import Categorical, Distribution, constraints

from taut.errors import UserError
from taut.evidence.base import Evidence, count
from taut.evidence.hmc import Path, Point
from taut.evidence.importance import log_mean
from taut.evidence.log_evidence import Kind, LogEvidence
from taut.evidence.rows import Rows
from taut.evidence.target import Target, innermost
from taut.evidence.weights import Weights
from taut.functional import seeding
from taut.functional.precision import exact_arithmetic, in_double
from taut.model.draws import draw_keyed, draw_seeded

FACTORS = (4.0, 6.0, 8.0, 10.0, 13.0, 16.0)
"""Standard deviations of q, in those of q, at which searches start, in a pair on opposite sides for each."""
GROUPS, IN_GROUP = 8, 8
"""Draws of the prior: a search starts from the best of each group."""
STARTS = 1 + 2 * len(FACTORS) + GROUPS
GRADIENT = 3
"""Cost of a gradient of log p(x, z) in evaluations of it."""
FEWEST, MOST = 5, 60
"""Moves of a search."""
CENTRE = 64
"""Draws of q whose mean is its centre; they are not scored."""
KEPT, APART = 4, 1.5
"""Ends of searches that q is moved to, and their least distance in standard deviations of q."""
PROBE = 0.25
"""Standard deviations of q, on both sides of a maximum, at which its curvature is taken."""
NARROWEST, WIDEST = 0.25, 4.0
"""Widths of a copy in those of q."""
BETWEEN = 5
"""Points between two maxima at which a valley is looked for."""
AROUND = GROUPS * IN_GROUP + (1 + KEPT) * 2 * GRADIENT + KEPT * (1 + BETWEEN)
"""Evaluations before and after the climbs: to choose starts, for curvatures, and of maxima and what lies between."""
VALLEY = 0.1
"""Nats that the deepest of them lies below the lower maximum where there are two modes."""
UNDER = 20.0
"""Times by which the posterior's density exceeds that of q where q misses it."""


class Modes(Evidence):
    r"""Importance sampling from q and from copies of q moved to modes that a search finds; ``missed`` is what q lacks.

    k-hat and Struski's bound are blind to a mode that q never visits. Here searches climb $\log p(x, z)$ from the best
    of 64 draws of the prior and from draws of q spread 4 to 16 times as wide, by gradient steps in units of q's own
    variances that grow where they succeed and shrink where they fail. q is copied to the best ends, each coordinate as
    much wider or narrower as the curvature there says beside that at the mode of q, and fresh draws of the mixture,
    half of them of q, give $\log \frac1K \sum_k w_k$: a lower bound whatever the search found.
    ``missed`` is the share of the posterior's mass that lies beyond a valley of at least 0.1 nats and where the
    posterior is more than 20 times as dense as q: a warning from a tenth on. A search may find nothing: a small share
    proves nothing.

    Args:
        k: Evaluations of log p(x, z) for each datum, a gradient counted as three. Half or more are draws; searches take
            496 or more, also where k is smaller.

    Raises:
        UserError: If k is not an integer >= 1; from ``check``, if z is discrete or has bounds.
    """

    name: ClassVar[str] = "modes"
    kind: ClassVar[Kind] = "lower"

    def __init__(self, k: int = 1000) -> None:
        self.k = count("evidence.modes.k", k)

    @property
    def cost(self) -> float:
        return float(self.draws + self.searches)

    @property
    def searches(self) -> int:
        """Evaluations that searches take."""
        return AROUND + (self.moves + 1) * STARTS * GRADIENT

    @property
    def moves(self) -> int:
        """Moves of each search: with all else they take half of the evaluations."""
        return min(MOST, max(FEWEST, int((self.k / 2 - AROUND) / (STARTS * GRADIENT)) - 1))

    @property
    def draws(self) -> int:
        """Fresh draws: what searches leave, and half at least."""
        return max((self.k + 1) // 2, self.k - self.searches)

    def check(self, target: Target) -> None:
        super().check(target)
        if target.discrete or (target.prior is not None and not _free(target.prior)):
            raise UserError(
                "evidence=modes moves q about, so z must be real numbers without bounds; use evidence=exact, or "
                "importance and struski."
            )

    def estimate(self, rows: Rows) -> LogEvidence:
        with exact_arithmetic(rows.x.device):
            copies, apart = self._searched(rows)
        log_w = torch.zeros((self.draws, len(rows)), dtype=torch.float64, device=rows.x.device)
        excess, beyond = torch.zeros_like(log_w), torch.zeros_like(log_w, dtype=torch.bool)

        def proposal(some: slice) -> WithCopies:
            return WithCopies(rows.q(some), copies.of(some))

        with exact_arithmetic(rows.x.device), seeding.forked(rows.x.device):
            for drawn in draw_keyed(proposal, rows.keys.for_purpose("modes/draws"), self.draws):
                at = (drawn.samples, drawn.rows)
                log_w[at] = drawn.log_weights(rows.target.log_joint, rows.x)
                densities = in_double(proposal(drawn.rows)).parts(drawn.z.double())
                excess[at] = log_w[at] + drawn.log_qz - densities[0]
                others = torch.where(apart[:, None, drawn.rows], densities[1:], -torch.inf)
                beyond[at] = others.amax(0) - densities[0] > math.log(UNDER)
            rows.tick(1.0)
        weights = Weights(log_w)
        missed = (weights.share * (beyond & (excess - weights.iwae > math.log(UNDER)))).sum(0)
        found = log_mean(self, weights)
        return replace(found, diagnostics=found.diagnostics | {"missed": missed})

    def _searched(self, rows: Rows) -> tuple["Copies", Bool[Tensor, "j b"]]:
        """Copies of q at the best ends of searches, and whether a valley lies between each and the mode of q."""
        starts, centre = self._starts(rows)
        path = Path(lambda z: rows.target.log_joint(rows.x, z), rows.q(slice(0, len(rows))), constraints.real_vector)
        scale = path.scale()
        ends = climbed(path, starts, scale, self.moves)
        rows.tick(0.5)
        heights, z = distinct(ends, scale)
        own = (ends.u[0], ends.log_joint[0].double())
        curved, pull = curvature(path, torch.cat([own[0].unsqueeze(0), z]), PROBE * scale * _signs(rows, scale))
        heights, z = newton(path, heights, z, pull[1:], curved[1:])
        # NaN where one of them is no maximum: there the copy is as wide as q
        widths = (curved[:1] / curved[1:]).sqrt().nan_to_num(1.0, 1.0, 1.0).clamp(NARROWEST, WIDEST)
        # tempered, because neither the highest peak nor what its curvature makes of it need hold the most mass
        logits = (heights + widths.log().flatten(2).sum(2)) / 2
        shares = torch.arange(1, BETWEEN + 1, dtype=z.dtype, device=z.device) / (BETWEEN + 1)
        inside = (own[0] + shares.view(-1, *[1] * z.dim()) * (z - own[0])).flatten(0, 1)
        lowest = rows.target.log_joint(rows.x, inside).double().view(BETWEEN, KEPT, -1).amin(0)
        apart = torch.minimum(heights, own[1]) - lowest > VALLEY
        return Copies(centre, z, widths, logits.log_softmax(0)), apart

    def _starts(self, rows: Rows) -> tuple[Tensor, Tensor]:
        """Where searches start, ``[m, b, *z]``, the densest draw of q first; and the centre of q."""
        found, centres = [], []
        keys = rows.keys.for_purpose("modes/starts")
        with seeding.forked(rows.x.device):
            for i, seed in enumerate(keys.seeds()):
                q = rows.q(slice(i, i + 1))
                z = draw_seeded(q, CENTRE + len(FACTORS), seed, rows.x.device)
                # where q is densest, because some draw might lie on the slope of the mode that q misses
                own = z[q.log_prob(z).argmax(0)]
                centre = z.mean(0)
                factors = torch.tensor(FACTORS, dtype=z.dtype, device=z.device).view(-1, *[1] * (z.dim() - 1))
                wide = factors * (z[CENTRE:] - centre)
                found.append(torch.cat([own, centre + wide, centre - wide]))
                centres.append(centre)
            prior = rows.target.prior
            if prior is not None:
                # the same draws for every datum: what differs is which of them suit it
                draws = draw_seeded(prior, GROUPS * IN_GROUP, seeding.key(keys.seed, "modes/prior", 0), rows.x.device)
        z = torch.cat(found, 1)
        if prior is not None:
            draws = draws.to(z).unsqueeze(1).expand(-1, len(rows), *draws.shape[1:])
            heights = rows.target.log_joint(rows.x, draws).double().nan_to_num(-torch.inf)
            best = heights.unflatten(0, (GROUPS, IN_GROUP)).argmax(1)
            first = torch.arange(0, GROUPS * IN_GROUP, IN_GROUP, device=best.device).unsqueeze(1)
            z = torch.cat([z, draws[first + best, torch.arange(len(rows), device=best.device)]])
        return z, torch.cat(centres)


def climbed(path: Path, start: Float[Tensor, "m b *z"], scale: Tensor, moves: int) -> Point:
    """Gradient ascent in units of ``scale``: a step is halved twice where it fails and grows by half where it succeeds.

    Where the posterior is as wide as q says, the first step ends on the maximum of a Gaussian.
    """
    point = path.at(start)
    step = torch.ones_like(point.log_joint)
    for _ in range(moves):
        stride = step.view(*step.shape, *[1] * (start.dim() - 2)) * scale.square()
        tried = path.at(point.u + stride * point.pull_joint)
        # false for NaN: a climb that left the world goes back
        better = tried.log_joint > point.log_joint
        point = tried.where(better, point)
        step = step * torch.where(better, 1.5, 0.25)
    return point


def distinct(ends: Point, scale: Tensor) -> tuple[Float[Tensor, "j b"], Tensor]:
    """The highest end, the highest of those apart from it, and so on: their heights, -inf where there is no other."""
    # where a climb was lost the density may be NaN
    left = ends.log_joint.double().nan_to_num(-torch.inf)
    at = torch.arange(left.shape[1], device=left.device)
    heights, places = [], []
    for _ in range(KEPT):
        best = left.argmax(0)
        heights.append(left[best, at])
        places.append(ends.u[best, at])
        distance = ((ends.u - places[-1]) / scale).flatten(2).square().sum(2).sqrt()
        left = torch.where(distance > APART, left, -torch.inf)
    return torch.stack(heights), torch.stack(places)


def curvature(path: Path, at: Float[Tensor, "j b *z"], step: Tensor) -> tuple[Tensor, Tensor]:
    r"""Diagonal of $-\nabla^2 \log p(x, z)$ and the gradient, by differences of gradients at z + step and z - step.

    With steps of random signs the other entries of the matrix cancel on average (Bekas, Kokiopoulou & Saad, 2007).
    """
    ahead, behind = path.at(torch.cat([at + step, at - step])).pull_joint.chunk(2)
    return (behind - ahead) / (2 * step), (behind + ahead) / 2


def newton(path: Path, heights: Tensor, z: Tensor, pull: Tensor, curved: Tensor) -> tuple[Tensor, Tensor]:
    """Ends of climbs and their heights after one more step, with the curvature, where that is higher."""
    # a climb that ran out of moves is still on the slope, where a copy would miss the summit
    tried = z + torch.where(curved > 0, pull / curved, 0.0)
    there = path.log_joint(tried).double()
    # false for NaN, and for the -inf of an end that is none
    higher = (there > heights) & heights.isfinite()
    return torch.where(higher, there, heights), torch.where(higher.view(*higher.shape, *[1] * (z.dim() - 2)), tried, z)


class Copies(NamedTuple):
    """Copies of q at other places.

    Args:
        centre: Mean of q, ``[b, *z]``.
        places: Means of the copies.
        widths: Theirs in that of q, along each coordinate.
        logits: Logs of their shares.
    """

    centre: Float[Tensor, "b *z"]
    places: Float[Tensor, "j b *z"]
    widths: Float[Tensor, "j b *z"]
    logits: Float[Tensor, "j b"]

    def of(self, some: slice) -> "Copies":
        """Those of some of the data."""
        return Copies(self.centre[some], self.places[:, some], self.widths[:, some], self.logits[:, some])


class WithCopies(Distribution):
    """Half of the mass as q has it, half in copies of q.

    Args:
        q: Batch ``(b,)``.
        copies: Where they are, and how wide.
    """

    arg_constraints: dict[str, constraints.Constraint] = {}  # noqa: RUF012 (a property in torch's stub)

    def __init__(self, q: Distribution, copies: Copies) -> None:
        super().__init__(q.batch_shape, q.event_shape, validate_args=False)
        self.q, self.copies = q, copies

    def parts(self, z: Float[Tensor, "n b *z"]) -> Float[Tensor, "parts n b"]:
        """Log-densities of q, then of each copy."""
        centre, places, widths, _ = self.copies
        found = [self.q.log_prob(z)]
        for place, width in zip(places, widths, strict=True):
            back = centre + (z - place) / width
            found.append(self.q.log_prob(back) - width.log().flatten(1).sum(1))
        return torch.stack(found)

    def log_prob(self, value: Tensor) -> Tensor:
        densities = self.parts(value)
        copies = (densities[1:] + self.copies.logits.unsqueeze(1)).logsumexp(0)
        return torch.logaddexp(densities[0], copies) - math.log(2)

    def sample(self, sample_shape: torch.Size | tuple[int, ...] = ()) -> Tensor:
        shape = torch.Size(sample_shape)
        z = self.q.sample(shape)
        centre, places, widths, logits = self.copies
        chosen = Categorical(logits=logits.mT, validate_args=False).sample(shape)
        row = torch.arange(len(centre), device=z.device)
        own = torch.rand(chosen.shape, device=z.device) < 0.5
        moved = places[chosen, row] + widths[chosen, row] * (z - centre)
        return torch.where(own.view(*own.shape, *[1] * len(self.event_shape)), z, moved)


def _signs(rows: Rows, scale: Tensor) -> Tensor:
    """Plus or minus one for each coordinate of z, the same for every datum."""
    generator = torch.Generator().manual_seed(seeding.key(rows.keys.seed, "modes/signs", 0))
    return (torch.randint(0, 2, scale.shape[1:], generator=generator) * 2 - 1).to(scale)


def _free(prior: Distribution) -> bool:
    return prior.support is not None and innermost(prior.support) in (constraints.real, constraints.real_vector)
