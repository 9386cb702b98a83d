"""The estimators that a command asks for."""

from omegaconf import DictConfig

from taut.config.instantiate import instantiate
from taut.errors import UserError
from taut.evidence import Evidence, Exact, Target


def refuse_others(nodes: DictConfig) -> None:
    """Refuse what is no estimator, before anything is read.

    Raises:
        UserError: Naming it.
    """
    for name, node in nodes.items():
        if not str(node.get("_target_")).startswith("taut.evidence."):
            raise UserError(f"evidence.{name} is no estimator of log p(x); choose evidence=[importance,ais].")


def fitting(nodes: DictConfig, target: Target, unfit: str) -> tuple[list[Evidence], list[str]]:
    """Those that fit the model, with the exact value in front where it costs nothing; and why others were skipped.

    Args:
        nodes: The estimators by name.
        target: The model.
        unfit: ``refuse`` or ``skip`` those that do not fit.

    Raises:
        UserError: If one does not fit and may not be skipped.
    """
    found: list[Evidence] = []
    skipped = []
    for node in nodes.values():
        try:
            one = instantiate(node)
            one.check(target)
            found.append(one)
        except UserError as error:
            if unfit == "refuse":
                raise
            skipped.append(str(error))
    free = target.exact is not None or target.discrete
    if free and not any(isinstance(one, Exact) for one in found):
        found.insert(0, Exact())
    return found, skipped
