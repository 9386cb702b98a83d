"""scvi-tools' SCVI, the package itself: it is not among what the tests need, and .ci/adapters installs it."""

import math
import warnings

import numpy as np
import pytest
import torch

import taut

scvi = pytest.importorskip("scvi")

import anndata  # noqa: E402

from taut.adapters.scvi import Scvi  # noqa: E402

CELLS, GENES = 60, 15


def trained(**settings):
    """A model of counts in two batches, a few epochs old."""
    rng = np.random.default_rng(0)
    counts = rng.poisson(rng.gamma(2.0, 1.5, size=(CELLS, GENES))).astype("float32")
    cells = anndata.AnnData(counts, obs={"where": np.array(["a", "b"])[np.arange(CELLS) % 2]})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scvi.model.SCVI.setup_anndata(cells, batch_key="where")
        torch.manual_seed(0)
        model = scvi.model.SCVI(cells, n_latent=2, n_hidden=16, **settings)
        quiet = {"enable_progress_bar": False, "logger": False, "enable_model_summary": False}
        model.train(max_epochs=5, accelerator="cpu", **quiet)
    return model


@pytest.fixture(scope="module")
def model():
    return trained()


def test_the_marginal_likelihood_of_scvi_is_too_high_by_log_128_over_100(model):
    """It draws two passes of 64 samples and subtracts log 100; with passes that tile the samples it is right."""
    own = Scvi(model)
    exact = taut.audit(own, k=5000, limit=None, evidence=["importance"]).evidence["importance"]
    torch.manual_seed(0)
    settings = {"n_mc_samples": 100, "return_mean": True}
    found = {
        size: np.array([float(model.get_marginal_ll(n_mc_samples_per_pass=size, **settings)) for _ in range(20)])
        for size in (64, 100)
    }
    error = max(values.std() / 20**0.5 for values in found.values())
    assert error < 0.02
    # the figures of docs/audit.md; the weights of a training differ between machines
    assert (found[64].mean(), exact["value"]) == pytest.approx((-43.280, -43.525), abs=0.5)
    # what both are too low by at 100 and 128 samples, at most
    assert abs(found[64].mean() - found[100].mean() - math.log(128 / 100)) < 4 * 1.5 * error
    assert abs(found[100].mean() - exact["value"]) < 4 * (error + exact["monte_carlo_error"]) + 0.02
    report = taut.audit(own, k=5000, limit=None, reported=found[64].mean())
    assert report.result["reported"]["words"].endswith("it is no log-likelihood, unless q misses a mode")


def test_a_z_of_two_dimensions_agrees_with_a_sum_over_a_grid(model):
    """scvi-tools' own p(x given z) on a grid of z, apart from the adapter."""
    cells, points, step = 6, torch.linspace(-6, 6, 121), 0.1
    grid = torch.cartesian_prod(points, points)
    held = {
        name: part[:cells] for name, part in next(iter(model._make_data_loader(model.adata, shuffle=False))).items()
    }
    log_px = []
    for i in range(cells):
        alike = {name: held[name][i : i + 1].expand(len(grid), -1) for name in ("X", "batch", "labels")}
        with torch.no_grad():
            library = alike["X"].sum(1, keepdim=True).log()
            model.module.eval()
            px = model.module.generative(z=grid, library=library, batch_index=alike["batch"], y=alike["labels"])["px"]
        log_joint = px.log_prob(alike["X"]).sum(1) + torch.distributions.Normal(0.0, 1.0).log_prob(grid).sum(1)
        log_px.append(log_joint.double().logsumexp(0).item() + 2 * math.log(step))
    found = taut.audit(model, k=5000, limit=cells, evidence=["importance"]).evidence["importance"]
    assert abs(found["value"] - np.mean(log_px)) < 4 * found["monte_carlo_error"] + 1e-3 < 0.05


def test_counts_that_are_simulated_keep_their_library_size(model):
    own = Scvi(model)
    rows, z = own.data[:3], torch.zeros(3, 2)
    others = torch.cat([rows[:, :GENES] + 5, rows[:, GENES:]], 1)
    torch.testing.assert_close(own._given(rows, z)[0].mean, own._given(others, z)[0].mean)
    report = taut.audit(model, k=500, simulated=100)
    of_model = report.result["simulated"]["evidence"]
    assert abs(of_model["u_k"]["value"] - of_model["importance"]["value"]) < 0.1
    assert report.result["information"]["units"] == 2


@pytest.mark.parametrize("settings", [{"use_observed_lib_size": False}, {"gene_likelihood": "nb"}])
def test_other_settings_agree_with_its_own_estimate(settings):
    """A latent library size has a density of its own, in p and in q; at equal K both have one expectation."""
    model = trained(**settings)
    own = np.array([float(model.get_marginal_ll(n_mc_samples=500, n_mc_samples_per_pass=500)) for _ in range(10)])
    reports = [taut.audit(model, k=500, seed=seed, limit=None, evidence=["importance"]) for seed in range(10)]
    found = np.array([report.evidence["importance"]["value"] for report in reports])
    error = np.hypot(own.std(ddof=1), found.std(ddof=1)) / 10**0.5
    assert abs(own.mean() - found.mean()) < 4 * error < 1


def test_rows_of_another_kind_and_other_models_are_refused(model):
    with pytest.raises(taut.UserError, match=r"x has rows of shape .15., and a cell of this SCVI is X .15., library"):
        taut.audit(model, data=Scvi(model).data[:, :GENES])
    cells = model.adata.copy()
    scvi.model.SCVI.setup_anndata(cells)
    with pytest.raises(taut.UserError, match=r"The SCVI has not been trained; call its train"):
        taut.audit(scvi.model.SCVI(cells))
    scvi.model.LinearSCVI.setup_anndata(cells)
    scvi.model.AUTOZI.setup_anndata(cells)
    with pytest.raises(taut.UserError, match=r"an audit knows SCVI and LinearSCVI, and not AUTOZI"):
        taut.audit(scvi.model.AUTOZI(cells))
