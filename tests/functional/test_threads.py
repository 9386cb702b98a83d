"""Parts of some work on threads of their own."""

from concurrent.futures import ThreadPoolExecutor
from threading import get_ident
from time import sleep

import pytest
import torch

from taut.functional.threads import each_alone


@pytest.fixture(params=[1, 3])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def test_parts_are_answered_in_their_order_by_single_threads_that_keep_no_gradients(threads):
    x = torch.ones(1, requires_grad=True)

    def work(part):
        sleep(0.02 * (4 - part))  # the last is ready first
        return part, torch.get_num_threads(), (part * x).requires_grad, get_ident()

    found = each_alone(work, range(4))
    assert [one[:3] for one in found] == [(part, 1, False) for part in range(4)]
    assert len({ident for *_, ident in found}) == threads
    assert torch.is_grad_enabled()
    with ThreadPoolExecutor(1) as later:
        assert torch.get_num_threads() == later.submit(torch.get_num_threads).result() == threads
