"""What a table says of how training ended: whether it converged, and the information criteria."""

from collections.abc import Mapping
from typing import Any

CRITERIA = {"bic": "BIC", "aic": "AIC", "icl": "ICL"}

Result = Mapping[str, Any]


def fitted(result: Result) -> list[str]:
    """Lines on the training rows; none for a run that has neither criteria nor a tolerance."""
    lines, found, converged = [], result.get("criteria"), result.get("converged")
    if found:
        known = [f"{name} {found[key]:,.3f}" for key, name in CRITERIA.items() if found[key] is not None]
        lines = [
            f"{found['n']:,} training rows: log p(x) {found['log_likelihood']:,.3f} in all, {found['parameters']:,} "
            "free parameters",
            f"{', '.join(known)} (lower is better)",
        ]
    if converged is not None:
        lines.append(f"converged: {'yes' if converged else 'no'}, {result['epochs']:,} epochs")
    return lines


def unfinished(result: Result) -> list[str]:
    """The warning for training that ended before it converged."""
    if result.get("converged") is not False:
        return []
    return ["EM has not converged, and the criteria presume a maximum; raise trainer.max_epochs and resume the run."]
