"""After a fork, defenses and operations answer in the child, whatever torch had computed in the parent."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest

SCRIPT = """
    import os
    import signal
    import threading
    import torch
    import mipoison as mp
    from mipoison.defenses import LaplaceNoise, Rounding
    from mipoison.forked import one_thread

    torch.set_num_threads(2)
    p = torch.rand(40_000, 10).softmax(1)
    inputs = torch.rand(40_000, 4)
    served = mp.Defended(lambda p: p, Rounding(1))
    spread = p.t().contiguous().t()
    bad = 2 * p
    calls = {
        "defense": lambda: LaplaceNoise(scale=0.1, key=1)(p),
        "unread": lambda: LaplaceNoise(scale=0.1, key=1)(p, validate=False),
        "served": lambda: served(p),
        "lfp": lambda: mp.LFP(rate=0.5, audit=True, key=1)(p),
        "flip": lambda: mp.flip(p, rate=0.5, key=1)[0],
        "layout": lambda: mp.step(spread, spread, alpha=0.1),
        "certify": lambda: torch.tensor(mp.certify(Rounding(1), p, inputs).mse),
    }
    for name, call in calls.items():
        expected = call()
        child = os.fork()
        if child == 0:
            signal.alarm(20)
            q = call()
            same = q.numpy().tobytes() == expected.numpy().tobytes()
            try:
                mp.move(bad, bad, epsilon=0.1)
            except ValueError as error:
                told = "probability vectors" in str(error)
            # The thread count is each thread's own: a region in one leaves the other's alone, and is not shared.
            with one_thread:
                other = threading.Thread(target=call)
                other.start()
                other.join()
                call()
            os._exit(0 if same and told and torch.get_num_threads() == 2 else 1)
        _, status = os.waitpid(child, 0)
        assert status == 0, (name, "hangs" if status == signal.SIGALRM else status)
        assert not one_thread.child and torch.get_num_threads() == 2
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_does_not_hang() -> None:
    program = textwrap.dedent(SCRIPT)
    subprocess.run([sys.executable, "-c", program], check=True, timeout=240)
