"""Objects from config nodes."""

from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig

from taut.errors import UserError


def make(node: DictConfig, **known: Any) -> Any:
    """The object a node describes, given plain containers and whatever only the program knows.

    Raises:
        UserError: As the object's own constructor said it, without Hydra's wrapping.
    """
    try:
        return instantiate(node, **known, _convert_="all")
    except InstantiationException as error:
        if isinstance(error.__cause__, UserError):
            raise error.__cause__ from None
        raise
