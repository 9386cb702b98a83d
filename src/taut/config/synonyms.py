"""Names that the field has for choices and keys which are called otherwise here."""

from collections.abc import Iterable, Mapping

from taut.errors import nearest

CHOICES: Mapping[str, Mapping[str, str]] = {
    "model": {"gmm": "mog", "gaussian_mixture": "mog", "not_miwae": "likelihood=self_masking"},
    "data": {"csv": "table"},
    "prior": {"gauss": "normal", "gaussian": "normal"},
    "likelihood": {"normal": "gaussian", "nb": "negative_binomial", "not_miwae": "self_masking"},
    "q": {"normal": "diagonal", "gaussian": "diagonal", "mean_field": "diagonal"},
    "objective": {"vae": "elbo", "wake_sleep": "rws", "renyi": "vr_iwae"},
    "strategy": {"cuda": "gpu"},
}
"""By group, the choice that is meant; with the group before it where it is another one."""
KEYS: Mapping[str, str] = {
    "K": "k",
    "epochs": "trainer.max_epochs",
    "learning_rate": "optimizer.lr",
}


def meant(group: str, name: str, known: Iterable[str]) -> str:
    """The end of a sentence about a choice that does not exist: the one of that meaning, else the nearest spelling."""
    choices = list(known)
    choice = CHOICES.get(group, {}).get(name.lower().replace("-", "_"))
    if choice is not None and (choice in choices or "=" in choice):
        return f"did you mean {choice}?"
    return nearest(name, choices)
