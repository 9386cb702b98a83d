"""Latent sites of a probabilistic program as one z, and the axis of the data in its densities: Pyro's and NumPyro's."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.distributions import Distribution, Independent, Normal, constraints
from torch.distributions.constraints import Constraint

from taut.errors import UserError


@dataclass(frozen=True)
class Layout:
    """How z is made of the latent sites of a program.

    Args:
        plate: Name of the plate over the data.
        shapes: Shape of each site for one datum, by its name, in the order of the guide.
        mass: Whether all that is observed has a probability mass.
        support: Where z lives.
    """

    plate: str
    shapes: Mapping[str, tuple[int, ...]]
    mass: bool = False
    support: Constraint = constraints.real_vector

    @property
    def size(self) -> int:
        """Coordinates of all sites together."""
        return sum(torch.Size(shape).numel() for shape in self.shapes.values())

    @property
    def z_shape(self) -> tuple[int, ...]:
        """Shape of one z: that of the site where there is one, else its coordinates in a row."""
        return next(iter(self.shapes.values())) if len(self.shapes) == 1 else (self.size,)

    def sites(self, rows: Any) -> dict[str, Any]:
        """Rows of z, ``[n, *z]``, as the value of each site."""
        flat, values, start = rows.reshape(len(rows), -1), {}, 0
        for name, shape in self.shapes.items():
            end = start + torch.Size(shape).numel()
            values[name], start = flat[:, start:end].reshape(len(rows), *shape), end
        return values

    def of_each_datum(self, name: str, site: Mapping[str, Any], log_prob: Any) -> Any:
        """Log-densities of a site, summed over all axes but that of the data.

        Raises:
            UserError: If the site is in no plate over the data.
        """
        dims = [frame.dim for frame in site["cond_indep_stack"] if frame.name == self.plate]
        if not dims:
            raise UserError(
                f"The site {name} is outside of the plate {self.plate} over the data, so that the data have no p(x) of "
                "their own; an audit takes models in which every site belongs to a datum."
            )
        at = log_prob.ndim + dims[0]
        others = tuple(axis for axis in range(log_prob.ndim) if axis != at)
        # to torch no axes are all of them
        return log_prob.sum(others) if others else log_prob

    def observe_alone(self, one: Mapping[str, Any], other: Mapping[str, Any], size: int) -> bool:
        """Tell whether x is the one observation of a model, and its density given z is that of no other x.

        Args:
            one: Sites of a trace of the model at some z and x, by name.
            other: Those at the same z and another x.
            size: Numbers of x.
        """
        sites = [[site for name, site in trace.items() if name not in self.shapes] for trace in (one, other)]
        if any(len(found) != 1 for found in sites) or len(sites[0][0]["value"].reshape(-1)) != size:
            return False
        first, second = (found[0]["fn"].log_prob(sites[0][0]["value"]).reshape(-1).tolist() for found in sites)
        return np.allclose(first, second)


def layout_of(one: Mapping[str, Any], two: Mapping[str, Any], given: Mapping[str, Any]) -> Layout:
    """How z is made of the latent sites of a guide, and which plate is over the data.

    Args:
        one: Sites of a trace of the guide of one datum, by name.
        two: Those of two.
        given: Sites of a trace of the model.

    Raises:
        UserError: If guide and model have other latent sites, or the guide has no plate over the data.
    """
    latent = {name: site for name, site in one.items() if not site["is_observed"]}
    missing = {name for name, site in given.items() if not site["is_observed"]} ^ set(latent)
    if missing or not latent:
        raise UserError(
            "Guide and model must have the same latent sites; of one of the two alone there is "
            f"{', '.join(sorted(missing)) or 'none'}."
        )
    observed = [site for site in given.values() if site["is_observed"]]
    mass = bool(observed) and all(site["fn"].support.is_discrete for site in observed)
    shapes = {name: tuple(site["value"].shape[1:]) for name, site in latent.items()}
    return Layout(plate_of_data(one, two), shapes, mass)


def repeated(batch: Distribution) -> Distribution | None:
    """The Gaussian of independent coordinates that a batch repeats for every datum; None where it is none."""
    if not isinstance(batch, Independent) or not isinstance(batch.base_dist, Normal):
        return None
    mean, deviation = batch.mean, batch.stddev
    if not (torch.equal(mean, mean[:1].expand_as(mean)) and torch.equal(deviation, deviation[:1].expand_as(mean))):
        return None
    return Independent(Normal(mean[0], deviation[0], validate_args=False), mean.dim() - 1, validate_args=False)


def plate_of_data(one: Mapping[str, Any], two: Mapping[str, Any]) -> str:
    """The plate that is as long as the data: of one datum, and of two.

    Args:
        one: Sites of a trace of one datum, by name.
        two: Those of two.

    Raises:
        UserError: If there is none.
    """
    lengths = [
        {frame.name: frame.size for site in sites.values() for frame in site["cond_indep_stack"]}
        for sites in (one, two)
    ]
    for name, size in lengths[0].items():
        if size == 1 and lengths[1].get(name) == 2:
            return name
    raise UserError(
        "The guide has no plate over the data; write with pyro.plate('data', len(x)), or numpyro.plate, around its "
        "sites."
    )
