"""What Hydra 1.3 and 1.4, with OmegaConf 2.3 and 2.4, want to be told in different words."""

from typing import Any

import hydra.utils
from omegaconf import OmegaConf

NEW = hasattr(hydra.utils, "UNSAFE_DISABLE_EXECUTION_CHECKS")
"""Whether this is Hydra 1.4, which warns of the words of 1.3."""
VERSION_BASE: dict[str, Any] = {} if NEW else {"version_base": "1.3"}
"""Has Hydra 1.3 do as it does by default; without it, it falls back on the habits of old versions."""
LISTED: dict[str, Any] = {"_execution_whitelist_": hydra.utils.UNSAFE_DISABLE_EXECUTION_CHECKS} if NEW else {}  # type: ignore[attr-defined]
"""Has Hydra 1.4 build what it is given: every name has been held against ``config/instantiate.py``'s own list."""
register_resolver: Any = OmegaConf.register_resolver if NEW else OmegaConf.register_new_resolver
"""OmegaConf's, which has another name in 2.4."""
