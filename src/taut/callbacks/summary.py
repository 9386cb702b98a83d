"""The size of a model, in one line."""

from lightning.pytorch import Callback, LightningModule, Trainer
from rich.console import Console
from torch import nn


class Sizes(Callback):
    """Prints the number of parameters of prior, likelihood and q before training starts."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Before a strategy spreads the parameters over processes."""
        if trainer.is_global_zero and stage == "fit":
            joint, q = pl_module.joint, pl_module.q
            parts = {"prior": joint.prior, "likelihood": joint.likelihood, "q": q}  # type: ignore[union-attr]
            sizes = ", ".join(f"{name} {own_size(part):,}" for name, part in parts.items())
            Console().print(f"parameters: {sizes}", highlight=False)


def own_size(part: nn.Module) -> int:
    """Number of parameters of a piece without those of the joint it may refer to."""
    return sum(p.numel() for name, p in part.named_parameters() if not name.startswith("joint."))
