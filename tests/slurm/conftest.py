"""The cluster that the tests of this folder share."""

from collections.abc import Iterator

import pytest
from slurm.cluster import Cluster, missing


@pytest.fixture(scope="session")
def cluster(programs) -> Iterator[Cluster]:
    """A Slurm of two nodes."""
    if why := missing():
        pytest.skip(why)
    with Cluster() as running:
        yield running
