"""What can go wrong, as exceptions that carry where and what to do.

```
BgeprepError
├── ConfigError      (ValueError)  a setting that cannot work
├── CorpusError      (ValueError)  input that cannot be used at all; has `path` and `line`
├── ExecutorError    (RuntimeError) a task of a cluster that could not be done; has `task`
├── ShardError       (ValueError)  a shard set that is absent, incomplete or damaged; has `path`
├── StoreError       (OSError)     an object store that refuses or cannot be reached; has `place`
└── TokenizerError   (ValueError)  a tokenizer file that cannot be used; has `path`
```

`SlowTokenizerWarning` (UserWarning) says that a tokenizer works, but slowly.

The operating system's own refusals (no such file, no permission, no space) stay `OSError` and its
subclasses; Ctrl-C stays `KeyboardInterrupt`. Bad rows are no errors: they are counted rejects.
"""

from __future__ import annotations

__all__ = [
    "BgeprepError",
    "ConfigError",
    "CorpusError",
    "ExecutorError",
    "ShardError",
    "SlowTokenizerWarning",
    "StoreError",
    "TokenizerError",
]


class BgeprepError(Exception):
    """The base of all errors of this package."""


class ConfigError(BgeprepError, ValueError):
    """A setting has a value that cannot work; the message names the setting."""


class CorpusError(BgeprepError, ValueError):
    """Input that cannot be used at all.

    Attributes:
        path: the input file.
        line: line, element or row counted from 1, or None where none is known.
    """

    def __init__(self, message: str, path: str = "", line: int | None = None) -> None:
        """Keeps the place beside the message."""
        super().__init__(message)
        self.path = path
        self.line = line


class ExecutorError(BgeprepError, RuntimeError):
    """A task of a cluster could not be done, however often it was begun.

    Attributes:
        task: its name, as in Ray's dashboard.
    """

    def __init__(self, message: str, task: str = "") -> None:
        """Keeps the name beside the message."""
        super().__init__(message)
        self.task = task


class ShardError(BgeprepError, ValueError):
    """A shard set that is absent, incomplete or damaged.

    Attributes:
        path: the folder or file at fault.
    """

    def __init__(self, message: str, path: str = "") -> None:
        """Keeps the place beside the message."""
        super().__init__(message)
        self.path = path


class StoreError(BgeprepError, OSError):
    """An object store that cannot be reached, refuses, or gives other bytes than it listed.

    Attributes:
        place: URL of the object or bucket.
    """

    def __init__(self, message: str, place: str = "") -> None:
        """Keeps the place beside the message."""
        super().__init__(message)
        self.place = place


class TokenizerError(BgeprepError, ValueError):
    """A tokenizer file that cannot be used.

    Attributes:
        path: the tokenizer file.
    """

    def __init__(self, message: str, path: str = "") -> None:
        """Keeps the place beside the message."""
        super().__init__(message)
        self.path = path


class SlowTokenizerWarning(UserWarning):
    """A tokenizer is not of the kind that is fast here; the message names what in its file is not understood."""
