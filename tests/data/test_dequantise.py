"""Grey levels that are spread by noise: where they lie, whose noise it is, and what their density bounds."""

import json
import math
import re

import pytest
import torch
from evaluations import command, trained
from pieces import build, config
from scipy import integrate, stats

from taut.data.binarise import EDGE, dequantised
from taut.data.digits import Digits
from taut.data.faithful import Faithful
from taut.data.mask.cells import Random
from taut.errors import UserError
from taut.functional.bits import Bits
from taut.training.build import build_model
from taut.training.metrics import bits_of

BLOCK = 1024
"""Rows whose noise is drawn at once."""


def test_every_number_lies_in_the_cell_of_its_level():
    levels = torch.arange(256, dtype=torch.uint8).repeat(8 * BLOCK // 256).view(-1, 4)
    x = dequantised(levels, 256, seed=0, stream="train", epoch=0)
    assert torch.equal((x * 256).floor().to(torch.uint8), levels)
    assert EDGE <= x.min() <= x.max() <= 1 - EDGE
    assert stats.kstest((x * 256 - levels).flatten().numpy(), "uniform").pvalue > 1e-4


def test_noise_belongs_to_seed_split_epoch_and_row():
    levels = torch.zeros(BLOCK + 3, 2, dtype=torch.uint8)
    first = dequantised(levels, 4, seed=0, stream="train", epoch=0)
    for change in ({"seed": 1}, {"stream": "val"}, {"epoch": 1}):
        assert not torch.equal(dequantised(levels, 4, **{"seed": 0, "stream": "train", "epoch": 0, **change}), first)
    # the first rows are the same in a split of fewer blocks
    assert torch.equal(dequantised(levels[:BLOCK], 4, seed=0, stream="train", epoch=0), first[:BLOCK])


def test_training_is_spread_anew_and_scores_are_spread_once():
    data, other = (Digits(batch_size=50, dequantise="uniform", shuffle=False, seed=seed) for seed in (0, 1))
    train, val = data.train_dataloader(), data.val_dataloader()
    first, again = [], []
    for part in (first, again):
        part += [next(iter(loader)).x for loader in (train, val)]
        train.set_epoch(1)
    assert not torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert torch.equal(first[1], other.rows_of("val")[: len(first[1])])
    assert torch.equal(first[0], data.rows_of("train")[:50])
    assert torch.equal((data.rows_of("test") * 17).floor().to(torch.uint8), data.stored.test)


def test_bits_of_the_dequantised_are_an_upper_bound_of_those_of_the_mass():
    """A logistic density, and the mass it has between the edges of level 2 of 8: by quadrature."""
    family = stats.logistic(0.3, 0.05)
    mass = family.cdf(3 / 8) - family.cdf(2 / 8)
    density, _ = integrate.quad(lambda u: family.logpdf((2 + u) / 8), 0, 1)
    spread, exact = Bits(1, 8, "dequantised").of_nats(density), Bits(1, 1, "levels").of_nats(math.log(mass))
    assert exact == pytest.approx(-math.log2(mass))
    assert spread == pytest.approx(-density / math.log(2) + 3)
    assert exact < spread < exact + 0.5


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (lambda: Digits(batch_size=9, dequantise="uniform", binarisation="fixed"),
         "data.dequantise=uniform is for grey levels, and data.binarisation=fixed leaves none; set "
         "data.binarisation=none, as likelihood=gaussian does, or leave dequantise out."),
        (lambda: Digits(batch_size=9, dequantise="gaussian"), "data.dequantise='gaussian' must be uniform or null."),
        (lambda: Faithful(batch_size=9, dequantise="uniform").setup(),
         "faithful: data.dequantise=uniform spreads the grey levels of images, and these data are other numbers; leave "
         "it out."),
    ],
)  # fmt: skip
def test_what_cannot_be_spread_is_refused(build, sentence):
    with pytest.raises(UserError) as refusal:
        build()
    assert str(refusal.value) == sentence


@pytest.mark.parametrize(
    "words",
    [["likelihood=categorical"], ["likelihood=categorical", "likelihood.levels=17"], ["likelihood=poisson"]],
    ids=" ".join,
)
def test_a_mass_of_levels_that_are_spread_is_refused_for_that(words):
    data = Digits(batch_size=9, dequantise="uniform")
    data.setup()
    cfg = config("data.dequantise=uniform", *words, x_shape=data.x_shape)
    cfg.x_levels = data.levels
    with pytest.raises(UserError, match=r"^data\.dequantise=uniform makes real numbers of grey levels"):
        build_model(cfg, data)
    plain = Digits(batch_size=9)
    plain.setup()
    cfg.x_levels, cfg.data.dequantise = plain.levels, None
    if words == ["likelihood=categorical"]:
        build_model(cfg, plain)


def test_bits_are_of_masses_and_of_dequantised_levels_alone():
    plain, spread = Digits(batch_size=9), Digits(batch_size=9, dequantise="uniform")
    hidden = Digits(batch_size=9, mask=Random(0.5))
    of = {
        name: build(f"likelihood={name}")[0].likelihood for name in ("bernoulli", "gaussian", "categorical", "poisson")
    }
    assert bits_of(of["categorical"], plain) == Bits(64, 1, "levels")
    assert bits_of(of["poisson"], plain) == Bits(64, 1, "counts")
    assert bits_of(of["gaussian"], spread) == Bits(64, 17, "dequantised")
    assert [bits_of(of["bernoulli"], plain), bits_of(of["gaussian"], plain), bits_of(of["categorical"], hidden)] == [
        None
    ] * 3


def test_bits_stand_beside_the_nats_of_a_run_and_of_its_evaluation(trainings, command_in_process, tmp_path):
    words = ["network.hidden=[8]", "latent_dim=2", "trainer.max_epochs=1", "trainer.limit_train_batches=2", "k_eval=2"]
    words += [
        "k_test=30",
        "threads=1",
        "logger=csv",
        "callbacks=none",
        "likelihood=gaussian",
        "data.dequantise=uniform",
    ]
    folder = trained(tmp_path / "run", *words)
    result = json.loads((folder / "result.json").read_text())
    nats, bits = result["scores"]["log_px"], result["scores"]["bits"]
    assert bits["value"] == pytest.approx(-nats["value"] / (64 * math.log(2)) + math.log2(17), rel=1e-12)
    assert bits["standard_error"] == pytest.approx(nats["standard_error"] / (64 * math.log(2)), rel=1e-12)
    assert (bits["kind"], bits["of"], result["measure"]) == ("upper", "dequantised", "density")
    assert result["binarisation"] == "none, dequantised"
    done = command("evaluate", f"run={folder}", "limit=5", "k=30", "threads=1", "evidence=[importance]")
    assert re.search(r"\n +at most \d\.\d{3} bits per dimension, dequantised", done.out), done.out
