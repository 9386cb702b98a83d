"""Runs read back in Python."""

# pyright: strict
import html
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from taut.api.model import Model
from taut.config.run_folder import RESULT, read_result
from taut.data.base import Data
from taut.report.numbers import number
from taut.runtime.untouched import untouched
from taut.training.stored_run import Run as StoredRun


class Run:
    """A run, read back from its folder.

    Args:
        stored: The folder and its config.
        model: The trained model.
        data: The data of the run.
        checkpoint: What the checkpoint says of itself.

    Attributes:
        folder: Where it is.
        name: The run in one line: model, data, binarisation, prior, q, k and seed.
        config: The composed config; reading alone.
        model: The trained :class:`~taut.api.model.Model`, with the weights of the best validation bound.
        data: Its :class:`~taut.data.base.Data`; ``data.rows_of("test")`` are the rows it is tested on.
        checkpoint: File, epoch and step of the weights.
        result: What ``result.json`` says, every score with its kind and errors; empty where training has not ended.
    """

    def __init__(self, stored: StoredRun, model: Model, data: Data, checkpoint: dict[str, Any]) -> None:
        self.stored, self.model, self.data, self.checkpoint = stored, model, data, checkpoint
        self.folder, self.name = stored.folder, stored.name
        self.config: DictConfig = stored.cfg.copy()
        OmegaConf.set_readonly(self.config, True)
        self.result: dict[str, Any] = read_result(stored.folder) if (stored.folder / RESULT).exists() else {}

    def __repr__(self) -> str:
        lines = [f"taut run: {self.name}", f"  {self.folder}", f"  {self._weights}"]
        for name, *numbers, what in self._rows():
            lines.append(f"  {name:<10}{''.join(f'{each:>14}' for each in numbers)}  {what}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        left, right = ('<td style="text-align: left">', '<td style="text-align: right">')
        rows = "".join(
            f"<tr>{left}{name}</td>{''.join(f'{right}{n}</td>' for n in numbers)}{left}{what}</td></tr>"
            for name, *numbers, what in (map(html.escape, row) for row in self._rows())
        )
        heading = f"<b>{html.escape(self.name)}</b><br><code>{html.escape(str(self.folder))}</code>"
        return f"<div>{heading}<br>{html.escape(self._weights)}<table><tbody>{rows}</tbody></table></div>"

    @property
    def _weights(self) -> str:
        epoch, step = self.checkpoint["epoch"], self.checkpoint["step"]
        return f"weights of {self.checkpoint['file']}: epoch {epoch}, step {step}"

    def _rows(self) -> Iterator[tuple[str, ...]]:
        """The scores on the test split, in nats per datum: name, value, both errors, and what kind of number it is."""
        scores: dict[str, dict[str, Any]] = self.result.get("scores", {})
        if scores:
            yield "score", "value", "s.e. (data)", "s.e. (MC)", f"{self.result['split']} split, nats per datum"
        for name, words in {"elbo": "ELBO", "bound": "bound", "log_px": "log p(x)", "gap": "gap"}.items():
            score = scores.get(name)
            if score is not None and score.get("value") is not None:
                k = "" if score.get("k") is None else f", K = {score['k']}"
                kind = "at least" if name == "gap" and score["kind"] == "lower" else score["kind"]
                numbers = (score.get(key) for key in ("value", "standard_error", "monte_carlo_error"))
                yield words, *map(number, numbers), f"{kind}{k}"


def load(folder: str | Path, *, trust: str | Sequence[str] = (), files: Mapping[str, str] | None = None) -> Run:
    """Read a run back: its config, its data, and its model with the weights of the best validation bound.

    Checkpoints are not unpickled, and a folder is read as one of a stranger: see ``trust``.

    Args:
        folder: The run folder.
        trust: Packages whose classes the run may build, beside those of taut: name those that you know.
        files: Where files of the run are now, by key, e.g. ``{"data.path": "my.csv"}``, if they have moved.

    Raises:
        UserError: If it is not the folder of a run, or damaged, or of another version, or its data are not found.
    """
    path = Path(folder)
    stored = StoredRun.open(path, files, said=str(path), trust=trust)
    with untouched(stored.precision):
        module, data, checkpoint = stored.load()
    return Run(stored, Model(module), data, checkpoint)
