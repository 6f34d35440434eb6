"""Signals: a wish in the loop, and no end before the reason is said."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from bgetrain.errors import RankError
from bgetrain.interrupt import outlast_sigterm
from bgetrain.main import report

_SCRIPT = """
import os, signal, sys
from bgetrain.interrupt import StopSignal, outlast_sigterm

try:
    with StopSignal() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.requested
        if "lost" in sys.argv:
            outlast_sigterm()
        raise RuntimeError
except RuntimeError:
    os.kill(os.getpid(), signal.SIGTERM)
    print("said")
"""


@pytest.mark.parametrize(("argument", "code", "said"), [("lost", 0, "said\n"), ("", -signal.SIGTERM, "")])
def test_a_rank_that_lost_another_says_so_before_it_ends(argument: str, code: int, said: str) -> None:
    """Torchrun's SIGTERM comes at any moment, also after the loop; the control is a rank that met nothing."""
    done = subprocess.run([sys.executable, "-c", _SCRIPT, argument], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (code, said), done.stderr


def test_sigterm_does_again_what_it_did_once_the_reason_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(signal.SIGTERM)

    def lose() -> None:
        outlast_sigterm()
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN
        raise RankError("rank 0: another rank has ended")

    assert report(lose) == 1
    assert capsys.readouterr().err == "error: rank 0: another rank has ended\n"
    assert signal.getsignal(signal.SIGTERM) == before
