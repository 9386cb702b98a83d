"""The value of a datum depends on the datum: not on its company, the chunks, the processes or the caller's settings."""

import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from evidence.models import bernoulli_mixture, steep
from pieces import X, build
from torch import multiprocessing as mp
from torch.distributions import Independent, Normal

from taut.errors import UserError
from taut.evidence import AIS, BDMC, UK, Exact, Importance, Jackknife, Naive, Rows, Struski, Sumo, Target, Uniform
from taut.evidence.base import count
from taut.evidence.gap import decompose
from taut.evidence.optimal_q import Family, Search
from taut.functional import bounds, precision, sampling, seeding
from taut.testing import linear_gaussian

pytestmark = pytest.mark.usefixtures("float64")

ALL = [
    Importance(600),
    Naive(30),
    Uniform(30),
    Jackknife(30),
    Jackknife(12, 2),
    Sumo(5),
    Struski(30),
    AIS(4, 3, 2),
    UK(30),
    BDMC(4, 3, 2),
    Exact(),
]


@pytest.mark.parametrize("estimator", ALL, ids=lambda one: one.name)
def test_a_datum_has_one_value(estimator, monkeypatch):
    target, x, z, _ = linear_gaussian(2, 4, 7)
    index = torch.tensor([4, 9, 0, 11, 2, 6, 30])
    z = z if estimator.simulated else None
    together = estimator(target, x, index, z=z).value
    for i in (0, 3, 6):
        one = slice(i, i + 1)
        alone = estimator(target, x[one], index[one], z=None if z is None else z[one]).value
        torch.testing.assert_close(alone[0], together[i], rtol=1e-12, atol=1e-12)
    order = torch.tensor([6, 2, 0, 1, 5, 3, 4])
    shuffled = estimator(target, x[order], index[order], z=None if z is None else z[order]).value
    torch.testing.assert_close(shuffled, together[order], rtol=1e-12, atol=1e-12)
    monkeypatch.setitem(sampling.CHUNK_SIZE, "cpu", 5)
    monkeypatch.setattr("taut.evidence.annealing.AT_ONCE", {"cpu": 3})
    monkeypatch.setattr("taut.evidence.rows.MOST_WEIGHTS", 50)
    chunked = estimator(target, x, index, z=z).value
    torch.testing.assert_close(chunked, together, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("estimator", [AIS(80), BDMC(80)], ids=lambda one: one.name)
def test_annealing_amplifies_no_rounding(trainings, estimator, monkeypatch):
    """On a steep decoder HMC makes nats out of the last bit: the calls that hold a datum always have one shape."""
    target = steep()
    with torch.random.fork_rng():
        torch.manual_seed(2)
        z, x = target.simulate(19)

    def values(*some: int) -> torch.Tensor:
        index = torch.tensor(some)
        return estimator(target, x[index], index, z=z[index] if estimator.simulated else None).value

    together = values(*range(19))
    for some in ((18,), (17, 3, 9, 0, 11)):
        torch.testing.assert_close(values(*some), together[list(some)], rtol=1e-12, atol=0)
    monkeypatch.setattr("taut.evidence.rows.MOST_WEIGHTS", 5)
    torch.testing.assert_close(values(*range(4, 14)), together[4:14], rtol=1e-12, atol=0)


def test_the_split_of_a_datum_is_its_own():
    target, x, _, _ = linear_gaussian(2, 4, 5)
    family = _family(x)
    search = Search(steps=20, samples=4)
    together = decompose(Rows(target, x), family, search, 50)
    alone = decompose(Rows(target, x[3:4], torch.tensor([3])), family, search, 50)
    for name in ("elbo", "best", "apart"):
        torch.testing.assert_close(getattr(alone, name)[0], getattr(together, name)[3], rtol=1e-10, atol=1e-10)


def _family(x):
    return Family(
        lambda p: Independent(Normal(p[:, :2], p[:, 2:].exp()), 1), lambda x: torch.cat([x[:, :2], 0 * x[:, :2] - 1], 1)
    )


@pytest.mark.parametrize("estimator", [one for one in ALL if one.name != "exact"], ids=lambda one: one.name)
def test_settings_of_the_caller_change_no_bit(estimator):
    joint, q, _ = build()
    joint.float(), q.float()
    target = Target.of(joint, q)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        z, x = target.simulate(3)
    z = z if estimator.simulated else None
    quiet = estimator(target, x, z=z).value
    torch.manual_seed(99)
    torch.set_float32_matmul_precision("medium")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loud = estimator(target, x, z=z).value
    state = torch.get_rng_state()
    torch.manual_seed(99)
    assert torch.equal(torch.get_rng_state(), state), "the caller's generator was moved"
    assert torch.get_float32_matmul_precision() == "medium"
    torch.set_float32_matmul_precision("highest")
    assert torch.equal(quiet, loud)


PRECISIONS = {
    "everything tf32": (torch.backends, "tf32"),
    "everything bf16": (torch.backends, "bf16"),
    "products on a GPU": (torch.backends.cuda.matmul, "tf32"),
    "products on the CPU": (torch.backends.mkldnn.matmul, "bf16"),
    "convolutions on the CPU": (torch.backends.mkldnn.conv, "bf16"),
    "convolutions unlike recurrences": (torch.backends.cudnn.conv, "ieee"),
}


def _precisions():
    return [part.fp32_precision for part in precision.PRECISIONS]


@pytest.mark.parametrize(("part", "value"), PRECISIONS.values(), ids=PRECISIONS)
def test_the_newer_precision_settings_change_no_bit(part, value):
    """``fp32_precision`` beside ``set_float32_matmul_precision``, which cannot even be read where they contradict."""
    generator = torch.Generator().manual_seed(0)
    wide, rows = (torch.randn(n, 256, generator=generator, dtype=torch.float32) for n in (256, 3))
    inside = []

    def log_joint(x, z):
        inside.append(_precisions())
        assert (torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark) == (True, False)
        return -(z @ wide).square().sum(-1) / 1e5

    target = Target(log_joint, lambda x: Independent(Normal(x, 1.0), 1))
    quiet = Importance(600)(target, rows).value
    usual, own = _precisions(), part.fp32_precision
    part.fp32_precision = value
    try:
        before = _precisions()
        loud = Importance(600)(target, rows).value
        after = _precisions()
    finally:
        part.fp32_precision = own
    assert torch.equal(quiet, loud)
    assert {one for seen in inside for one in seen} <= {"ieee", "none"}
    assert after == before
    assert _precisions() == usual, "what followed another setting follows it no more"


@pytest.mark.parametrize("k", [1, 7, 512, 513])
def test_exactly_k_samples_are_used(k):
    known = linear_gaussian(2, 4, 3)
    seen = torch.zeros(3, dtype=torch.long)

    def counted(x, z):
        for i, row in enumerate(known.x):
            seen[i] += z.shape[0] * int((x == row).all(1).sum())
        return known.target.log_joint(x, z)

    found = Importance(k).estimate(Rows(Target(counted, known.target.q), known.x))
    assert seen.tolist() == [k] * 3
    assert found.k == k
    assert found.curve is not None
    torch.testing.assert_close(found.curve[-1], found.value)


def test_blocks_of_one_tensor_never_lose_by_growing():
    """10,000 adversarial columns: ties, zero weights, spreads of ten thousand nats."""
    generator = torch.Generator().manual_seed(8)
    log_w = torch.randn(64, 10_000, generator=generator) * torch.logspace(-3, 4, 10_000)
    log_w[:, ::7] = log_w[:, ::7].round()
    log_w[torch.rand(log_w.shape, generator=generator) < 0.02] = -torch.inf
    log_w[:, ::501] = -torch.inf
    log_w[:, 1::503] = 3.0
    curve = torch.stack([bounds.block_bound(log_w, 2**i) for i in range(7)])
    rounding = 1e-13 * (1 + log_w.abs().nan_to_num(posinf=0).amax(0))
    for fewer, more in pairwise(curve):
        assert not fewer.isnan().any()
        assert ((more >= fewer - rounding) | (fewer == more)).all()


WORLD = [(2, "data"), (3, "data"), (2, "samples"), (3, "samples")]


def _evaluate(rank: int, world: int, divide: str, place: str) -> None:
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{place}.store", rank=rank, world_size=world)
    if rank == 0:
        torch.save(_measured(rank, world, divide), f"{place}.pt")
    else:
        _measured(rank, world, divide)
    torch.distributed.destroy_process_group()


def _measured(rank: int, world: int, divide: str) -> list[torch.Tensor]:
    from taut.evidence.loop import EvalTask, measure, measure_information
    from taut.runtime.processes import Processes
    from taut.runtime.progress import Stages

    target, x, _, _ = linear_gaussian(2, 4, 7)
    estimators = [Importance(1100), Jackknife(1100), Struski(1100), AIS(3, 2, 2), Sumo(4), Naive(40)]
    processes = Processes(rank, world, torch.device("cpu"), divide)  # type: ignore[arg-type]
    stage = Stages(shown=False).stage("test", 7)
    question = EvalTask(target, x, "test", 0, 1100)
    answer = measure(question, estimators, processes, stage)
    information = measure_information(question, processes, stage)
    told = list(vars(information).values())
    return [answer.elbo.value, *[one.value for one in answer.evidence], answer.thermodynamic[5], *told]


def test_one_two_and_three_processes_agree(tmp_path):
    """Data or samples divided among them: IWAE-K of all samples, not the mean of the processes' own."""
    expected = _measured(0, 1, "data")
    context = mp.get_context("fork")
    for world, divide in WORLD:
        place = str(tmp_path / f"{world}{divide}")
        processes = [context.Process(target=_evaluate, args=(rank, world, divide, place)) for rank in range(world)]
        for process in processes:
            process.start()
        for process in processes:
            process.join(120)
            assert process.exitcode == 0
        for one, other in zip(expected, torch.load(f"{place}.pt", weights_only=True), strict=True):
            torch.testing.assert_close(other, one, rtol=1e-12, atol=1e-12)


def test_a_datum_with_a_nan_is_named():
    target, x, _, _ = linear_gaussian(2, 4, 3)
    x[1, 2] = torch.nan
    with pytest.raises(UserError, match="Row 12 of x"):
        Importance(5)(target, x, torch.tensor([11, 12, 13]))


@pytest.mark.parametrize("k", [0, -1, 1.5, "10", True])
def test_a_number_of_samples_is_a_count(k):
    with pytest.raises(UserError, match=r"evidence.importance.k must be an integer >= 1, got "):
        count("evidence.importance.k", k)
    if type(k) is int:
        for instantiate in (Importance, Naive, Uniform, UK, Jackknife, Struski):
            with pytest.raises(UserError, match=r"must be an integer >= [12], got"):
                instantiate(k)
        for annealing in (AIS, BDMC):
            with pytest.raises(UserError, match=r"must be an integer >= [12], got"):
                annealing(steps=k)


def test_gradients_do_not_fit_a_category():
    target = bernoulli_mixture().target
    with pytest.raises(UserError, match="z is a category here; use evidence=exact"):
        AIS(2).check(target)
    with pytest.raises(UserError, match="needs data simulated"):
        UK(3).check(Target(target.log_joint, target.q))
    with pytest.raises(UserError, match="needs the z they came from"):
        UK(3)(target, torch.zeros(1, 4))


MEMORY = """
import resource, torch
from torch import nn
from torch.distributions import Independent, Normal
from taut.evidence import Importance, Target
from taut.model.likelihood.bernoulli import Bernoulli
torch.set_num_threads(1)
likelihood = Bernoulli((784,), 10, lambda i, o: nn.Linear(i, o[0])).requires_grad_(False)
prior = Independent(Normal(torch.zeros(10), 1.0), 1)
target = Target(lambda x, z: prior.log_prob(z) + likelihood(z).log_prob(x), lambda x: prior.expand((len(x),)), prior)
x = (torch.rand(150, 784) < 0.2).float()
Importance(10)(target, x)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
Importance(1_000_000)(target, x[:1])
Importance(5000)(target, x)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**20)
"""


def test_memory_stays_under_a_gibibyte(programs):
    """K = 10^6 for one image, and K = 5000 for many."""
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, timeout=300, cwd=root)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 1


def test_noise_of_different_purposes_is_different():
    target, x, _, _ = linear_gaussian(2, 4, 2)
    rows = Rows(target, x)
    assert not torch.equal(rows.weights(8).log_w, rows.drawn(8, "other", rows.q))
    assert rows.weights(8) is rows.weights(8)
    keys = sampling.NoiseKeys(torch.arange(3), 0, "x")
    assert keys.for_purpose("a").seeds() != keys.for_purpose("b").seeds()
    assert seeding.key(0, "x", 1) == keys.seeds()[1]


def test_importance_repeats_the_scores_of_training():
    """The same samples as the table at the end of a run: same seed, split, row and K."""
    from taut.evidence.score import score

    joint, q, objective = build("objective=iwae")
    x = torch.randint(2, (4, *X)).double()
    index = torch.arange(4)
    scores = score(joint, q, x, index, bound=objective.bound, k=5, samples=600, seed=3, split="test")
    found = Importance(600)(Target.of(joint, q), x, index, seed=3, split="test")
    torch.testing.assert_close(found.value, scores.values["log_px"].detach(), rtol=1e-13, atol=1e-12)


def test_a_log_joint_of_another_shape_is_refused():
    """Summed over the wrong axis it would be broadcast into a number."""
    target, x, _, _ = linear_gaussian(2, 4, 3)
    wrong = Target(lambda x, z: target.log_joint(x, z).sum(0), target.q)
    with pytest.raises(UserError, match=r"log_joint\(x, z\) has shape \[3\]"):
        Importance(5).estimate(Rows(wrong, x))
    loose = Target(target.log_joint, lambda x: target.q(x).base_dist)
    with pytest.raises(UserError, match="wrap it in torch"):
        Importance(5)(loose, x)


def test_a_model_that_answers_differently_is_refused():
    """Dropout in the encoder: z drawn from one q and weighed by another is no bound."""
    target, x, _, _ = linear_gaussian(2, 4, 3)
    noisy = Target(target.log_joint, lambda x: target.q(torch.dropout(x, 0.5, True)), target.prior)
    with pytest.raises(UserError, match=r"switch dropout .* off"):
        Importance(5)(noisy, x)


def test_a_model_without_a_gradient_is_refused_where_one_is_needed():
    target, x, _, _ = linear_gaussian(2, 4, 3)
    cut = Target(lambda x, z: target.log_joint(x, z.detach()), target.q, target.prior)
    with pytest.raises(UserError, match="passes no gradient"):
        AIS(2, 2, 2)(cut, x)
    with pytest.raises(UserError, match="passes no gradient"):
        decompose(Rows(cut, x), _family(x), Search(8, 2), 10)
