"""Early stopping on a number that may be selected on."""

from typing import Any

from lightning.pytorch.callbacks import EarlyStopping

from taut.errors import UserError


def early_stopping(monitor: str = "val/bound", mode: str = "max", **settings: Any) -> EarlyStopping:
    """Lightning's ``EarlyStopping`` for a validation score; NaN stops the run.

    Args:
        monitor: Name of a ``val/`` metric.
        mode: ``max`` for bounds, ``min`` for the gap.
        settings: Further arguments of Lightning's callback, such as ``patience`` and ``min_delta`` (nats).

    Raises:
        UserError: If ``monitor`` is a test score or what training minimises.
    """
    return EarlyStopping(monitor=selectable(monitor), mode=mode, check_finite=True, **settings)


def selectable(monitor: str) -> str:
    """Let a validation score through and refuse any other.

    Raises:
        UserError: If ``monitor`` does not start with ``val/``.
    """
    if not monitor.startswith("val/"):
        raise UserError(
            f"monitor={monitor} may not choose when to stop or what to keep: test scores are for the end and "
            "train/ scores reward over-fitting; use a validation score such as val/bound."
        )
    return monitor
