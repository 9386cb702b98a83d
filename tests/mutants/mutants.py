"""Bugs seeded on purpose: the classics of this field, and where each would hide. Every one must make a test fail."""

from typing import NamedTuple


class Mutant(NamedTuple):
    """A bug: what it is, the file, the text it replaces (found exactly once), and the tests that must see it."""

    name: str
    file: str
    old: str
    new: str
    tests: str


BOUNDS = "tests/core/test_bounds.py"
OBJECTIVES = "tests/contract/test_objectives.py"
PIECES = "tests/contract/test_pieces.py"
ORACLE = "tests/core/test_oracle.py"
EM = "tests/core/test_em.py"
EVALUATION = "tests/core/test_evaluation.py"
METRICS = "tests/core/test_metrics.py"
NOISE = "tests/core/test_noise.py"

MUTANTS = [
    Mutant(
        "missing log K",
        "bounds.py",
        "return log_sum_exp(log_w) - torch.tensor(log_w.shape[0], dtype=log_w.dtype, device=log_w.device).log()",
        "return log_sum_exp(log_w)",
        BOUNDS,
    ),
    Mutant(
        "log K of the batch axis",
        "bounds.py",
        "torch.tensor(log_w.shape[0], dtype",
        "torch.tensor(log_w.shape[-1], dtype",
        BOUNDS,
    ),
    Mutant(
        "mean of logs for log of mean", "bounds.py", "return log_mean_exp(log_w)\n", "return log_w.mean(0)\n", BOUNDS
    ),
    Mutant("shift by the minimum", "bounds.py", "log_w.detach().amax(0)", "log_w.detach().amin(0)", BOUNDS),
    Mutant("NaN from zero weights", "bounds.py", "torch.where(shift.isfinite(), shift, 0.0)", "shift", BOUNDS),
    Mutant(
        "blocks across data",
        "bounds.py",
        "log_w.unflatten(0, (-1, k)).transpose(0, 1)",
        "log_w.unflatten(0, (k, -1)).transpose(0, 1)",
        BOUNDS,
    ),
    Mutant(
        "ESS without the square",
        "bounds.py",
        "normalised_weights(log_w).square().sum(0)",
        "normalised_weights(log_w).sum(0)",
        BOUNDS,
    ),
    Mutant("seeds that collide", "noise.py", "_MASK = 0xFFFFFFFF", "_MASK = 0xFFFF", NOISE),
    Mutant("training moved by a score", "evaluation.py", "with noise.forked(x.device):", "if True:", EVALUATION),
    Mutant("one noise for all data", "evaluation.py", "row * len(starts) + block", "block", EVALUATION),
    Mutant("one noise for all blocks", "evaluation.py", "row * len(starts) + block", "row * len(starts)", EVALUATION),
    Mutant(
        "noise by place in the chunk",
        "evaluation.py",
        "for row in index]",
        "for row in range(len(index))]",
        EVALUATION,
    ),
    Mutant(
        "posterior mean for a sample",
        "evaluation.py",
        "return distribution.sample((size,))",
        "return distribution.mean.expand(size, *distribution.mean.shape)",
        EVALUATION,
    ),
    Mutant(
        "log-weights in single precision",
        "evaluation.py",
        "x.new_empty((3, k, len(x)), dtype=torch.float64)",
        "x.new_empty((3, k, len(x)), dtype=torch.float32)",
        EVALUATION,
    ),
    Mutant(
        "TF32 left on",
        "evaluation.py",
        "torch.autocast(device.type, enabled=False)",
        "torch.autocast(device.type, enabled=True)",
        EVALUATION,
    ),
    Mutant(
        "stated error of one draw",
        "evaluation.py",
        "values.var(0) / len(values)",
        "values.var(0)",
        EVALUATION + "::test_stated_monte_carlo_error_is_the_spread_of_repetitions",
    ),
    Mutant("q scored twice", "joint.py", "log_pz=prior.log_prob(z),", "log_pz=posterior.log_prob(z),", ORACLE),
    Mutant(
        "STL keeps the score of q",
        "joint.py",
        "value.detach() for name",
        "value for name",
        OBJECTIVES + "::test_path_gradients_of_q_vanish_at_the_posterior_for_every_draw",
    ),
    Mutant(
        "path through a detached sample",
        "joint.py",
        "z = posterior.rsample((k,)) if",
        "z = posterior.sample((k,)) if",
        OBJECTIVES,
    ),
    Mutant(
        "double KL",
        "objective/elbo.py",
        "draws.kl_weight * divergence",
        "2 * divergence",
        OBJECTIVES + "::test_mean_gradient_is_the_exact_one_where_draws_are_reparameterised",
    ),
    Mutant(
        "KL the wrong way round",
        "objective/elbo.py",
        "gaussian_kl(draws.q, draws.prior)",
        "gaussian_kl(draws.prior, draws.q)",
        OBJECTIVES + "::test_mean_gradient_is_the_exact_one_where_draws_are_reparameterised",
    ),
    Mutant(
        "warm-up in the reported bound",
        "types.py",
        "return self.log_px + self.log_pz - self.log_qz",
        "return self.tempered_log_w",
        OBJECTIVES + "::test_kl_weight_touches_the_surrogate_and_never_the_bound",
    ),
    Mutant(
        "DReG without the second weight",
        "objective/dreg.py",
        "gradient * event",
        "gradient",
        OBJECTIVES + "::test_mean_gradient_is_the_exact_one_where_draws_are_reparameterised",
    ),
    Mutant(
        "DReG weights that learn",
        "objective/dreg.py",
        "normalised_weights(log_w.detach())",
        "normalised_weights(log_w)",
        OBJECTIVES + "::test_mean_gradient_is_the_exact_one_where_draws_are_reparameterised",
    ),
    Mutant(
        "VIMCO signal that learns",
        "objective/base.py",
        "(signal - baseline).detach()",
        "(signal - baseline)",
        OBJECTIVES + "::test_mean_gradient_is_the_exact_one_for_categories",
    ),
    Mutant(
        "VIMCO without its score",
        "objective/vimco.py",
        "return leave_one_out(iwae(log_w).expand_as(log_w), baseline, log_qz)",
        "return 0 * log_qz.sum(0)",
        OBJECTIVES + "::test_mean_gradient_is_the_exact_one_for_categories",
    ),
    Mutant(
        "baseline that includes itself",
        "objective/base.py",
        "(values.sum(0) - values) / (k - 1)",
        "values.mean(0) + 0 * values / (k - 1)",
        OBJECTIVES + "::test_mean_of_others_leaves_one_out",
    ),
    Mutant("2 pi forgotten", "likelihood/component.py", "log_det + 0.5 * x.shape[-1] * log(2 * pi)", "log_det", ORACLE),
    Mutant("log-determinant of the wrong sign", "likelihood/component.py", "- constant", "+ constant", ORACLE),
    Mutant(
        "standard deviation for variance",
        "likelihood/gaussian.py",
        "(self.min_variance + log_variance.clamp(max=15.0).exp()).sqrt()",
        "(self.min_variance + log_variance.clamp(max=15.0).exp())",
        PIECES + "::test_gaussian_variance_is_what_it_says",
    ),
    Mutant("weights of the mixture forgotten", "oracle.py", "prior.logits.unsqueeze(-1) + joint", "joint", ORACLE),
    Mutant(
        "posterior without the prior", "oracle.py", "torch.linalg.inv(covariances) + likelihood", "likelihood", ORACLE
    ),
    Mutant("M-step without the mean", "likelihood/component.py", ' - torch.einsum("ci,cj->cij", means, means)', "", EM),
    Mutant(
        "M-step that forgets the weights",
        "prior/categorical.py",
        "(counts / counts.sum())",
        "(torch.ones_like(counts))",
        EM + "::test_em_from_the_same_start_ends_where_scikit_learn_does",
    ),
    Mutant(
        "PPCA noise over n rows only",
        "likelihood/linear.py",
        "residual / (n * len(x))",
        "residual / n",
        EM + "::test_em_of_ppca_reaches_the_closed_form_optimum",
    ),
    Mutant(
        "offset not started at the data",
        "likelihood/bernoulli.py",
        "self.offset.copy_(",
        "self.offset.clone().copy_(",
        PIECES + "::test_bernoulli_starts_at_the_data_mean",
    ),
    Mutant(
        "mean of batch means", "metrics.py", "self.sums += values.sum(1)", "self.sums += values.mean(1) * 3.5", METRICS
    ),
    Mutant(
        "NaN averaged away",
        "metrics.py",
        "bad = (~values.isfinite()).any(0)",
        "values = values.nan_to_num(); bad = values.isnan().any(0)",
        METRICS,
    ),
    Mutant(
        "standard deviation for standard error",
        "metrics.py",
        "return (variance / count).sqrt()",
        "return variance.sqrt()",
        METRICS,
    ),
    Mutant(
        "units active by deviation",
        "metrics.py",
        "active = (variance > ACTIVE).sum()",
        "active = (variance > ACTIVE**2).sum()",
        METRICS,
    ),
]
