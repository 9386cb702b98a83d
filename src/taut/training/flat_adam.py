r"""Adam over all parameters at once, where they lie end to end in memory.

torch's own updates one tensor after another, and looks all of them up again at every step. Parameters, gradients and
moments that are parts of four long arrays are updated by one call, in half of the time: a twentieth of a step at K = 1
(``python -m benchmarks.train --k 1``). State and checkpoints are those of ``torch.optim.Adam``.
"""

from collections.abc import Callable
from itertools import accumulate
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.optim.adam import adam

ALIGNED = 16
"""Numbers between which parameters start: 64 bytes, a line of a cache."""
MOMENTS = ("exp_avg", "exp_avg_sq")


class Flat(NamedTuple):
    """Parameters, and what goes with them, end to end.

    Args:
        values: Of all parameters.
        gradients: By all parameters.
        moments: First and second moments.
        step: Steps that were made.
        steps: The same number for each parameter, of which its state has a view.
        addresses: Where each parameter lies.
        parts: Views of the gradients, by parameter.
    """

    values: Tensor
    gradients: Tensor
    moments: tuple[Tensor, Tensor]
    step: Tensor
    steps: Tensor
    addresses: list[int]
    parts: dict[Tensor, Tensor]


class FlatAdam(torch.optim.Adam):
    """``torch.optim.Adam``, whose parameters can be laid end to end: until then, and where it cannot be, the same."""

    _flat: Flat | None = None

    @classmethod
    def of(cls, optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
        """The same optimiser, as one that can; any other one as it is."""
        # its own type, not a subclass, which may do something else
        return cls(optimizer.param_groups, **optimizer.defaults) if type(optimizer) is torch.optim.Adam else optimizer

    @torch.no_grad()
    def lay(self) -> dict[Tensor, Tensor]:
        """Lay parameters and state end to end; returns where each parameter's gradient is best written.

        None are returned where the settings, the precision, the device or a state that counts unequal steps forbid it.
        """
        group, state = self.param_groups[0], self.state
        parameters: list[Tensor] = group["params"]
        odd = any(group[name] for name in ("amsgrad", "differentiable", "capturable")) or not group["fused"]
        steps = {float(state[p]["step"]) if state[p] else 0.0 for p in parameters}
        same = all(p.dtype == torch.float32 and p.device.type == "cpu" and p.is_contiguous() for p in parameters)
        if odd or not same or len(self.param_groups) > 1 or len(steps) > 1 or isinstance(group["lr"], Tensor):
            return {}
        starts = list(accumulate((-(-p.numel() // ALIGNED) * ALIGNED for p in parameters), initial=0))
        values, gradients, *moments = torch.zeros(4, starts[-1]).unbind()
        counts = torch.full((len(parameters),), steps.pop())

        def part(of: Tensor, number: int) -> Tensor:
            p = parameters[number]
            return of[starts[number] : starts[number] + p.numel()].view(p.shape)

        for number, p in enumerate(parameters):
            p.data = part(values, number).copy_(p)
            own = {name: part(of, number) for name, of in zip(MOMENTS, moments, strict=True)}
            for name, kept in own.items() if state[p] else ():
                kept.copy_(state[p][name])
            state[p] = {"step": counts[number], **own}
        parts = {p: part(gradients, number) for number, p in enumerate(parameters)}
        addresses = [p.data_ptr() for p in parameters]
        first, second = moments
        self._flat = Flat(values, gradients, (first, second), counts[0].clone(), counts, addresses, parts)
        return parts

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over a state, which is then nowhere near the others."""
        self._flat = None
        super().load_state_dict(state_dict)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """One step; where a gradient lies elsewhere, or somebody has moved a parameter, by torch's own way."""
        if self._flat is None:
            return super().step(closure)
        with torch.enable_grad():
            loss = None if closure is None else closure()
        flat = self._flat
        if any(p.grad is not kept for p, kept in flat.parts.items()) or self._moved(flat):
            super().step()
            flat.step.copy_(flat.steps[0])
            return loss
        group = self.param_groups[0]
        beta1, beta2 = group["betas"]
        adam(
            [flat.values],
            [flat.gradients],
            [flat.moments[0]],
            [flat.moments[1]],
            [],
            [flat.step],
            fused=True,
            amsgrad=False,
            beta1=beta1,
            beta2=beta2,
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=group["maximize"],
            decoupled_weight_decay=group["decoupled_weight_decay"],
        )
        flat.steps.add_(1)
        return loss

    @staticmethod
    def _moved(flat: Flat) -> bool:
        return any(p.data_ptr() != at for p, at in zip(flat.parts, flat.addresses, strict=True))
