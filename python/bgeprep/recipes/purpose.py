"""What the records of a source are for: task and language, and the instruction that follows from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["INSTRUCTIONS", "TASKS", "Purpose", "Task"]

Task = Literal["retrieval", "symmetric", "classification"]

TASKS: tuple[Task, ...] = ("retrieval", "symmetric", "classification")

INSTRUCTIONS = {
    "en": "Represent this sentence for searching relevant passages: ",
    "zh": "为这个句子生成表示以用于检索相关文章：",
}
"""What BGE puts before the queries of retrieval, by language."""


@dataclass(frozen=True)
class Purpose:
    """What a source is for.

    Attributes:
        task: `retrieval` (a query finds passages), `symmetric` (both texts are alike), or `classification`.
        language: language tag; empty where it is not known.
    """

    task: Task
    language: str

    @property
    def instruction(self) -> str:
        """What stands before its queries where training asks for it, as BGE: before those of retrieval only."""
        return INSTRUCTIONS.get(self.language, "") if self.task == "retrieval" else ""
