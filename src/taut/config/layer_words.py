"""``layers=[100,50]``: one word for a prior and a q of several stochastic layers."""

from collections.abc import Sequence

from taut.config.overrides import key, parsed_word
from taut.errors import UserError

LAYERS = "layers"
SIZES = "prior.sizes=${layers}"
"""An interpolation, so that the numbers stand in one place of a config."""


def with_layers(words: Sequence[str]) -> list[str]:
    """The words of one run, where ``layers=`` gives sizes with the choices that it stands for.

    These are ``prior=layers`` with these sizes, and ``q=layers`` unless another q is named.

    Raises:
        UserError: If another word says of what size z is, or chooses a prior that has no layers.
    """
    named = {key(word): word for word in words}
    if LAYERS not in named or not isinstance(_value(named[LAYERS]), list):
        return list(words)
    given, prior, sizes = named[LAYERS], named.get("prior", "prior=layers"), named.get("prior.sizes", SIZES)
    for word in (named.get("latent_dim"), None if sizes == SIZES else sizes):
        if word is not None:
            raise UserError(f"{word} and {given} both say how many coordinates z has; leave one of them out.")
    if _value(prior) != LAYERS:
        raise UserError(f"{given} is a prior of several layers, and {prior} another one; leave one of them out.")
    added = {"prior": "prior=layers", "prior.sizes": SIZES, "q": "q=layers"}
    return [*words, *(word for name, word in added.items() if name not in named)]


def _value(word: str) -> object:
    return parsed_word(word).value()
