"""The contracts see what they are for: each check refuses a piece with one fault, and says which rule it broke."""

from functools import partial

import pytest
import torch
from pieces import build
from torch import nn
from torch.distributions import Cauchy, Distribution, Independent, Laplace, Normal, OneHotCategorical

from taut.data.base import Data, Splits
from taut.data.mask.base import Mask
from taut.distributions.cells import Cells
from taut.evidence import Evidence, Importance, LogEvidence
from taut.functional.bounds import elbo, iwae
from taut.model.joint import Joint
from taut.model.likelihood.base import Likelihood
from taut.model.networks import MLPEncoder
from taut.model.prior.base import Prior
from taut.model.prior.categorical import Categorical
from taut.model.prior.normal import Normal as NormalPrior
from taut.model.q.base import Posterior
from taut.model.q.diagonal import Diagonal
from taut.objective.base import Objective
from taut.testing import (
    ContractError,
    check_data,
    check_evidence,
    check_likelihood,
    check_mask,
    check_network,
    check_objective,
    check_prior,
    check_q,
)


class Other(Distribution):
    """Samples of one distribution and the density of another."""

    def __init__(self, sampler, density):
        super().__init__(density.batch_shape, density.event_shape, validate_args=False)
        self.sampler, self.density = sampler, density

    has_enumerate_support = property(lambda self: self.density.has_enumerate_support)
    has_rsample = property(lambda self: self.sampler.has_rsample)
    mean = property(lambda self: self.density.mean)

    def rsample(self, sample_shape=()):
        return self.sampler.rsample(sample_shape)

    def sample(self, sample_shape=()):
        return self.sampler.sample(sample_shape)

    def log_prob(self, value):
        return self.density.log_prob(value)

    def enumerate_support(self, expand=True):
        return self.density.enumerate_support(expand)


class Learned(Prior):
    """A Laplace prior without a fault, and what the others spoil."""

    def __init__(self, dim=1):
        super().__init__()
        self.z_shape = (dim,)
        self.log_scale = nn.Parameter(torch.zeros(dim))

    def forward(self):
        return Independent(Laplace(torch.zeros_like(self.log_scale), self.log_scale.exp()), 1)


class HeavyTailed(Learned):
    """Cauchy's distribution, which has no mean; samples of another one than the density where so asked."""

    def __init__(self, dim=1, *, by=0.0, scale=1.0, log_mass=0.0):
        super().__init__(dim)
        self.by, self.scale, self.log_mass = by, scale, log_mass

    def forward(self):
        zero, one = torch.zeros_like(self.log_scale, dtype=torch.float64), self.log_scale.double().exp()
        density = Independent(Cauchy(zero, one), 1)
        log_prob = density.log_prob
        density.log_prob = lambda z: log_prob(z) + self.log_mass
        return Other(Independent(Cauchy(zero + self.by, one * self.scale), 1), density)


class Wide(Learned):
    def forward(self):
        density = super().forward()
        return Other(Independent(Laplace(density.mean, 1.3 * density.base_dist.scale), 1), density)


class Unnormalised(Learned):
    def forward(self):
        density = super().forward()
        density.log_prob = lambda z: Independent.log_prob(density, z) + 0.2
        return density


class Skewed(Categorical):
    def forward(self):
        return Other(OneHotCategorical(torch.tensor([0.2, 0.3, 0.5])), super().forward())


class Batched(Learned):
    def forward(self):
        return super().forward().expand((1,))


class Unused(Learned):
    def __init__(self):
        super().__init__()
        self.further = nn.Parameter(torch.zeros(1))


class Loose(Learned):
    def __init__(self):
        super().__init__()
        self.mean = torch.zeros(1)


BROKEN_PRIORS = {
    "sampler wider than density, one coordinate": (Wide, "samples of p(z) have its density"),
    "sampler wider than density, two coordinates": (partial(Wide, 2), "samples of p(z) have its density"),
    "heavy tails of another middle": (partial(HeavyTailed, by=0.2), "samples of p(z) have its density"),
    "heavy tails of another width": (partial(HeavyTailed, 2, scale=1.4), "samples of p(z) have its density"),
    "heavy tails that integrate to 1.05": (partial(HeavyTailed, log_mass=0.05), "samples of p(z) have its density"),
    "density that integrates to 1.2": (Unnormalised, "samples of p(z) have its density, which is normalised"),
    "frequencies of other categories": (partial(Skewed, 3), "samples of p(z) have its density"),
    "a batch axis": (Batched, "the batch shape of prior(): expected [], got [1]."),
    "a parameter that does nothing": (Unused, "the gradient reaches every parameter (further): expected a gradient"),
    "a tensor that stays behind": (Loose, "tensors are parameters or buffers: expected register_buffer for mean"),
    "too many coordinates": (partial(NormalPrior, 4), "p(z) is small enough for its density to be integrated"),
}


@pytest.mark.parametrize(("make", "sentence"), BROKEN_PRIORS.values(), ids=BROKEN_PRIORS)
def test_a_broken_prior_is_refused(make, sentence):
    with pytest.raises(ContractError) as caught:
        check_prior(make())
    assert str(caught.value).startswith(sentence), caught.value


@pytest.mark.parametrize(
    "make", [Learned, partial(Learned, 3), partial(Categorical, 5), HeavyTailed, partial(HeavyTailed, 3)]
)
def test_a_right_prior_in_single_precision_passes_and_nothing_of_the_caller_changes(make):
    prior, state = make().train(), torch.get_rng_state()
    before = [p.clone() for p in prior.parameters()]
    check_prior(prior)
    assert torch.equal(torch.get_rng_state(), state)
    assert prior.training
    assert all(torch.equal(p, b) and p.grad is None for p, b in zip(prior.parameters(), before, strict=True))


class Own(Posterior):
    """A Gaussian q without a fault, and what the others spoil."""

    def __init__(self):
        super().__init__(build("latent_dim=1", x_shape=(3,))[0], (3,))
        self.net = nn.Linear(3, 1)

    def mean(self, x):
        return self.net(x.nan_to_num(0.0))

    def forward(self, x):
        return Independent(Normal(self.mean(x), 0.5), 1)


class Mates(Own):
    def mean(self, x):
        return super().mean(x) - super().mean(x).mean(0)


class Moody(Own):
    def mean(self, x):
        return super().mean(x) + 0.1 * torch.randn(1)


class Blind(Own):
    def mean(self, x):
        return self.net(x)


class Narrow(Own):
    def forward(self, x):
        return Other(Independent(Normal(self.mean(x), 0.4), 1), super().forward(x))


class Halted(Own):
    def forward(self, x):
        return Other(Independent(Normal(self.mean(x).detach(), 0.5), 1), super().forward(x))


class Unwrapped(Own):
    def forward(self, x):
        return Normal(self.mean(x), 0.5)


BROKEN_Q = {
    "a look at batch mates": (Mates, "q(z | x) does not depend on the batch mates of x"),
    "noise of its own": (Moody, "q(x) is the same each time, in evaluation mode"),
    "missing cells taken for numbers": (Blind, "q(z | x) where cells of x are missing (NaN)"),
    "sampler narrower than density": (Narrow, "samples of q(z | x) have its density"),
    "draws without a gradient": (Halted, "draws are reparameterised where has_rsample is true"),
    "an event axis too few": (Unwrapped, "the batch shape of q(x) for 1 data: expected [1], got [1, 1]."),
}


@pytest.mark.parametrize(("make", "sentence"), BROKEN_Q.values(), ids=BROKEN_Q)
def test_a_broken_q_is_refused(make, sentence):
    check_q(Own())
    with pytest.raises(ContractError) as caught:
        check_q(make())
    assert str(caught.value).startswith(sentence), caught.value


class Counts(Likelihood):
    """A likelihood of counts without a fault, whose distribution the others spoil."""

    is_mass = True

    def __init__(self, kind=torch.distributions.Poisson):
        super().__init__()
        self.x_shape, self.kind, self.net = (3,), kind, nn.Linear(2, 3)

    def forward(self, z):
        return Cells(self.kind(self.net(z.to(self.net.weight)).exp(), validate_args=False), 1)


class Heavy(torch.distributions.Poisson):
    def log_prob(self, value):
        return super().log_prob(value) + 0.1


class Late(torch.distributions.Poisson):
    def sample(self, sample_shape=()):
        return super().sample(sample_shape) + 1


class Crossed(Counts):
    def forward(self, z):
        return super().forward(z - z.mean(0))


class Deaf(Counts):
    def forward(self, z):
        return Independent(self.kind(self.net(z.to(self.net.weight)).exp(), validate_args=False), 1)


BROKEN_LIKELIHOODS = {
    "a mass that does not sum to 1": (partial(Counts, Heavy), "the density of a cell of x, the others missing"),
    "samples off their mean": (partial(Counts, Late), "samples of p(x | z) have its mean"),
    "pairs that depend on the others": (Crossed, "log p(x | z) of a pair is what it is alone"),
    "missing cells taken for numbers": (Deaf, "log p(x | z) where every cell of x is missing (NaN)"),
}


@pytest.mark.parametrize(("make", "sentence"), BROKEN_LIKELIHOODS.values(), ids=BROKEN_LIKELIHOODS)
def test_a_broken_likelihood_is_refused(make, sentence):
    z = torch.randn(4, 5, 2, dtype=torch.float64)
    check_likelihood(Counts(), z)
    with pytest.raises(ContractError) as caught:
        check_likelihood(make(), z)
    assert str(caught.value).startswith(sentence), caught.value


class Plain(Objective):
    """The IWAE bound without a fault, and what the others spoil."""

    def bound(self, log_w):
        return iwae(log_w)

    def surrogate(self, draws):
        return -iwae(draws.tempered_log_w).mean()

    def check(self, joint, q, k, x):
        super().check(joint, q, k, x)
        if not q(x).has_rsample:
            from taut.errors import UserError

            raise UserError("not this one.")


class Lifted(Plain):
    def bound(self, log_w):
        return log_w.max(0).values + (len(log_w) > 1) * 0.5


class Highest(Plain):
    def bound(self, log_w):
        return log_w.max(0).values


class Swapped(Plain):
    def bound(self, log_w):
        return iwae(log_w) + (len(log_w) > 1) * 0.1 * (log_w.mean() - log_w.mean(0))


class Biased(Plain):
    def surrogate(self, draws):
        return -elbo(draws.log_w).mean()


class Scoreless(Plain):
    """The gradient of categories without its score-function term."""

    def check(self, joint, q, k, x):
        Objective.check(self, joint, q, k, x)


class Picky(Plain):
    def check(self, joint, q, k, x):
        from taut.errors import UserError

        raise UserError("no.")


BROKEN_OBJECTIVES = {
    "a bound off by a constant": (Lifted, "under the model's own posterior the bound of 3 samples is log p(x)"),
    "a bound above log p(x)": (Highest, "the mean bound (diagonal q, k = 2): expected log p(x) ="),
    "a bound of batch mates": (Swapped, "the bound of a datum depends on its own log-weights alone"),
    "a biased gradient": (Biased, "the mean gradient of the surrogate is that of the negative mean bound (diagonal"),
    "no score for categories": (
        Scoreless,
        "the mean gradient of the surrogate is that of the negative mean bound (cat",
    ),
    "no model at all": (Picky, "check lets a model pass"),
}


@pytest.mark.parametrize(("make", "sentence"), BROKEN_OBJECTIVES.values(), ids=BROKEN_OBJECTIVES)
def test_a_broken_objective_is_refused(make, sentence):
    with pytest.raises(ContractError) as caught:
        check_objective(make())
    assert str(caught.value).startswith(sentence), caught.value


def test_a_right_objective_passes():
    check_objective(Plain())


class Claim(Evidence):
    """Importance sampling under another label, with another value."""

    name, kind = "claim", "lower"
    lift, seed = 0.0, 0.0

    def estimate(self, rows):
        found = Importance(k=50).estimate(rows)
        noise = self.seed * torch.rand(1).double()
        return LogEvidence(self.name, self.kind, found.value + self.lift + noise, found.variance)


class Above(Claim):
    lift = 2.0


class Certain(Claim):
    kind = "exact"


class Beneath(Claim):
    kind, lift = "upper", -2.0


class Restless(Claim):
    seed = 1e-6


class Stuck(Claim):
    def estimate(self, rows):
        return LogEvidence(self.name, self.kind, rows.x.flatten(1).sum(1).double() - 900, torch.zeros(len(rows.x)))


BROKEN_ESTIMATORS = {
    "a lower bound above": (Above, "what is called a lower bound, less log p(x): expected 0 at most, got"),
    "an estimate called exact": (Certain, "what is called exact is log p(x)"),
    "an upper bound beneath": (Beneath, "what is called an upper bound, less log p(x): expected 0 at least, got"),
    "noise without a seed": (Restless, "an estimator repeats itself for the same seed"),
    "no look at the model": (Stuck, "noise follows the seed"),
}


@pytest.mark.parametrize(("make", "sentence"), BROKEN_ESTIMATORS.values(), ids=BROKEN_ESTIMATORS)
def test_a_broken_estimator_is_refused(make, sentence):
    with pytest.raises(ContractError) as caught:
        check_evidence(make())
    assert str(caught.value).startswith(sentence), caught.value


def test_a_right_estimator_passes():
    check_evidence(Claim())


class Rows(Data):
    """Numbers without a fault, and what the others spoil."""

    name = "rows"

    def load(self):
        rows = torch.arange(60.0).view(20, 3)
        return Splits(rows[:10].clone(), rows[10:15].clone(), rows[15:].clone())


class Seeded(Rows):
    def load(self):
        return Splits(*(rows + self.seed for rows in super().load()))


class Shared(Rows):
    def load(self):
        train, _, test = super().load()
        return Splits(train, train[:5], test)


class Ragged(Rows):
    def load(self):
        train, val, test = super().load()
        return Splits(train, val, test[:, :2].clone())


BROKEN_DATA = {
    "a cut that depends on the seed": (Seeded, "splits do not depend on the seed of a run, but on split_seed"),
    "rows in two splits": (Shared, "splits that differ share no memory"),
    "rows of two shapes": (Ragged, "the shape of a row of the test split: expected [3], got [2]."),
}


@pytest.mark.parametrize(("make", "sentence"), BROKEN_DATA.values(), ids=BROKEN_DATA)
def test_a_broken_data_set_is_refused(make, sentence):
    check_data(Rows)
    with pytest.raises(ContractError) as caught:
        check_data(make)
    assert str(caught.value).startswith(sentence), caught.value


class Every(Mask):
    def draw(self, rows, x_shape, *, seed, stream):
        return torch.ones(rows, *x_shape, dtype=torch.bool)


class Fickle(Mask):
    def draw(self, rows, x_shape, *, seed, stream):
        return torch.rand(rows, *x_shape) < 0.5


class Grey(Mask):
    def draw(self, rows, x_shape, *, seed, stream):
        return torch.ones(rows, *x_shape)


@pytest.mark.parametrize(
    ("mask", "sentence"),
    [(Fickle(), "a mask repeats itself for the same seed and stream"), (Grey(), "the type of a mask: expected")],
)
def test_a_broken_mask_is_refused(mask, sentence):
    check_mask(Every(), (1, 4, 4))
    with pytest.raises(ContractError) as caught:
        check_mask(mask, (1, 4, 4))
    assert str(caught.value).startswith(sentence)


class Lame(nn.Module):
    def __init__(self, x_shape, out):
        super().__init__()
        self.net, self.further = nn.Linear(*x_shape, out), nn.Linear(1, 1)

    def forward(self, x):
        return self.net(x)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (Lame, "the gradient reaches every parameter (module.further.weight)"),
        (lambda x_shape, out: nn.Linear(*x_shape, out + 1), "network.encoder: from [3, 3] the output must have shape"),
    ],
)
def test_a_broken_network_is_refused(make, sentence):
    check_network(partial(MLPEncoder, hidden=(4,), activation="relu"), (3,), 2)
    with pytest.raises(ContractError) as caught:
        check_network(make, (3,), 2)
    assert str(caught.value).startswith(sentence), caught.value


def test_a_q_of_the_package_in_single_precision_passes():
    joint = Joint(NormalPrior(2), Counts())
    check_q(Diagonal(joint, (3,), partial(MLPEncoder, hidden=(4,), activation="tanh")))
