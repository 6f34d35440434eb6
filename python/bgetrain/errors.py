"""What can go wrong while training, as exceptions that carry what to do and an exit code.

```
BgetrainError
├── ConfigError      (ValueError)    a flag or configuration key that cannot work       exit 2
├── LaunchError      (RuntimeError)  processes, devices and batch that do not fit       exit 1
├── ModelError       (ValueError)    a folder or name that is no usable model           exit 1
├── CheckpointError  (ValueError)    a checkpoint that is absent, damaged or foreign    exit 1
├── RankError        (RuntimeError)  what one rank met and the others did not            exit 1
├── ReportError      (ValueError)    a folder that holds no run to make a page of        exit 1
├── TrainingError    (RuntimeError)  training that cannot go on (loss is not a number)  exit 1
└── Interrupted                      a signal asked to stop; what was done is saved     exit 130
```

Errors of the data side (`bgeprep.errors`) and of the operating system pass through unchanged.
"""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "BgetrainError",
    "CheckpointError",
    "ConfigError",
    "Interrupted",
    "LaunchError",
    "ModelError",
    "RankError",
    "ReportError",
    "TrainingError",
]


class BgetrainError(Exception):
    """The base of all errors of this package.

    Attributes:
        hint: what the user can do, without `hint: `; empty where the message says it all.
        path: the file or folder at fault; empty where there is none.
        exit_code: the exit status of a command that ends with this error.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str = "", path: str = "") -> None:
        """Keeps the way out and the place beside the message."""
        super().__init__(message)
        self.hint = hint
        self.path = path


class ConfigError(BgetrainError, ValueError):
    """A flag or a configuration key is unknown or has a value that cannot work; the message names it."""

    exit_code: ClassVar[int] = 2


class LaunchError(BgetrainError, RuntimeError):
    """The number of processes does not fit the devices or the batch, or a needed part is not installed."""


class RankError(BgetrainError, RuntimeError):
    """What one rank met and the others did not; the message names the rank."""


class ModelError(BgetrainError, ValueError):
    """A folder or hub name that is not a model this package can train."""


class CheckpointError(BgetrainError, ValueError):
    """A checkpoint that is absent, incomplete, damaged or made from other data."""


class ReportError(BgetrainError, ValueError):
    """A folder that holds no run, or whose records are damaged."""


class TrainingError(BgetrainError, RuntimeError):
    """Training cannot go on: the loss or the gradient is not a number, or nothing can be learned."""


class Interrupted(BgetrainError):
    """A signal asked to stop and the state was saved."""

    exit_code: ClassVar[int] = 130
