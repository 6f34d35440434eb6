"""The shape of the repository: what ARCHITECTURE.md and CONTRIBUTING.md promise about its files."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

REPOSITORY = Path(__file__).resolve().parent.parent
LINES_AT_MOST = 400
# A module with such a name has no subject: its content belongs to the modules that use it.
NO_SUBJECT = {"utils", "util", "common", "helpers", "helper", "manager", "misc", "shared", "stuff", "tools"}
# Written in two halves, so that this file does not find itself.
UNFINISHED = ["TO" + "DO", "FIX" + "ME", "XX" + "X", "todo" + "!(", "unimplemented" + "!(", "NotImplemented" + "Error"]


def sources() -> list[Path]:
    """Rust sources of the crates and Python sources of the packages, without stubs and tests."""
    rust = [path for crate in sorted(REPOSITORY.glob("rust/*/src")) for path in sorted(crate.rglob("*.rs"))]
    python = sorted((REPOSITORY / "python").rglob("*.py"))
    return rust + python


def code() -> Iterator[Path]:
    """All that people write code in."""
    yield from sources()
    for folder in ("tests", "benches", "examples", "configs", "fuzz/src", "fuzz/targets"):
        for path in sorted((REPOSITORY / folder).rglob("*")):
            if path.suffix in {".py", ".rs", ".sh", ".toml"} and path != Path(__file__).resolve():
                yield path


def name(path: Path) -> str:
    return path.relative_to(REPOSITORY).as_posix()


def read_toml(path: str) -> dict:
    return tomllib.loads((REPOSITORY / path).read_text(encoding="utf-8"))


def distribution(requirement: str) -> str:
    """`torch>=2.10,<3` → `torch`."""
    return re.split(r"[\s\[<>=!~;]", requirement, maxsplit=1)[0].lower()


def python_dependencies() -> set[str]:
    project = read_toml("pyproject.toml")["project"]
    system = (REPOSITORY / "tests/system/requirements.txt").read_text(encoding="utf-8").splitlines()
    system = [line for line in system if line and not line.startswith("#")]
    groups = [project["dependencies"], *project["optional-dependencies"].values(), system]
    return {distribution(requirement) for group in groups for requirement in group} - {"bgeprep"}


def make_targets() -> set[str]:
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    return set(re.findall(r"^([a-z][a-z-]*):", makefile, flags=re.MULTILINE))


def test_there_are_sources_to_check() -> None:
    found = {name(path) for path in sources()}
    assert {"rust/bgeprep-core/src/lib.rs", "rust/bgeprep-py/src/lib.rs", "python/bgeprep/__init__.py"} <= found


def test_no_source_is_longer_than_the_cap() -> None:
    lengths = {name(path): len(path.read_text(encoding="utf-8").splitlines()) for path in sources()}
    too_long = {path: length for path, length in lengths.items() if length > LINES_AT_MOST}
    assert not too_long, f"split by idea, not by size: {too_long}"


def test_every_module_is_named_after_its_subject() -> None:
    parts = {part: name(path) for path in sources() for part in Path(name(path)).with_suffix("").parts}
    assert not {part: path for part, path in parts.items() if part in NO_SUBJECT}


def test_nothing_is_left_unfinished() -> None:
    marks = re.compile("|".join(rf"(?<!\w){re.escape(word)}" for word in UNFINISHED))
    found = [
        f"{name(path)}:{number}: {line.strip()}"
        for path in code()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if marks.search(line)
    ]
    assert not found, "\n".join(found)


def test_a_silenced_lint_says_why() -> None:
    """`#[expect(…, reason = …)]` also speaks up when it is no longer needed; `#[allow]` never does."""
    silent = [
        f"{name(path)}: {attribute}"
        for path in sources()
        if path.suffix == ".rs"
        for attribute in re.findall(r"#!?\[(?:allow|expect)\([^\]]*\)\]", path.read_text(encoding="utf-8"))
        if "allow(" in attribute or "reason" not in attribute
    ]
    assert not silent, "\n".join(silent)


def test_python_folder_holds_the_entry_and_the_two_packages_only() -> None:
    """`python/` is the first entry of `sys.path` under torchrun: a stray `tokenizers.py` would hide the library."""
    found = {path.name for path in (REPOSITORY / "python").iterdir() if path.name != "__pycache__"}
    found = {entry for entry in found if not entry.startswith(".")}
    assert found == {"train.py", "bgeprep", "bgetrain"}


def test_the_training_entry_only_enters() -> None:
    """What it would define is `__main__.X`: no other process and no checkpoint could find it."""
    text = (REPOSITORY / "python/train.py").read_text(encoding="utf-8")
    assert not re.search(r"^\s*(def|class) ", text, flags=re.MULTILINE)
    assert len(text.splitlines()) <= 15


def test_the_core_knows_no_python() -> None:
    manifest = read_toml("rust/bgeprep-core/Cargo.toml")
    named = set(manifest["dependencies"]) | set(manifest["dev-dependencies"])
    assert not named & {"pyo3", "numpy", "pyo3-arrow"}


def test_the_bindings_leave_their_tests_to_python() -> None:
    """`make test-rs` leaves this crate out: its tests would have to link an interpreter's shared library."""
    bindings = [path for path in sources() if "bgeprep-py" in path.parts]
    tested = [name(path) for path in bindings if "#[cfg(test)]" in path.read_text(encoding="utf-8")]
    assert not tested


@pytest.mark.parametrize(
    "target", ["help", "install", "build", "build-dev", "lint", "test", "test-rs", "test-py", "test-system"]
)
def test_make_knows_the_vocabulary(target: str) -> None:
    listed = subprocess.run(
        ["make", "--no-print-directory", "help"], cwd=REPOSITORY, capture_output=True, text=True, check=True, timeout=60
    ).stdout
    assert target in {line.split()[0] for line in listed.splitlines()}


def test_make_names_only_files_that_exist() -> None:
    """What a recipe runs out of the checkout, and what it runs by module name."""
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    scripts = set(re.findall(r"(?<![\w./$)])((?:examples|benches|tests|python)/[\w/.-]+\.(?:sh|py))", makefile))
    modules = {found.replace(".", "/") for found in re.findall(r"-m (benches[\w.]*)", makefile)}
    assert modules
    missing = [script for script in scripts if not (REPOSITORY / script).is_file()]
    missing += [
        module
        for module in modules
        if not (REPOSITORY / f"{module}.py").is_file() and not (REPOSITORY / module / "__main__.py").is_file()
    ]
    assert not missing


def test_ci_calls_make_and_nothing_else_builds() -> None:
    run = REPOSITORY / ".ci/run"
    assert run.stat().st_mode & 0o111, ".ci/run has to be executable"
    called = re.findall(r"^make ([a-z-]+)", run.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert "test" in called
    for path in sorted((REPOSITORY / ".github/workflows").glob("*.yml")):
        text = path.read_text(encoding="utf-8")
        called += re.findall(r"\bmake ([a-z-]+)", text)
        assert not re.search(r"run:.*\b(cargo (test|clippy|build|fmt)|pytest|ruff|mypy)\b", text), name(path)
    assert set(called) <= make_targets()


def test_workflows_pin_actions_by_commit() -> None:
    uses = [
        line.strip()
        for path in (REPOSITORY / ".github/workflows").glob("*.yml")
        for line in path.read_text(encoding="utf-8").splitlines()
        if "uses:" in line
    ]
    assert uses
    assert not [line for line in uses if not re.search(r"@[0-9a-f]{40} # v\d", line)]


def explained() -> set[str]:
    """Names in the first column of the tables of ARCHITECTURE.md."""
    text = (REPOSITORY / "ARCHITECTURE.md").read_text(encoding="utf-8")
    cells = [line.split("|")[1] for line in text.splitlines() if line.startswith("|")]
    return {found for cell in cells for found in re.findall(r"`([^`]+)`", cell)}


def test_every_crate_is_explained() -> None:
    crates = set(read_toml("Cargo.toml")["workspace"]["dependencies"]) - {"bgeprep-core"}
    assert not crates - explained(), "say in ARCHITECTURE.md what each is for"


def manifests() -> list[Path]:
    return [*sorted(REPOSITORY.glob("rust/*/Cargo.toml")), REPOSITORY / "benches/Cargo.toml"]


def test_every_crate_of_the_workspace_is_used() -> None:
    tables = ("dependencies", "dev-dependencies")
    named = {crate for path in manifests() for table in tables for crate in read_toml(name(path)).get(table, {})}
    assert not set(read_toml("Cargo.toml")["workspace"]["dependencies"]) - named


@pytest.mark.parametrize("path", manifests(), ids=lambda path: path.parent.name)
def test_every_crate_that_is_named_is_used(path: Path) -> None:
    """A crate nobody uses is compile time and licence for nothing."""
    text = "\n".join(source.read_text(encoding="utf-8") for source in sorted(path.parent.rglob("*.rs")))
    manifest = read_toml(name(path))
    named = {**manifest.get("dependencies", {}), **manifest.get("dev-dependencies", {})}
    unused = [crate for crate in named if not re.search(rf"\b{crate.replace('-', '_')}\b", text)]
    assert not unused


def test_every_python_dependency_is_explained() -> None:
    assert not python_dependencies() - explained(), "say in ARCHITECTURE.md what each is for"


def test_every_python_dependency_is_pinned() -> None:
    lines = (REPOSITORY / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {distribution(line) for line in lines if "==" in line}
    assert not python_dependencies() - pinned, "make constraints"
