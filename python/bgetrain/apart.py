"""A function in a process of its own, whose memory goes with it: for what needs torch, before what does not."""

from __future__ import annotations

import contextlib
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from bgetrain.errors import LaunchError

__all__ = ["apart"]

_Given = ParamSpec("_Given")
_Made = TypeVar("_Made")


def apart(work: Callable[_Given, _Made], *given: _Given.args, **named: _Given.kwargs) -> _Made:
    """Calls a function in a new process and waits for it.

    What the function prints goes to stderr. The process ends with this one, however this one ends.

    Args:
        work: a function of a module; found by its name there.
        given: what it is called with; picklable, as is what it returns.
        named: what it is called with by name.

    Raises:
        LaunchError: the process was killed, or raised an error that cannot be sent.
        Exception: what the function raised.
    """
    # told on the command line and not as `__main__`, which would be run again
    # -c puts the current directory first, where a stray `json.py` would be imported
    served = "import sys; sys.path[:] = filter(None, sys.path); from bgetrain.apart import serve; serve()"
    command = [sys.executable, "-c", served]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path or os.curdir for path in sys.path)}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, env=environment, bufsize=0) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            with contextlib.suppress(BrokenPipeError):
                # stdin stays open: its end tells the process that this one has gone
                process.stdin.write(pickle.dumps((work, given, named)))
            said = process.stdout.read()
        except BaseException:
            process.kill()
            raise
        process.stdin.close()
        code = process.wait()
    try:
        failed, made = pickle.loads(said)
    except (EOFError, pickle.UnpicklingError):
        # nothing, or killed in the midst of its answer
        raise LaunchError(
            f"the process of {work.__module__}.{work.__qualname__} ended with code {code} before it was done",
            hint="what it said stands above; nothing where it was killed, for want of memory perhaps",
        ) from None
    if failed:
        raise made
    return made  # type: ignore[no-any-return]


def serve() -> None:
    """The other side: reads a call from stdin, writes what came of it to stdout."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    work, given, named = pickle.load(sys.stdin.buffer)
    threading.Thread(target=_end_with_the_caller, daemon=True).start()
    try:
        said = (False, work(*given, **named))
    except Exception as error:
        said = (True, _portable(error))
    except KeyboardInterrupt:
        # the caller got the same signal, and says so
        os._exit(130)
    answers.write(pickle.dumps(said))
    answers.close()
    sys.stderr.flush()
    # no wait for threads of libraries, nor for the one that reads
    os._exit(0)


def _end_with_the_caller() -> None:
    os.read(0, 1)
    os._exit(1)


def _portable(error: Exception) -> Exception:
    """The error, or one that says the same and can be sent."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return LaunchError(f"{type(error).__name__}: {error}")
    return error
