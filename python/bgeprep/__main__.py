"""`python -m bgeprep` is `bgeprep`."""

from __future__ import annotations

from bgeprep.cli import main

raise SystemExit(main())
