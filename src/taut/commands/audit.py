"""The command that audits somebody's model: load it, bracket its log p(x), write and print what was found."""

from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from taut.adapters.base import Adapter
from taut.adapters.recognise import adapter_of
from taut.api.audit import Audit, evaluating, rows_of
from taut.api.evaluation import Evaluated
from taut.api.evaluation_figures import evaluation_figures
from taut.commands.base import refuse_others
from taut.config import pieces
from taut.config.instantiate import check_targets_resolved, instance
from taut.config.run_folder import FIGURES, FORMAT, versions
from taut.data.base import Data, digest_of
from taut.errors import UserError
from taut.evidence.summary import columns, plain
from taut.files import atomic_folder, write_json, write_table
from taut.report import figures
from taut.report.tables.evaluation import evaluation_tables

RESULT = "audit.json"
"""Every number, by another name than in a run folder: an audit is no run that a report ranks."""


def audit(cfg: DictConfig) -> dict[str, Any]:
    """Audit the model that ``cfg`` names, and return what goes into ``audit.json``.

    Raises:
        UserError: If the model cannot be loaded, or does not go with the data or with an estimator.
    """
    # before anything is built: an alias must not lead out of the listed parts
    check_targets_resolved(cfg)
    refuse_others(cfg.evidence)
    if cfg.threads:
        torch.set_num_threads(cfg.threads)
    adapter = adapter_of(loaded(cfg.model.load))
    x, about = _rows(cfg, adapter)
    with evaluating(adapter.modules):
        found = Audit(cfg, adapter, x, {"model": cfg.model.load, **about}).run_all()
    _publish(cfg, found, about["split"])
    return found.result


def loaded(place: str) -> Any:
    """What a function of a trusted package gives.

    Args:
        place: ``module:function``; the function takes no arguments.

    Raises:
        UserError: If there is none there.
    """
    module, _, name = place.partition(":")
    try:
        found = import_module(module)
    except ModuleNotFoundError as error:
        # where the module is there, and what it imports is not, its author wants the traceback
        if not f"{module}.".startswith(f"{error.name}."):
            raise
        raise UserError(
            f"model={place}: there is no module {error.name}; install it, or start the command where it is."
        ) from error
    function = getattr(found, name, None)
    # what a module imports from elsewhere is handed out by it as well
    own = place in pieces.PUBLISHED or pieces.holds(getattr(function, "__module__", None))
    if not callable(function) or not own:
        raise UserError(f"model={place}: {module} has no function {name} of its own; check its spelling.")
    return function()


def _rows(cfg: DictConfig, adapter: Adapter) -> tuple[torch.Tensor, dict[str, Any]]:
    """The rows to score, and what ``audit.json`` says of them."""
    if cfg.data is None:
        x = rows_of(adapter, None)
        return x[: cfg.limit], {"split": "data", "data_digest": digest_of(x)}
    data = instance(cfg.data, Data, mask=None)
    data.prepare_data()
    data.setup("fit")
    # of rows on the disk those that are scored are read
    x = torch.as_tensor(data.rows_of(cfg.split)[: cfg.limit])
    return x, {
        "data": data.name,
        "binarisation": data.binarisation,
        "data_digest": data.digest,
        "split": cfg.split,
        "held_out": data.held_out and cfg.split != "train",
    }


def _publish(cfg: DictConfig, found: Evaluated, split: str) -> None:
    """Write the folder of the audit, whole or not at all, and print the tables."""
    folder = Path(HydraConfig.get().runtime.output_dir)
    found.result["versions"] = versions("arviz-stats")
    with atomic_folder(folder) as partial:
        for name, figure in evaluation_figures(found.result, found.measured, found.data, split):
            figures.save(figure, partial / FIGURES / f"{name}.png")
        write_table(partial / "data.csv", columns(found.measured[split], found.gaps.get(split)))
        OmegaConf.save(cfg, partial / "config.yaml")
        write_json(partial / RESULT, {"format": FORMAT, **plain(found.result)})
    console = Console()
    for table in evaluation_tables(found.result, console.width):
        console.print(table)
    # without rich's line breaks and colours of digits, so that the path can be copied
    console.print(f"[dim]{folder}[/]", highlight=False, soft_wrap=True)
