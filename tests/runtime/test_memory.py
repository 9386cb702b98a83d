"""What does not fit in memory is refused with an estimate, before anything of its size is made."""

import pytest
from pieces import config

from taut.errors import UserError
from taut.runtime import memory
from taut.training.build import refuse_too_large

TOO_LARGE = {
    "network.hidden=[1000000000]": "139,000,000,070 parameters, .* take 2,071 GiB, and this machine has 24 GiB",
    "latent_dim=1000000000": r"take [\d,]+ GiB",
    "model=mog model.components=10000000": "42,250,000,000 parameters",
    "prior=vamp prior.components=1000000000": "64,000,001,043 parameters",
}


@pytest.mark.parametrize("words", TOO_LARGE)
def test_a_model_that_cannot_fit_is_refused_with_an_estimate(words, monkeypatch):
    monkeypatch.setattr("taut.training.build.available", lambda: 24 * 2**30)
    with pytest.raises(UserError, match=TOO_LARGE[words]):
        refuse_too_large(config(*words.split(), x_shape=(1, 8, 8)))


@pytest.mark.parametrize(
    "words", ["", "model=mog", "model=fa likelihood=factor", "prior=uniform q=uniform", "network=conv"]
)
def test_a_model_that_fits_is_let_through(words):
    refuse_too_large(config(*words.split(), x_shape=(1, 8, 8)))


def test_a_container_has_the_memory_of_its_limit(tmp_path, monkeypatch):
    machine = memory.available()
    limits = [tmp_path / "memory.max", tmp_path / "none"]
    limits[0].write_text("1073741824\n")
    monkeypatch.setattr(memory, "CGROUPS", limits)
    assert memory.available() == 2**30
    assert memory.in_words(1600 * 2**30) == "1,600 GiB"
    limits[0].write_text("max\n")
    assert memory.available() == machine
