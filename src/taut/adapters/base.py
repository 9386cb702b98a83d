"""What an audit asks of a model that knows nothing of taut."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent

from taut.adapters.proposal import family_of, proposal_from
from taut.adapters.zuko import in_float64, is_flow
from taut.errors import UserError
from taut.evidence.optimal_q import Family
from taut.evidence.target import Target
from taut.functional.precision import in_double

LogJoint = Callable[[Tensor, Tensor], Tensor]
Simulate = Callable[[int], tuple[Tensor, Tensor]]


@runtime_checkable
class Auditable(Protocol):
    r"""A model and a q that an audit takes as they are: two methods, and three more that it looks for.

    Optional are ``simulate(n)``, n pairs (z, x) drawn from the model: it admits the upper bounds that need a z of the
    posterior; ``prior``, the distribution $p(z)$ with batch ``()``: it admits the KL of q from it, and chains that
    start there; and ``mass``, whether p(x) is a probability mass, so that a log p(x) above 0 is refused.

    >>> import torch
    >>> from torch.distributions import Independent, Normal
    >>> class Mine:
    ...     prior = Independent(Normal(torch.zeros(2), 1.0), 1)
    ...     def log_joint(self, x, z):  # x [b, 2] and z [k, b, 2] to [k, b]
    ...         return self.prior.log_prob(z) + Normal(z, 1.0).log_prob(x).sum(-1)
    ...     def q(self, x):  # or its mean and log-variance
    ...         return Independent(Normal(x / 2, 0.8), 1)
    >>> isinstance(Mine(), Auditable)
    True
    """

    def log_joint(self, x: Tensor, z: Tensor) -> Tensor:
        r"""$\log p(x, z)$ in nats, all constants included; x ``[b, *x]`` and z ``[k, b, *z]`` to ``[k, b]``."""
        ...

    def q(self, x: Tensor) -> Any:
        r"""$q(z \mid x)$: a distribution of torch with batch ``(b,)``, or mean and log-variance of a Gaussian."""
        ...


@dataclass(frozen=True)
class Subject:
    """A model put into taut's terms.

    Args:
        target: The model and its q.
        family: The parameters of q, which a local search moves; None where q has none that it knows.
    """

    target: Target
    family: Family | None = None


class Adapter(ABC):
    """From a model of some package to a :class:`Subject`. Concrete classes are final.

    Attributes:
        name: What the model is called in the tables.
        modules: The modules of torch in it, which an audit puts into evaluation mode while it lasts.
        data: The data that the model was trained on, where it brings them along.
    """

    name: str
    modules: Sequence[nn.Module] = ()
    data: Tensor | None = None

    @abstractmethod
    def subject(self, x: Tensor) -> Subject:
        """The model in taut's terms.

        Args:
            x: The data of the audit, ``[n, *x]``: their shape is what the model is asked with.

        Raises:
            UserError: If model, q and data do not go together.
        """


class OfFunctions(Adapter):
    r"""A model of functions, of torch or of another package.

    Args:
        log_joint: $\log p(x, z)$ in nats, from x ``[b, *x]`` and z ``[k, b, *z]`` to ``[k, b]``.
        q: $q(z \mid x)$.
        simulate: Pairs (z, x) drawn from the model.
        prior: The distribution of z, batch ``()``, or what gives it when it is called.
        mass: Whether p(x) is a probability mass.
        name: What the model is called; by default as ``log_joint`` is.
    """

    def __init__(
        self,
        log_joint: Callable[[Any, Any], Any],
        q: Any,
        simulate: Callable[..., tuple[Any, Any]] | None = None,
        prior: Any = None,
        *,
        mass: bool = False,
        name: str | None = None,
    ) -> None:
        self.log_joint, self.q, self.simulate, self.prior, self.mass = log_joint, q, simulate, prior, mass
        self.name = name or name_of(log_joint)
        self.modules = modules_in(log_joint, q, simulate, prior)

    def subject(self, x: Tensor) -> Subject:
        log_joint, q, simulate = self.of_tensors(x)
        prior = None if self.prior is None else prior_of(self.prior, q(x[:1]))
        target = Target(log_joint, q, prior, simulate=simulate, mass=self.mass)
        return checked(Subject(target, family_of(q, x)), x)

    @abstractmethod
    def of_tensors(self, x: Tensor) -> tuple[LogJoint, Callable[[Tensor], Distribution], Simulate | None]:
        """``log_joint``, ``q`` and ``simulate`` as functions of tensors, for data such as x."""


class Functions(OfFunctions):
    """A model of functions of torch, or an :class:`Auditable`, whose methods they are.

    Its ``q`` is as in :class:`Auditable`, or an object with ``sample(x, k)``, which gives z ``[k, b, *z]``, and
    ``log_prob(x, z)``; ``simulate`` takes n.
    """

    @classmethod
    def of(cls, model: Auditable) -> "Functions":
        """The methods of an object."""
        known = {name: getattr(model, name, None) for name in ("simulate", "prior")}
        made = cls(model.log_joint, model.q, **known, mass=getattr(model, "mass", False), name=type(model).__name__)
        made.modules = modules_in(model)
        return made

    def of_tensors(self, x: Tensor) -> tuple[LogJoint, Callable[[Tensor], Distribution], Simulate | None]:
        return self.log_joint, proposal_from(self.q, x), self.simulate


def checked(subject: Subject, x: Tensor) -> Subject:
    """The subject, once log p(x, z) has been asked for one datum.

    Raises:
        UserError: If q gives no draws there, or the model no log-density of them.
    """
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        z = subject.target.q(x[:1]).sample(torch.Size([2]))
        try:
            log_p = subject.target.log_joint(x[:1], z)
        except RuntimeError as error:
            if "dtype" not in str(error) and "Double" not in str(error):
                raise
            raise UserError(
                f"log_joint(x, z) is handed z in float64, and a network in it is not ({str(error).splitlines()[0]}); "
                "give the network z.float(), and take the densities of z in float64."
            ) from error
    if not isinstance(log_p, Tensor) or log_p.shape != z.shape[:2]:
        shape = list(log_p.shape) if isinstance(log_p, Tensor) else type(log_p).__name__
        raise UserError(
            f"log_joint(x, z) of x {list(x[:1].shape)} and z {list(z.shape)} is {shape}; it must be a tensor of shape "
            f"{list(z.shape[:2])}, [k, b]: one number for each z of each datum, summed over their axes."
        )
    return subject


def prior_of(given: Any, q: Distribution) -> Distribution:
    """p(z) with batch ``()`` and the events of q, in float64.

    Args:
        given: A distribution, independent along all of its axes if need be, or what gives one when it is called.
        q: The q of a datum.

    Raises:
        UserError: If it is none, or its events are of another shape.
    """
    given = in_float64(given) if is_flow(given) and not isinstance(given, Distribution) else given
    prior = given if isinstance(given, Distribution) else given()
    if not isinstance(prior, Distribution):
        raise UserError(f"prior must be a distribution of torch, or give one when it is called, got {prior!r}.")
    if prior.batch_shape:
        prior = Independent(prior, len(prior.batch_shape), validate_args=False)
    if prior.event_shape != q.event_shape:
        raise UserError(
            f"prior is over z of shape {list(prior.event_shape)} and q(x) over z of shape {list(q.event_shape)}; they "
            "must be the same."
        )
    return in_double(prior)


def name_of(program: Any) -> str:
    """Name of a function, or of the class of an object that is called like one."""
    name = getattr(program, "__name__", type(program).__name__)
    return "model" if name == "<lambda>" else name


def modules_in(*parts: Any) -> tuple[nn.Module, ...]:
    """The modules of torch among some objects, the objects of bound methods and their attributes."""
    owners = [getattr(part, "__self__", part) for part in parts]
    held = [value for owner in owners for value in [owner, *getattr(owner, "__dict__", {}).values()]]
    return tuple({id(value): value for value in held if isinstance(value, nn.Module)}.values())


def dtype_of(module: Any, like: Tensor) -> torch.dtype:
    """The float type a module computes with: that of its parameters, or for what is no module that of the data."""
    parameters = module.parameters() if isinstance(module, nn.Module) else ()
    return next((one.dtype for one in parameters if one.is_floating_point()), like.dtype)
