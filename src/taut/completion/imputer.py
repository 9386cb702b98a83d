"""Missing cells of a table, for scikit-learn: p(x_mis | x_obs) as a transformer."""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from jaxtyping import Float
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils import Tags
from sklearn.utils.validation import FLOAT_DTYPES, check_is_fitted, validate_data
from torch import Tensor
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from taut.completion.complete import Fill, fill_in, sample
from taut.data.base import Data
from taut.errors import UserError
from taut.functional import bounds, seeding
from taut.functional.arrays import Kind, whole
from taut.functional.sampling import NoiseKeys
from taut.functional.threads import each_alone
from taut.model import exact_inference
from taut.model.draws import log_weights
from taut.model.joint import Joint
from taut.model.likelihood.component import Component, Holes
from taut.model.prior.categorical import Categorical
from taut.model.q.exact import Exact
from taut.objective.em import expect
from taut.runtime.untouched import untouched
from taut.training.module import LatentVariableModel
from taut.training.stored_run import Run

ROWS = 256
"""Rows completed at once."""

INTERVAL_DRAWS = 199
"""Draws behind an interval: the ranks of a value among them are two hundred, two for each percent."""

FLOOR = 1e-3
"""Smallest variance of the mixture in any direction, as a fraction of the columns' variances."""


class Imputer(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    r"""Fill the NaN of a table from $p(x_{mis} \mid x_{obs})$; observed cells stay as they are, to the bit.

    Without a run, ``fit`` trains a mixture of Gaussians with full covariances on the observed cells: with one component
    each missing cell is filled by the linear regression on whatever cells of its row are observed. It assumes that
    cells are missing at random (Rubin, 1976). With a run, ``fit`` reads its model and looks at no value.

    Args:
        run: Folder of a trained run. Columns are found by name if X has them (a data frame) and the run's file has a
            header, by position otherwise; values are in the units of the run's data.
        fill: ``mean``, $E[x_{mis} \mid x_{obs}]$, the least squared error; ``most_probable``, the mode of every cell;
            or ``draw``, one draw of $p(x_{mis} \mid x_{obs})$.
        k: Number of importance samples K where the posterior of a run's model is not known exactly.
        components: Number of Gaussians C of the mixture.
        seed: Seed of the start of the mixture and of all draws, which are keyed by the number of the row.
        trust: Packages whose classes the run may name; only those that you know.

    Attributes:
        joint_: The model.

    Raises:
        UserError: If an argument is out of range, the columns are not those of the run, a column is observed in no row,
            or a value is no number.

    >>> X = [[0.0, 0.0], [1.0, 2.0], [2.0, 4.0], [3.0, 6.0], [4.0, float("nan")]]
    >>> Imputer().fit_transform(X)[-1].round(1)
    array([4., 8.])
    """

    def __init__(
        self,
        run: str | Path | None = None,
        *,
        fill: Fill = "mean",
        k: int = 1000,
        components: int = 1,
        seed: int = 0,
        trust: str | Sequence[str] = (),
    ) -> None:
        # as given and unchecked: scikit-learn clones estimators by their arguments
        self.run = run
        self.fill: Fill = fill
        self.k = k
        self.components = components
        self.seed = seed
        self.trust = trust

    def fit(self, X: Any, y: Any = None) -> "Imputer":
        """Train the mixture on the observed cells of X, or read the run and find its columns in X."""
        del y
        self._refuse_arguments()
        x, names = validated(self, X, reset=True, least=self.components if self.run is None else 1), column_names(X)
        if self.run is None:
            self._train(x, names)
        else:
            self._read(Path(self.run), x.shape[1], names)
        return self

    def transform(self, X: Any) -> Any:
        """X with its missing cells filled: an array, a data frame of pandas, or a tensor, as X is one."""
        check_is_fitted(self)
        x = validated(self, X, reset=False)
        return self._restored(X, x, self._of_all(self._filled, x))

    def sample(self, X: Any, count: int = 20) -> list[Any]:
        r"""Tables with draws of $p(x_{mis} \mid x_{obs})$ in the missing cells, independent given the model.

        Args:
            X: A table with missing cells.
            count: Number of tables.
        """
        check_is_fitted(self)
        whole("count", count, 1)
        x = validated(self, X, reset=False)
        return [self._restored(X, x, table) for table in self._sampled(x, count)]

    def interval(self, X: Any, share: float = 0.9) -> tuple[Any, Any]:
        """The lower and upper ends of central intervals, each of which holds its cell with this probability.

        They are order statistics of 199 draws, by which a draw of the model lies inside with exactly this probability.
        Both ends of a cell that is observed are its value.

        Args:
            X: A table with missing cells.
            share: The probability, in whole percent.

        Raises:
            UserError: If the share is not 0.01, 0.02, ..., or 0.99.
        """
        check_is_fitted(self)
        outside = (1 - share) * (INTERVAL_DRAWS + 1) / 2
        if not 1 - 1e-9 <= outside <= INTERVAL_DRAWS / 2 or abs(outside - round(outside)) > 1e-9:
            raise UserError(f"share={share} must be a whole number of percent from 0.01 to 0.99, such as 0.9.")
        x = validated(self, X, reset=False)
        # least and greatest of equal numbers are one
        ordered = self._sampled(x, INTERVAL_DRAWS).sort(0).values
        low, high = (self._restored(X, x, ordered[place]) for place in (round(outside) - 1, -round(outside)))
        return low, high

    def imputations(self, X: Any, count: int = 20) -> list[Any]:
        """Tables for multiple imputation: analyse each, and put the results together by ``taut.completion.pool``.

        Each is filled by a draw of a model of its own, trained on rows of the fitted table that are drawn with
        replacement (Honaker & King, 2010): what the parameters might be otherwise, draws of one model do not tell, and
        errors pooled from those are too small for small tables. The model of a run stays as it is.

        Args:
            X: A table with missing cells.
            count: Number of tables.
        """
        check_is_fitted(self)
        if self.run is not None:
            return self.sample(X, count)
        whole("count", count, 1)
        x = validated(self, X, reset=False)
        return [self._restored(X, x, self._sampled(x, 1, *self._again(i), f"impute {i}")[0]) for i in range(count)]

    def score_samples(self, X: Any) -> Any:
        r"""$\log p(x_{obs})$ of each row in nats: exact for the mixture, and for a run whose model has it.

        For other runs it is a lower bound in expectation, by importance sampling with K draws of q (Burda, Grosse &
        Salakhutdinov, 2016).
        """
        check_is_fitted(self)
        x = validated(self, X, reset=False)
        return Kind.of(X).restored(self._of_all(self._score, x), names="log_px")

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def _of_all(self, work: Callable[[Tensor, NoiseKeys], Tensor], x: np.ndarray) -> Tensor:
        def on_all(x: np.ndarray) -> Tensor:
            return torch.cat([work(part, keys) for part, keys in self._parts(x)])

        # the small products of a mixture take longer shared out, those of a network do not
        return on_all(x) if self.run is not None else each_alone(on_all, [x])[0]

    def _filled(self, x: Tensor, keys: NoiseKeys) -> Tensor:
        return fill_in(self.joint_, lambda rows: self.q_(x[rows]), x, keys, self.fill, k=self.k)

    def _restored(self, like: Any, x: np.ndarray, filled: Tensor) -> Any:
        """What the model has filled in, as X is one."""
        inside = np.empty(x.shape)
        inside[:, self.columns_] = filled.flatten(1).double().numpy()
        # from X itself: the model may have rounded observed cells to its precision
        return Kind.of(like).restored(torch.from_numpy(np.where(np.isnan(x), inside, x).astype(x.dtype)))

    def _sampled(
        self, x: np.ndarray, count: int, joint: Joint | None = None, q: Any = None, purpose: str = "impute"
    ) -> Float[Tensor, "m n *x"]:
        """Draws by the model, or by another one."""
        model, proposal = joint or self.joint_, q or self.q_

        def drawn(part: Tensor, keys: NoiseKeys) -> Tensor:
            keys = NoiseKeys(keys.index, keys.seed, purpose)
            return sample(model, lambda rows: proposal(part[rows]), part, keys, count, k=self.k).transpose(0, 1)

        return self._of_all(drawn, x).transpose(0, 1)

    def _again(self, i: int) -> tuple[Joint, Exact]:
        """A mixture of rows drawn with replacement, and its posterior."""
        generator = torch.Generator().manual_seed(seeding.key(self.seed, "bootstrap", i))
        rows = self.rows_
        while True:
            some = rows[torch.randint(len(rows), (len(rows),), generator=generator)]
            # a column that is observed in few rows may be in none of these, and then teaches nothing
            if not some.isnan().all(0).any():
                break
        joint = fit_mixture(some, self.components, floor=FLOOR, seed=self.seed)
        return joint, Exact(joint, rows.shape[1:])

    def _score(self, x: Tensor, keys: NoiseKeys) -> Tensor:
        if exact_inference.tractable(self.joint_):
            return exact_inference.log_marginal(self.joint_, x)
        return bounds.iwae(log_weights(self.joint_.log_prob, lambda rows: self.q_(x[rows]), x, keys, self.k))

    def _refuse_arguments(self) -> None:
        if self.fill not in get_args(Fill):
            raise UserError(f"fill={self.fill!r} is not known; choose {', '.join(get_args(Fill))}.")
        for name, least in (("k", 1), ("components", 1), ("seed", 0)):
            whole(name, getattr(self, name), least)

    def _train(self, x: np.ndarray, names: list[str] | None) -> None:
        rows = torch.from_numpy(x.astype(np.float64))
        refuse_unlearnable(rows.numpy(), names)
        self.columns_, self.rows_ = np.arange(x.shape[1]), rows
        self.joint_ = fit_mixture(rows, self.components, floor=FLOOR, seed=self.seed)
        self.q_ = Exact(self.joint_, rows.shape[1:])

    def _read(self, folder: Path, columns: int, names: list[str] | None) -> None:
        model, data = _loaded(folder, self.trust)
        width, known = math.prod(data.x_shape), data.columns
        if columns != width:
            them = "" if known is None else f" ({', '.join(known)})"
            raise UserError(f"X has {columns} columns, and {folder.name} was trained on {width}{them}; give it those.")
        self.columns_ = np.arange(width) if known is None or names is None else _matched(folder, list(known), names)
        self.joint_, self.q_ = model.joint, model.q

    def _parts(self, x: np.ndarray) -> Iterator[tuple[Tensor, NoiseKeys]]:
        """X as the model knows it, some rows at a time, and what their noise is keyed by."""
        rows = torch.from_numpy(x[:, self.columns_].astype(np.float64))
        for index in torch.arange(len(x)).split(ROWS):
            part = rows[index].unflatten(1, self.joint_.likelihood.x_shape)
            self.joint_.likelihood.check(part)
            yield part, NoiseKeys(index, self.seed, "impute")


def validated(estimator: BaseEstimator, x: Any, *, reset: bool, least: int = 1) -> np.ndarray:
    """A table with missing cells, as scikit-learn checks one.

    Args:
        estimator: Learns the names and the number of the columns where ``reset``, and compares them elsewhere.
        x: The table.
        reset: Whether this is the table of ``fit``.
        least: Least number of rows.

    Raises:
        ValueError: As scikit-learn words it.
        UserError: If it holds text.
    """
    # a tensor may be on a GPU, and want a gradient
    x = x.detach().cpu().numpy() if isinstance(x, Tensor) else x
    settings = {"dtype": FLOAT_DTYPES, "ensure_all_finite": "allow-nan", "ensure_min_samples": least}
    try:
        return np.asarray(validate_data(estimator, x, reset=reset, **settings))
    except ValueError as error:
        if "could not convert string" not in str(error):
            raise
        raise UserError(f"X holds text ({error}); leave such columns out, or encode them as numbers.") from error


def refuse_unlearnable(x: np.ndarray, names: list[str] | None) -> None:
    """Refuse a table with a column that is observed in no row, or whose variance is no number.

    Raises:
        UserError: Naming the column.
    """
    for column in np.flatnonzero(np.isnan(x).all(0)):
        name = repr(names[column]) if names else column
        raise UserError(f"Column {name} of X is observed in no row, so nothing can be learned about it; drop it.")
    with np.errstate(over="ignore"):
        stds = np.nanstd(x, 0)
    for column in np.flatnonzero(~np.isfinite(stds)):
        raise UserError(f"Column {column} of X holds values so large that their squares overflow; rescale it.")


def column_names(x: Any) -> list[str] | None:
    """The names of the columns of a data frame, whoever made it."""
    names: list[Any] = list(getattr(x, "columns", ()))
    return names if names and all(isinstance(name, str) for name in names) else None


def _matched(folder: Path, known: list[str], names: list[str]) -> np.ndarray:
    """Positions in X of the columns of the run."""
    for name in known:
        if name not in names:
            raise UserError(
                f"X has no column {name!r}, which {folder.name} was trained on; it has {', '.join(names)}: rename them."
            )
    return np.array([names.index(name) for name in known])


def _loaded(folder: Path, trust: str | Sequence[str]) -> tuple[LatentVariableModel, Data]:
    """The model of a run, in its own precision, and its data; the process is left as it was."""
    run = Run.open(folder, trust=trust)
    with untouched(run.precision):
        model, data, _ = run.load()
    return model, data


ROUNDS, OF_SEVERAL, GAIN = 30, 200, 1e-6
"""Rounds of EM at most, of several Gaussians, and nats a row below which two of them gain too little to go on."""
LONGEST = 100.0
"""Times a leap may be as long as the round that it goes on from."""
FEW = 4096
"""Rows of a table that one thread goes through."""


def fit_mixture(x: Float[Tensor, "n d"], components: int, *, floor: float, seed: int = 0) -> Joint:
    r"""The mixture that EM on the observed cells ends at (Ghahramani & Jordan, 1994).

    It stops when two rounds add less than 1e-6 nats a row to $\log p(x_{obs})$, or after 30, of several Gaussians after
    200. With one, every second round is followed by a leap to where the last two point (SQUAREM; Varadhan & Roland,
    2008), without which it takes 80 to come as far: with $r = \theta_1 - \theta_0$ and $v = \theta_2 - 2 \theta_1 +
    \theta_0$ to $\theta_0 + 2 a r + a^2 v$, $a = |r| / |v|$. One after which $\log p(x_{obs})$ is lower is taken back.
    With several, a leap may end near a lower maximum.

    Args:
        x: Data with missing cells; every column is observed somewhere.
        components: Number of Gaussians C.
        floor: Smallest variance in any direction, as a fraction of the columns' variances.
        seed: Seed of the start.
    """
    joint = _start(x, components, floor, seed)
    # one thread for all of a small table, whose every operation would take longer shared out
    each_alone(partial(_climb, joint), [x]) if len(x) <= FEW else _climb(joint, x)
    return joint


@torch.no_grad()
def _climb(joint: Joint, x: Float[Tensor, "n d"]) -> None:
    assert isinstance(joint.likelihood, Component)
    rows, parameters, leaps = joint.likelihood.prepared(x), list(joint.parameters()), len(joint.likelihood.offsets) == 1
    reached, safe = -torch.inf, parameters_to_vector(parameters)
    for _ in range((ROUNDS if leaps else OF_SEVERAL) // 2):
        start = parameters_to_vector(parameters)
        _round(joint, rows)
        one = parameters_to_vector(parameters)
        # not that of where a leap ends, which may be below the floor of the variances, but of the round after it
        log_px = _round(joint, rows)
        # `not >=` instead of `<`: a NaN is taken back
        if not log_px >= reached:
            vector_to_parameters(safe.clone(), parameters)  # a copy: what is set there is changed in place
            continue
        safe = parameters_to_vector(parameters)
        if log_px - reached < GAIN:
            return
        reached, r, v = log_px, one - start, safe - 2 * one + start
        if leaps:
            length = (r.norm() / v.norm()).nan_to_num(1.0).clamp(1.0, LONGEST)
            vector_to_parameters(start + 2 * length * r + length.square() * v, parameters)
    vector_to_parameters(safe, parameters)


def _round(joint: Joint, rows: Tensor | Holes) -> float:
    r"""Make one round, and tell the mean of $\log p(x_{obs})$ before it."""
    log_px, sums = expect(joint, rows)
    joint.prior.maximise(sums["prior"])
    joint.likelihood.maximise(sums["likelihood"])
    return log_px.mean().item()


def _start(x: Tensor, components: int, floor: float, seed: int) -> Joint:
    with seeding.forked():
        seeding.seed(seeding.key(seed, "mixture", 0), x.device)
        likelihood = Component(x.shape[1:], components, min_variance=floor)
        joint = Joint(Categorical(components), likelihood).to(x)
        likelihood.initialise(x)
        joint.prior.maximise({"counts": likelihood.counts})
    return joint.requires_grad_(False)
