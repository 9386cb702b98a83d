"""How tight is a bound? The lecture as a notebook of marimo.

Open it with ``marimo edit examples/lecture.py``, or run it as a program: ``python examples/lecture.py`` takes some
seconds and writes ``lecture_bounds.png``. marimo comes with ``pip install -c constraints.txt -e ".[docs]"``.
"""

import marimo  # pyright: ignore[reportMissingImports]

__generated_with = "0.25.2"
app = marimo.App()


@app.cell
def _():
    import marimo as mo  # pyright: ignore[reportMissingImports]

    mo.md(
        r"""
        # How tight is a bound on $\log p(x)$?

        A latent-variable model scores $x$ by a sum over every $z$, $p(x) = \int p(x, z)\, dz$. What is trained is a
        bound of it. This notebook trains two small models, and measures how far below $\log p(x)$ their bounds lie.
        All values are in nats per datum.
        """
    )
    return (mo,)


@app.cell
def _():
    import numpy as np
    from sklearn.datasets import load_digits

    import taut

    images = load_digits(return_X_y=True)[0] > 8  # 1,797 images of 8 by 8 pixels, made binary
    rows = np.random.default_rng(0).permutation(len(images))
    x_train, x_test = images[rows[:1400]], images[rows[1400:1500]]
    return taut, x_test, x_train


@app.cell
def _(mo, taut):
    from sklearn.datasets import load_iris

    flowers = load_iris(return_X_y=True)[0]
    mixture = taut.GaussianMixture(3).fit(flowers)
    of_mixture = mixture.log_evidence(flowers)
    mo.md(
        f"""
        ## A mixture: the sum can be done

        z is one of three categories. log p(x) is **{of_mixture.kind}**: {of_mixture.mean:.3f}. The posterior is known,
        q is the posterior, and the gap is 0 for every K. Training with it is EM.
        """
    )
    return (of_mixture,)


@app.cell
def _(mo, taut, x_train):
    vae = taut.VAE(latent_dim=8, hidden=(100,), max_epochs=10, device="cpu").fit(x_train)
    mo.md(
        "## A VAE: the sum cannot be done\n\nz has eight coordinates. q is a Gaussian that a network computes from x."
    )
    return (vae,)


@app.cell
def _(taut, vae, x_test):
    below = vae.log_evidence(x_test, k=1000)  # L_K by importance sampling from q
    above = vae.model_.log_evidence(x_test, estimator=taut.evidence.Struski(k=1000))
    blind = vae.model_.log_evidence(x_test, estimator=taut.evidence.Naive(k=1000))  # z from the prior
    elbo = below.curve[0].mean().item()  # the mean of the log-weights themselves
    return above, below, blind, elbo


@app.cell
def _(above, below, blind, elbo, mo):
    mo.md(
        f"""
        ## Bracketed from both sides

        | | value | kind | Monte Carlo error |
        |---|---|---|---|
        | ELBO | {elbo:.3f} | lower | |
        | z from the prior, K = 1000 | {blind.mean:.3f} | {blind.kind} | {blind.monte_carlo_error:.3f} |
        | z from q, K = 1000 | {below.mean:.3f} | {below.kind} | {below.monte_carlo_error:.3f} |
        | Struski's bound | {above.mean:.3f} | {above.kind} | {above.monte_carlo_error:.3f} |

        The gap of the ELBO lies between **{below.mean - elbo:.3f}** and **{above.mean - elbo:.3f}** nats. It is the
        divergence of q from the model's own posterior.
        """
    )
    return


@app.cell
def _(above, below, elbo, vae, x_test):
    import matplotlib.pyplot as plt

    sizes = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000]
    bounds = [elbo, *(vae.log_evidence(x_test, k=k).mean for k in sizes[1:])]
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    axes.semilogx(sizes, bounds, "o-", label="bound $L_K$ (lower)")
    axes.axhline(above.mean, color="C1", linestyle="--", label="Struski's bound (upper)")
    axes.fill_between(sizes, below.mean, above.mean, color="C2", alpha=0.3, label=r"$\log p(x)$ lies here")
    axes.set(xlabel="K, samples per datum", ylabel="nats per datum", title="From the ELBO at K = 1 towards log p(x)")
    axes.legend(loc="lower right", frameon=False)
    figure.savefig("lecture_bounds.png", dpi=120)
    figure  # noqa: B018 # pyright: ignore[reportUnusedExpression] (a cell shows its last expression)
    return bounds, figure, sizes


if __name__ == "__main__":
    app.run()
