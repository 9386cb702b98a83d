"""A table whose columns have a family each: their densities, what is chosen for them, and their completions."""

import json

import numpy as np
import pytest
import torch
from evaluations import command
from pieces import build

from taut.completion.complete import complete
from taut.errors import UserError
from taut.functional.sampling import NoiseKeys
from taut.model.likelihood.mixed import FAMILIES, Mixed, families_of
from taut.model.networks import Unchanged
from taut.testing import check_likelihood

pytestmark = pytest.mark.usefixtures("float64")
GIVEN = {"a": "poisson", "b": "gaussian", "c": "poisson", "d": "categorical 3", "e": "bernoulli"}
ROWS = torch.tensor([[3.0, 0.5, 0.0, 2.0, 1.0], [1.0, -2.5, 9.0, 0.0, 0.0]])


def _joint_head(latent: int, shape: tuple[int, ...]) -> torch.nn.Module:
    assert (latent, shape) == (sum(SIZES), (sum(SIZES),))
    return Unchanged()


SIZES = [2, 2, 3, 1]
"""Heads of two counts, of a Gaussian, of three categories and of a bit: columns of one family stand together."""


def test_the_density_of_a_row_is_the_sum_of_those_of_its_columns():
    mixed = Mixed((5,), sum(SIZES), _joint_head, families=GIVEN)
    mixed.initialise(ROWS)
    z = torch.randn(2, 2, sum(SIZES))
    expected, heads = 0.0, z.split(SIZES, -1)
    options = {"categorical": {"levels": [3]}}
    for head, (family, columns) in zip(
        heads, [("poisson", [0, 2]), ("gaussian", [1]), ("categorical", [3]), ("bernoulli", [4])], strict=True
    ):
        alone = FAMILIES[family]((len(columns),), 1, lambda latent, shape: Unchanged(), **options.get(family, {}))
        alone.initialise(ROWS[:, columns])
        expected = expected + alone(head).log_prob(ROWS[:, columns])
        assert torch.equal(mixed(z).mean[..., columns], alone(head).mean)
        assert torch.equal(mixed(z).stddev[..., columns], alone(head).stddev)
    torch.testing.assert_close(mixed(z).log_prob(ROWS), expected, rtol=1e-12, atol=1e-12)
    assert not mixed.is_mass


def test_columns_of_all_families_keep_the_contract_of_likelihoods():
    words = [*("gaussian", "laplace", "student_t", "beta", "continuous_bernoulli"), "categorical 3", "poisson"]
    families = {str(i): word for i, word in enumerate([*words, "negative_binomial", "bernoulli"])}
    joint, _, _ = build("likelihood=gaussian", x_shape=(9,))
    decoder = lambda latent, shape: torch.nn.Linear(latent, *shape)  # noqa: E731
    check_likelihood(Mixed((9,), 3, decoder, families=families), joint.prior().sample((8, 5)))


def test_the_family_of_a_column_follows_from_its_values_unless_it_is_named():
    rng = np.random.default_rng(0)
    x = torch.tensor(
        np.column_stack([
            rng.normal(size=200), rng.integers(0, 2, 200), rng.integers(0, 5, 200), rng.negative_binomial(1, 0.05, 200),
            2000 + rng.integers(0, 9, 200), rng.integers(0, 5, 200) * 2, np.full(200, np.nan),
        ])
    )  # fmt: skip
    names = ["real", "yes", "grade", "visits", "year", "even", "empty"]
    chosen = [
        "gaussian",
        "bernoulli",
        "categorical 5",
        "negative_binomial",
        "gaussian",
        "negative_binomial",
        "gaussian",
    ]
    assert families_of([x[:50], x[50:]], None, names) == dict(zip(names, chosen, strict=True))
    told = families_of([x], {"real": "student_t", 6: "categorical"}, names)
    assert told == dict(zip(names, ["student_t", *chosen[1:5], "categorical 9", "gaussian"], strict=True))
    with pytest.raises(UserError, match=r"^likelihood.families: there is no column grad; did you mean grade\?"):
        families_of([x], {"grad": "poisson"}, names)


REFUSED = [
    ((1, 2, 2), {"a": "gaussian"}, "likelihood=mixed is for the columns of a table; choose another likelihood for "
     "images."),
    ((2,), {"a": "gaussian"}, "likelihood.families names 1 columns, and the data have 2; give a family for each."),
    ((1,), {"a": "gausian"}, "likelihood.families: 'gausian' is not a family of columns; did you mean gaussian?"),
    ((1,), {"a": "categorical"}, "likelihood.families: categorical needs its number of levels, as in 'categorical 3'."),
]  # fmt: skip


@pytest.mark.parametrize(
    ("family", "wrong", "reason"),
    [
        ("poisson", 1.5, "poisson needs counts, whole numbers of 0 or more, but the data hold 1.5"),
        ("categorical 3", 3.0, "categorical needs levels from 0 to 2, but the data hold 3"),
        ("bernoulli", 2.0, "bernoulli needs x in {0, 1}, but the data hold 2"),
    ],
)
def test_a_column_that_its_family_does_not_fit_is_named(family, wrong, reason):
    families = {"age": "gaussian", "first": family, "second": family}
    mixed = Mixed((3,), 9, lambda latent, shape: Unchanged(), families=families)
    x = torch.tensor([[0.5, 1.0, 0.0], [0.1, 0.0, 1.0]])
    mixed.check(x)
    x[1, 2] = wrong
    with pytest.raises(UserError) as refusal:
        mixed.check(x)
    assert str(refusal.value) == (
        f"likelihood.families: the column second cannot be {family.split()[0]}: {reason}; choose another family for "
        "it, such as gaussian for real numbers."
    )


@pytest.mark.parametrize(("shape", "families", "sentence"), REFUSED)
def test_families_that_cannot_be_are_refused(shape, families, sentence):
    with pytest.raises(UserError) as refusal:
        Mixed(shape, 1, torch.nn.Linear, families=families)
    assert str(refusal.value) == sentence


def test_missing_cells_are_completed_by_values_of_their_column():
    joint, q, _ = build("likelihood=mixed", x_shape=(4,))
    x = torch.tensor([[0.5, torch.nan, torch.nan, torch.nan], [torch.nan, 3.0, 1.0, 0.0]])
    found = complete(joint, lambda rows: q(x[rows]), x, NoiseKeys(torch.arange(2), 0, "x"), k=50, draws=20)
    for values in (found.most_probable, *found.draws):
        assert torch.equal(values[~x.isnan()], x[~x.isnan()])
        assert values[0, 1] >= 0
        assert values[0, 1] == values[0, 1].round()
        assert values[0, 2] in (0, 1, 2)
        assert values[0, 3] in (0, 1)


def test_families_are_named_on_the_command_line_and_printed(trainings, command_in_process, tmp_path):
    rng = np.random.default_rng(0)
    z = rng.normal(size=40)
    table = np.column_stack([z, z + rng.normal(size=40) > 0, np.digitize(z, [-0.4, 0.4]), rng.poisson(np.exp(2 + z))])
    text = "real,yes,grade,visits\n" + "\n".join(",".join(f"{v:g}" for v in row) for row in table)
    (tmp_path / "mine.csv").write_text(text)
    words = ["data=table", f"data.path={tmp_path / 'mine.csv'}", "likelihood=mixed", "latent_dim=2", "threads=1"]
    words += ["network.hidden=[8]", "trainer.max_epochs=1", "k_eval=2", "k_test=30", "logger=csv", "callbacks=none"]
    done = command("train", *words, "likelihood.families={yes: beta}")
    assert done.code == 2
    assert "the column yes cannot be beta: beta needs numbers between 0 and 1, both excluded, but" in done.err
    words[-1] = "callbacks=[none,summary]"
    done = command("train", *words, "likelihood.families={4: poisson}", f"hydra.run.dir={tmp_path / 'run'}")
    assert done.code == 0, done.err
    told = "columns: real gaussian, yes bernoulli, grade categorical 3, visits poisson"
    assert told in " ".join(done.out.split())
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["measure"] == "density"
    assert result["families"] == dict(real="gaussian", yes="bernoulli", grade="categorical 3", visits="poisson")
