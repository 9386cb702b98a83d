"""Seeds that never collide and never leak."""

import torch

from taut.functional import seeding


def test_counters_of_one_stream_never_share_a_seed():
    keys = {seeding.key(7, "train", counter) for counter in range(200_000)}
    assert len(keys) == 200_000
    assert all(0 <= key < 2**32 for key in keys)


def test_seed_stream_and_counter_all_matter():
    assert len({seeding.key(0, "a", 1), seeding.key(1, "a", 1), seeding.key(0, "b", 1), seeding.key(0, "a", 2)}) == 4


def test_forked_draws_leave_the_generator_where_it_was():
    torch.manual_seed(1)
    expected = torch.randn(3)
    torch.manual_seed(1)
    with seeding.forked():
        torch.manual_seed(5)
        torch.randn(100)
    assert torch.equal(torch.randn(3), expected)
