"""Gaussian q that sees which cells are missing."""

from taut.model.q.diagonal import Diagonal


class Masked(Diagonal):
    r"""$q(z \mid x_{obs}, m) = N(z; \mu, \mathrm{diag}\, e^s)$, from x with zeros in its missing cells and the mask m.

    With ``mask=random mask.fresh=true`` it learns a proposal for every mask, where a q that has never met a missing one
    takes the zeros for values (Mattei & Frellsen, 2019; Ivanov, Figurnov & Vetrov, 2019). Arguments as for
    :class:`~taut.model.q.diagonal.Diagonal`.
    """

    sees_mask = True
