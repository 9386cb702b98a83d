"""Hydra's search path for the commands of taut: config groups of installed packages, behind those of taut."""

from pathlib import Path

from hydra.core.config_search_path import ConfigSearchPath
from hydra.plugins.search_path_plugin import SearchPathPlugin


class InstalledPieces(SearchPathPlugin):
    """Adds the ``conf/`` of every package that registers pieces; a file that taut has as well is taut's own."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        # Hydra asks every plugin in every program of this environment, most of which are not taut's
        main = [
            Path(place.path.removeprefix("file://")) for place in search_path.get_path() if place.provider == "main"
        ]
        if not any((folder / "hydra" / "help" / "taut.yaml").is_file() for folder in main):
            return
        # Hydra imports every plugin at every start
        from taut.config.pieces import conf_folders

        for folder in conf_folders():
            search_path.append("taut.pieces", f"file://{folder}")
