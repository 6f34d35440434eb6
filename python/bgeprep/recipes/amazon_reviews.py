"""Amazon reviews in six languages (amazon_reviews_multi): the title of a review and its body."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bgeprep.recipes import Purpose, Recipe
from bgeprep.recipes.chinese import CHINESE_OPTIONS, tidy_of
from bgeprep.recipes.choice import SPLITS, split_files
from bgeprep.recipes.field_pairs import field_pairs
from bgeprep.recipes.stream import Stream, Tally, pairs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bgeprep.recipes.raw import Raw
    from bgeprep.recipes.stream import PairRow

__all__ = ["RECIPE"]


def read(raw: Raw) -> dict[str, Stream]:
    """The one source `amazon-reviews`."""
    language = raw.options.get("language", "zh")
    files = split_files(raw, r"\.(json|jsonl)(\.gz)?$", expected="JSON lines, dataset_zh_train.json and its like")
    tidy = tidy_of(raw)

    def rows(tally: Tally) -> Iterator[PairRow]:
        return field_pairs(files, "review_title", "review_body", tally, tidy=tidy, only=("language", language))

    return {"amazon-reviews": pairs(rows, Purpose("retrieval", language))}


RECIPE = Recipe(
    name="amazon-reviews",
    kind="pairs",
    stages=("stage 1",),
    languages=("zh",),
    about="amazon_reviews_multi: title of a Chinese review → its body; other languages by option",
    where="withdrawn by its owner and published no longer: for those who have a copy",
    licence="Amazon's terms for the set: research, no redistribution",
    raw='JSON lines: {"review_id", "product_id", "reviewer_id", "stars", "review_body", "review_title", "language", '
    '"product_category"}; 200,000 for training in each language',
    makes="one pair a review. Passed over: other_language, missing_field, no_text, empty_text, no_json",
    citation="Keung et al. 2020, The Multilingual Amazon Reviews Corpus, EMNLP",
    unchecked="the names of the files",
    options={"language": "language tag of the reviews to take (zh)", **SPLITS, **CHINESE_OPTIONS},
    read=read,
)
