r"""A bracket of $\log p(x)$ of a stated width: samples go where they are needed.

Pilot draws tell for each datum what its weights are like. Where weights of q are bad, chains are annealed from q
(:meth:`taut.evidence.annealing.Annealed.unadjusted`); how many steps they take, and how long ones, is found on a few of
the data, and where that does not help a datum, its chains take four times as many. Both give independent weights whose
mean is p(x). Then the sizes are fixed (:func:`taut.functional.allocation.allocate`), the pilots are thrown away, and
fresh draws of these sizes give the values: what has been chosen by looking at draws is never judged by the same draws.
"""

from taut.evidence.tolerance.bracket import bracket
from taut.evidence.tolerance.goal import METHODS, Bracketed, Goal

__all__ = ["METHODS", "Bracketed", "Goal", "bracket"]
