"""Names that classes had in configs written before the package was divided into folders.

Runs of taut 0.1.0 and before name them in ``.hydra/config.yaml``; they stay readable until taut 0.3, or until
31 December 2027 if that is later. Then this module goes, with its three callers and ``tests/stored_runs``.
"""

from typing import Any

MOVED = {
    "taut.prior": "taut.model.prior",
    "taut.q": "taut.model.q",
    "taut.likelihood": "taut.model.likelihood",
    "taut.networks": "taut.model.networks",
    "taut.model.fa": "taut.training.models",
    "taut.model.iwae": "taut.training.models",
    "taut.model.mog": "taut.training.models",
    "taut.model.ppca": "taut.training.models",
    "taut.model.vae": "taut.training.models",
    "taut.mask.file": "taut.data.mask.cells",
    "taut.mask.from_data": "taut.data.mask.cells",
    "taut.mask.random": "taut.data.mask.cells",
    "taut.mask.bottom_half": "taut.data.mask.regions",
    "taut.mask.left_half": "taut.data.mask.regions",
    "taut.mask.quadrants": "taut.data.mask.regions",
    "taut.mask.square": "taut.data.mask.regions",
    "taut.mask.top_half": "taut.data.mask.regions",
    "taut.callbacks.early_stopping": "taut.training.callbacks.checkpoints",
    "taut.callbacks.rng": "taut.training.callbacks.checkpoints",
    "taut.callbacks.speed": "taut.training.callbacks.progress",
    "taut.callbacks.summary": "taut.training.callbacks.progress",
    "taut.callbacks": "taut.training.callbacks",
    "taut.loggers": "taut.training.loggers",
    "taut.schedule": "taut.training.schedulers",
    "taut.strategies": "taut.training.strategies",
}
"""Modules and packages, old to new."""


def current_target(target: str) -> str:
    """Name of today for the class or function that an older config calls ``target``; any other name as it is."""
    parts = target.split(".")
    for end in range(len(parts) - 1, 1, -1):  # the longest name first: a module may have left its package
        moved = MOVED.get(".".join(parts[:end]))
        if moved is not None:
            return ".".join([moved, *parts[end:]])
    return target


def current_targets(config: Any) -> Any:
    """The config, as plain containers, with every ``_target_`` under its name of today."""
    if isinstance(config, dict):
        return {
            key: current_target(value) if key == "_target_" and isinstance(value, str) else current_targets(value)
            for key, value in config.items()
        }
    if isinstance(config, list):
        return [current_targets(part) for part in config]
    return config


def current_word(word: str) -> str:
    """The override with the target it sets, if it sets one, under its name of today."""
    key, equals, value = word.partition("=")
    return f"{key}={current_target(value)}" if equals and key.endswith("_target_") else word
