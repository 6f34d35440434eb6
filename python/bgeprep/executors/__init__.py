"""A preparation run on other machines than this one.

`tasks` knows which tasks a run is cut into and in which order they come; `on_ray` hands them to a Ray cluster. What a
task does, and on which files, is the compiled half's business (`rust/bgeprep-core/src/pipeline/spread/`).
"""

from __future__ import annotations

__all__: list[str] = []
