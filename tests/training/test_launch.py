"""W&B's start without the import of W&B Launch."""

import importlib
import sys

import pytest

from taut.training.loggers.tracker import LAUNCH, without_launch

ASKED = f"{LAUNCH}.inputs.internal"


@pytest.fixture
def unimported(monkeypatch):
    importlib.import_module(LAUNCH)
    for name in [name for name in sys.modules if name == LAUNCH or name.startswith(f"{LAUNCH}.")]:
        monkeypatch.delitem(sys.modules, name)


def test_the_module_that_is_asked_is_there_and_the_package_is_imported_as_ever_afterwards(unimported):
    with without_launch():
        assert importlib.import_module(ASKED).StagedLaunchInputs
        assert not hasattr(sys.modules[LAUNCH], "launch_add")
        assert f"{LAUNCH}.agent" not in sys.modules
    assert not any(name.startswith(LAUNCH) for name in sys.modules)
    assert importlib.import_module(LAUNCH).launch_add
    for name in [name for name in sys.modules if name.startswith(LAUNCH)]:
        del sys.modules[name]


def test_what_is_imported_already_may_have_inputs_and_stays():
    own = importlib.import_module(LAUNCH)
    with without_launch():
        assert sys.modules[LAUNCH] is own
    assert sys.modules[LAUNCH] is own
