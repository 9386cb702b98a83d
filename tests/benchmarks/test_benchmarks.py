"""Every benchmark runs once, tiny, and its candidates compute the same number."""

import os
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from benchmarks import (
    bracket,
    evaluate,
    families,
    imputation,
    mixture,
    modes,
    published_imputation,
    startup,
    threads,
    to_bound,
    tolerance,
    train,
    variance,
    work,
)
from benchmarks.candidates import command, floor, ours, plain
from benchmarks.rounds import Block, Candidate, interleave, summarise, workers
from taut.model.draws import draw
from taut.objective.iwae import Iwae
from taut.runtime.launch import keep_freed_pages
from taut.testing import linear_gaussian

K, IMAGES = 7, 6


@pytest.fixture
def given(monkeypatch):
    """Weights some way from the start, images and noise."""
    monkeypatch.delenv("TAUT_DATA", raising=False)
    rng = np.random.default_rng(3)
    weights = [w + 0.05 * rng.standard_normal(w.shape, dtype=np.float32) for w in work.weights()]
    return weights, work.binary("test", IMAGES), work.noise(K, IMAGES)


def by_torch(parameters, bound):
    """Bound of each image, and gradient of their mean."""
    return bound.detach().double().numpy(), [g.numpy() for g in torch.autograd.grad(bound.mean(), parameters)]


def exact(weights, x, noise):
    net = plain.Net(weights).double()
    return by_torch(list(net.parameters()), net.bound(torch.tensor(x).double(), torch.tensor(noise).double()))


def by_plain(weights, x, noise):
    net = plain.Net(weights)
    return by_torch(list(net.parameters()), net.bound(torch.tensor(x), torch.tensor(noise)))


def by_us(weights, x, noise, monkeypatch):
    """A training step: its draws, its objective."""
    joint, q = ours.model(weights)
    monkeypatch.setattr("taut.distributions.gaussian.standard_normal", lambda *_, **__: torch.tensor(noise))
    draws = draw(joint, q, torch.tensor(x), K)
    gradient = torch.autograd.grad(-Iwae().surrogate(draws), ours.parameters(joint, q))
    return Iwae().bound(draws.log_w_detached).double().numpy(), [g.numpy() for g in gradient]


@pytest.mark.parametrize("name", ["plain", "taut", "JAX"])
def test_the_same_bound_and_the_same_gradient_from_the_same_noise(name, given, monkeypatch):
    if name == "JAX":
        pytest.importorskip("jax")
        from benchmarks.candidates.scan import bound_and_gradient as by_jax
    value, gradient = exact(*given)
    found = {
        "plain": lambda: by_plain(*given),
        "taut": lambda: by_us(*given, monkeypatch),
        "JAX": lambda: by_jax(*given),
    }
    got, slope = found[name]()
    assert got == pytest.approx(value, rel=1e-6)
    for one, truth in zip(slope, gradient, strict=True):
        assert np.linalg.norm(one - truth) <= 2e-5 * np.linalg.norm(truth)


def test_the_same_log_p_from_the_same_noise(given):
    found = evaluate.same_noise(given[0], k=600, images=2)
    assert {"plain", "tuned", "taut"} < set(found)
    for name, value in found.items():
        assert value == pytest.approx(found["exact"], abs=1e-4), name


def test_the_floor_is_that_of_the_published_architecture():
    assert floor.flops(floor.training_products(50)) == pytest.approx(6.303e9, rel=1e-3)
    assert floor.flops(floor.evaluation_products(5000)) == pytest.approx(2.068e9, rel=1e-3)


def test_a_training_step_is_timed_through_the_command(programs, monkeypatch, tmp_path, capsys):
    monkeypatch.delenv("TAUT_DATA", raising=False)
    monkeypatch.setattr(train, "VARIANTS", {"taut": []})
    words = ["--k", "2", "--rounds", "1", "--seconds", "0.01", "--retries", "0", "--no-peers", "--out", str(tmp_path)]
    blocks = train.main(train.parser().parse_args([*words, "--threads", "1"]))[2]
    assert set(blocks) == {"floor", "plain", "taut", "taut's steps, no Lightning", "taut's steps, by autograd"}
    assert all(block.seconds > 0 for own in blocks.values() for block in own)
    assert "x floor" in capsys.readouterr().out
    assert (tmp_path / "train_k2.png").exists()


def test_threads_and_their_patience_are_timed(programs, monkeypatch, capsys):
    monkeypatch.delenv("TAUT_DATA", raising=False)
    monkeypatch.setattr(threads, "TURNS", ("1000",))
    words = ["--k", "1", "--rounds", "1", "--seconds", "0.01", "--busy"]
    threads.main(threads.parser().parse_args(words))
    printed = capsys.readouterr().out
    assert "K = 1, batch 100, beside a busy core" in printed
    assert "| 2 threads, 1,000 turns |" in printed


def test_an_evaluation_is_timed(programs, monkeypatch, tmp_path, capsys):
    monkeypatch.delenv("TAUT_DATA", raising=False)
    monkeypatch.setattr(evaluate, "GROWTH", (3,))
    words = ["--k", "20", "--rounds", "1", "--seconds", "0.01", "--retries", "0", "--no-peers", "--out", str(tmp_path)]
    blocks = evaluate.main(evaluate.parser().parse_args([*words, "--threads", "1", "--steps", "1", "--images", "1"]))
    assert set(blocks) == {"floor", "plain", "tuned", "taut"}
    assert "same noise" in capsys.readouterr().out


def test_em_is_timed_and_finds_what_scikit_learn_finds(programs, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(mixture, "growth", lambda sizes, _: dict.fromkeys(sizes, 1.0))
    words = ["--n", "400", "--d", "3", "--components", "2", "--rounds", "1", "--seconds", "0.01", "--retries", "0"]
    found = mixture.main(mixture.parser().parse_args([*words, "--threads", "1", "--out", str(tmp_path)]))
    assert set(found) == {"floor", "taut", "scikit-learn"}
    values = [line.split("|")[2] for line in capsys.readouterr().out.split("mean log p(x)")[1].splitlines()[2:4]]
    assert float(values[0]) == pytest.approx(float(values[1]), abs=1e-8)


def test_start_up_is_timed(programs, monkeypatch, tmp_path, capsys):
    words, code = startup.COMMANDS["taut to its first step"]
    assert startup.timed(words, code, threads=1).seconds > 0
    kept = {"imports": (["-c", "import numpy"], 0), "taut, a mistake": startup.COMMANDS["taut, a mistake"]}
    monkeypatch.setattr(startup, "COMMANDS", kept)
    line = ["--rounds", "1", "--retries", "0", "--threads", "1", "--out", str(tmp_path)]
    assert set(startup.main(startup.parser().parse_args(line))) == set(kept)
    assert "taut, a mistake" in capsys.readouterr().out
    with pytest.raises(RuntimeError, match="ended with 3"):
        startup.timed(["-c", "raise SystemExit(3)"], 0, threads=1)


def test_the_race_ends_at_its_bound_and_both_sides_judge_alike(programs, monkeypatch, tmp_path):
    monkeypatch.delenv("TAUT_DATA", raising=False)
    monkeypatch.setattr(to_bound, "EVERY", 1)
    np.savez(tmp_path / "weights.npz", *work.weights())
    given = train.Files(str(tmp_path / "weights.npz"), "", "")
    racing = train.candidates(3, given, False, [])[1]
    blocks = to_bound.race([racing], target=-1e9, threads=1)["plain"]
    assert len(blocks) == 1
    joint, q = ours.model(work.weights())
    np.save(tmp_path / "images.npy", work.binary("val", 300))
    own = command.validated(SimpleNamespace(joint=joint, q=q, k=50), str(tmp_path / "images.npy"))
    other = plain.validated(plain.Net(work.weights()), torch.tensor(work.binary("val", 300)), 50)
    assert own == pytest.approx(other, abs=0.5)  # of about -550; the noise of 50 draws is averaged over 300 images


def test_the_gradient_through_few_draws_is_unbiased_and_noisier(monkeypatch):
    """Equal shares for the chosen draws, in the place of their own, would give a bias of 5.6 at m = 5."""
    monkeypatch.delenv("TAUT_DATA", raising=False)
    found = variance.moments(steps=30, images=3, repeats=100, k=6)
    assert set(found) == {1, 2, 5, 6}
    ratios = [ratio for ratio, _ in found.values()]
    assert ratios[0] > 1.2
    assert ratios[2:] == pytest.approx([1, 1], abs=0.01)
    assert all(bias < 2.5 for _, bias in found.values())


def test_ratios_are_taken_within_rounds_and_disturbed_blocks_are_counted():
    def block(seconds, foreign):
        return Block(4 * seconds, 4, foreign, 0.0, 0.0, None)

    slow = [block(2.0, 0.0), block(6.0, 0.5), block(8.0, 0.0)]
    base = [block(1.0, 0.0), block(2.0, 0.0), block(8.0, 0.0)]
    warm = block(90.0, 0.9)
    found = summarise({"floor": [warm, *base], "slow": [warm, *slow]}, "floor")["slow"]
    assert (found.ratios, found.ratio, found.median, found.least) == ([2.0, 3.0, 1.0], 2.0, 6.0, 2.0)
    assert (found.quartiles, found.disturbed) == ((1.5, 2.5), 1)


def test_a_block_goes_first_where_that_is_asked_for(programs, tmp_path, monkeypatch):
    try:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    except PermissionError:
        pytest.skip("only root may")
    source = (
        "import os\n\ndef train(clock):\n    while True:\n        clock.tick(1, lambda: os.sched_getscheduler(0))\n"
    )
    (tmp_path / "policy.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    with workers([Candidate("policy", "policy:train")], 1, real_time=True) as (worker,):
        assert worker.block(0.0).value == os.SCHED_RR
        assert os.sched_getscheduler(worker._process.pid) == os.SCHED_OTHER


def test_what_is_not_installed_is_said_to_be_absent(capsys):
    assert interleave([Candidate("nobody's", "nowhere:train", needs="not_a_library")], 1, 0.0) == {}
    assert "nobody's: not installed" in capsys.readouterr().out


def test_imputation_is_scored_against_the_truth(trainings, monkeypatch, capsys):
    """The mean of a column scores its variance, 1; the fitted Gaussian stays under the published 0.30."""
    known = {name: imputation.METHODS[name] for name in ("mean of the column", "Imputer()")}
    monkeypatch.setattr(imputation, "METHODS", known)
    scores = imputation.main(seeds=1)
    assert scores["mean of the column"][0] == pytest.approx(1, abs=0.1)
    assert scores["Imputer()"][0] < 0.30
    assert "Imputer()" in capsys.readouterr().out


@pytest.mark.parametrize("best", imputation.COMPONENTS)
def test_mixtures_are_chosen_by_observed_cells_that_they_have_not_seen(monkeypatch, best):
    """Fits of the best number fill in the truth; all copy the cells that they are shown."""
    x = np.where(np.random.default_rng(0).random((200, 5)) < 0.5, np.nan, 1.0)
    monkeypatch.setattr(
        imputation, "_mean_of_starts", lambda seen, many: np.where(np.isnan(seen), 1 + abs(many - best), seen)
    )
    assert np.array_equal(imputation.mixtures(x), np.ones_like(x))


def test_published_tables_lose_the_cells_that_the_papers_hide():
    """Half of all; and where the mean of a column is off by 1.82, as Ipsen et al. (2021) have it in Table 1."""
    x = imputation.table()
    half, high = published_imputation.half_at_random(x), published_imputation.high_half(x)
    assert np.isnan(half).sum() == x.size // 2
    assert np.isnan(half).argmax(1)[:3].tolist() == [0, 0, 0]
    means = np.where(np.isnan(high), np.nanmean(high, 0), high)
    assert published_imputation.error(means, high, x) ** 0.5 == pytest.approx(1.82, abs=0.005)
    assert not np.isnan(high[:, 15:]).any()


def test_another_c_library_is_left_alone(monkeypatch):
    """No mallopt on macOS or musl: nothing happens, and nothing is raised."""
    keep_freed_pages()
    monkeypatch.setattr("ctypes.CDLL", lambda _: object())
    keep_freed_pages()


def test_families_take_the_steps_of_a_training(monkeypatch, capsys):
    monkeypatch.delenv("TAUT_DATA", raising=False)
    words = ["model=iwae", "k=2", "latent_dim=2", "network.hidden=[4]"]
    pixels = (255 * torch.from_numpy(work.grey(most=200))).round().byte().unflatten(1, families.IMAGE)
    ends = []
    for fused in (True, False):
        model = families.build_model(families.composed(words), families.Rows((pixels > 127).float()))
        running = families.steps(model, pixels, fused)
        for _ in range(3):
            next(running)
        ends.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    torch.testing.assert_close(*ends, rtol=0, atol=1e-4)  # Adam: a gradient of rounding alone moves a weight by 1e-3
    names = [families.REFERENCE, "mixture, normal"]
    ratios = families.main(words, names, rounds=1, block=1)
    assert list(ratios) == names
    assert ratios[families.REFERENCE] == 1 < 100 * ratios["mixture, normal"]
    assert "| mixture, normal |" in capsys.readouterr().out


def test_a_bracket_is_put_beside_the_plain_bound_of_the_same_data():
    known = linear_gaussian(2, 4, 6, width=1.3)
    rows = bracket.compare(known.target, known.x, [0.5, 0.2], 2000)
    truth = known.log_px.mean().item()
    assert all(row["plain"].mean == pytest.approx(truth, abs=0.05) for row in rows)
    assert all(row["lower"].mean - 0.2 < truth < row["upper"].mean + 0.2 for row in rows)
    assert bracket.table(rows, 2000).count("\n| ") == len(rows) + 1


def test_brackets_to_a_tolerance_are_held_against_every_model(capsys):
    rows = tolerance.main(tolerance.parser().parse_args(["--trials", "2", "--data", "2", "--tolerances", "0.5"]))
    assert len(rows) == 2 * len(tolerance.MODELS)
    assert all(0 <= row["held"] <= 1 and row["evaluations"] >= 256 for row in rows)
    assert capsys.readouterr().out.count("\n| ") == len(rows) + 2


def test_missed_modes_are_looked_for_in_every_cell(capsys):
    words = ["--trials", "2", "--k", "500", "--dims", "2", "--distances", "4", "8"]
    rows = modes.main(modes.parser().parse_args(words))
    assert [row["distance"] for row in rows] == [4, 8]
    assert all(0 <= row[kind] <= 1 for row in rows for kind in modes.KINDS)
    assert capsys.readouterr().out.count("\n| ") == len(rows) + 2
