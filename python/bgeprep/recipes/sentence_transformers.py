"""sentence-transformers' embedding-training-data: some fifty data sets as lines of texts that belong together."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from bgeprep.recipes import Purpose, Recipe
from bgeprep.recipes.purpose import TASKS
from bgeprep.recipes.shapes import HOME, PASSED_OVER, shaped_stream

if TYPE_CHECKING:
    from bgeprep.recipes.raw import Raw, RawFile
    from bgeprep.recipes.stream import Stream

__all__ = ["FILES", "RECIPE"]

_RETRIEVAL = """
    NQ-train_pairs PAQ_pairs TriviaQA_pairs S2ORC_title_abstract
    agnews amazon-qa amazon-qa-train-pairs amazon_review_2018 ccnews_title_text cnn_dailymail cnn_dailymail_splitted
    codesearchnet eli5_question_answer fever_train gooaq_pairs hotpotqa msmarco-triplets npr searchQA_top5_snippets
    squad_pairs stackexchange_title_best_voted_answer_jsonl stackexchange_titlebody_best_voted_answer_jsonl
    stackexchange_titlebody_best_and_down_voted_answer_jsonl stackexchange_title_body_jsonl
    wikihow xsum yahoo_answers_question_answer yahoo_answers_title_answer yahoo_answers_title_question
"""
_SYMMETRIC = """
    AllNLI S2ORC_citation_pairs S2ORC_citations_titles S2ORC_citations_abstracts SimpleWiki WikiAnswers
    WikiAnswers_pairs altlex coco_captions flickr30k_captions quora_duplicates quora_duplicates_triplets
    sentence-compression specter_train_triples stackexchange_duplicate_questions_title_title
    stackexchange_duplicate_questions_body_body stackexchange_duplicate_questions_title-body_title-body
"""

FILES = {
    **{name: Purpose("retrieval", "en") for name in _RETRIEVAL.split()},
    **{name: Purpose("symmetric", "en") for name in _SYMMETRIC.split()},
}
"""What each file is for, by its name without `.jsonl.gz`."""

_JSON_LINES = r"\.jsonl(\.gz)?$"


def read(raw: Raw) -> dict[str, Stream]:
    """A source a file, named after it; a folder of one collection, a file a site, is one source."""
    other = Purpose(raw.chosen("other_task", TASKS), "en")
    found: dict[str, list[RawFile]] = {}
    for file in raw.named(_JSON_LINES, expected="*.jsonl.gz of embedding-training-data"):
        stem = re.sub(_JSON_LINES, "", file.path.name)
        folder = file.path.parent.name
        name = folder if stem not in FILES and folder in FILES else re.sub(r"[^A-Za-z0-9._-]+", "_", stem)
        found.setdefault(name, []).append(file)
    return {name: shaped_stream(files, FILES.get(name, other)) for name, files in found.items()}


RECIPE = Recipe(
    name="sentence-transformers",
    kind="pairs",
    stages=("stage 1",),
    languages=("en",),
    about="embedding-training-data: questions, captions, paraphrases, summaries",
    where=f"{HOME}: all *.jsonl.gz or some of them, by the names they have there",
    licence="that of each part",
    raw='JSON lines, a shape a file: ["a","b"]; ["a","b","negative"]; {"set": [...]}; {"query","pos"}; '
    '{"query","pos","neg"}',
    makes="one record a line, a source a file. Of a set the first text is the query and all others are positives: the "
    "plan of batches draws one each time. Symmetric: " + ", ".join(_SYMMETRIC.split()) + ". Retrieval: all others, "
    f"{', '.join(_RETRIEVAL.split())}. {PASSED_OVER}",
    citation="sentence-transformers/embedding-training-data, Hugging Face; and each part",
    unchecked="names of files: all but AllNLI, NQ-train_pairs, S2ORC_title_abstract, SimpleWiki, TriviaQA_pairs, "
    "altlex, codesearchnet, eli5_question_answer, fever_train, gooaq_pairs, quora_duplicates, sentence-compression, "
    "specter_train_triples, squad_pairs, stackexchange_duplicate_questions_*; the task of each is this recipe's choice",
    options={"other_task": "task of files that are not on the list: retrieval, symmetric, classification (retrieval)"},
    read=read,
)
