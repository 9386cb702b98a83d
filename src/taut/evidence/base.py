"""Base classes of the estimators of log p(x)."""

from abc import ABC, abstractmethod
from typing import ClassVar

from jaxtyping import Float, Int
from torch import Tensor

from taut.errors import UserError
from taut.evidence import rows as limits
from taut.evidence.contradictions import impossible
from taut.evidence.log_evidence import Kind, LogEvidence
from taut.evidence.rows import Rows, refuse_inconsistent
from taut.evidence.target import Target
from taut.functional.consistency import Void
from taut.functional.precision import exact_arithmetic


class Evidence(ABC):
    """An estimator of log p(x). A new one sets ``name`` and ``kind`` and implements ``estimate``.

    Attributes:
        name: Its name on the command line and in every table.
        kind: What its values are.
        simulated: Whether it needs data simulated from the model together with their z.
    """

    name: ClassVar[str]
    kind: ClassVar[Kind]
    simulated: ClassVar[bool] = False

    def check(self, target: Target) -> None:
        """Refuse a model it does not fit.

        Raises:
            UserError: Naming what would fit.
        """
        del target

    @property
    def cost(self) -> float:
        """About how many evaluations of log p(x, z) one datum takes: what progress is measured in."""
        return 1.0

    @abstractmethod
    def estimate(self, rows: Rows) -> LogEvidence:
        """The value of each datum."""

    def __call__(
        self,
        target: Target,
        x: Float[Tensor, "b *x"],
        index: Int[Tensor, " b"] | None = None,
        *,
        seed: int = 0,
        split: str = "x",
        z: Float[Tensor, "b *z"] | None = None,
    ) -> LogEvidence:
        """Estimate log p(x) of each datum, in IEEE arithmetic and without a graph.

        Args:
            target: The model and its proposal.
            x: Data, shape ``[b, *x_shape]``.
            index: Row of each datum, what its noise is keyed by; 0, 1, ... if not given.
            seed: Seed of the noise.
            split: Name of the split, part of the key.
            z: For data simulated from the model, the z each came from.

        Raises:
            UserError: If the estimator does not fit the model, or a datum is not finite.
            Void: If p(x) is a probability mass and the mean of its log above 0.
        """
        self.check(target)
        if self.simulated and z is None:
            raise UserError(
                f"evidence={self.name} bounds log p(x) of data simulated from the model and needs the z they came "
                "from; give z, or use evidence=struski on real data."
            )
        refuse_inconsistent(target, x)
        rows = Rows(target, x, index, seed=seed, split=split, z=z)
        size = max(1, limits.MOST_WEIGHTS // getattr(self, "k", 1))
        with exact_arithmetic(x.device):
            parts = [self.estimate(rows.part(slice(i, i + size))) for i in range(0, max(1, len(rows)), size)]
        found = LogEvidence.cat(parts)
        for sentence in impossible([found], mass=target.mass, where=f"{len(rows)} data").values():
            raise Void(sentence)
        return found


def count(name: str, value: object, least: int = 1) -> int:
    """A number of samples, steps or chains.

    Raises:
        UserError: If it is not an integer >= ``least``.
    """
    # to Python True is an int
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise UserError(f"{name} must be an integer >= {least}, got {value!r}.")
    return value


class Simulated(Evidence):
    """An estimator that needs data simulated from the model, together with their z."""

    simulated = True

    def check(self, target: Target) -> None:
        if target.simulate is None:
            raise UserError(
                f"evidence={self.name} needs data simulated from the model, but the target cannot simulate; give "
                "Target(simulate=...), or use evidence=struski."
            )
