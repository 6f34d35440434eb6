"""What a type checker and a reader are told about the packages is what is there.

`make lint` holds the stub against the built module by mypy's stubtest, signature by signature; here stand
the promises that stubtest does not look at.
"""

from __future__ import annotations

import ast
import importlib
import inspect
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
STUB = REPOSITORY / "python/bgeprep/_native.pyi"


def declared() -> dict[str, ast.stmt]:
    """Public names at the top of the stub."""
    tree = ast.parse(STUB.read_text(encoding="utf-8"))
    found: dict[str, ast.stmt] = {}
    for statement in tree.body:
        if isinstance(statement, ast.ClassDef | ast.FunctionDef):
            found[statement.name] = statement
        elif isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            found[statement.target.id] = statement
    return found


def test_the_stub_declares_what_the_module_has() -> None:
    native = importlib.import_module("bgeprep._native")
    ignored = {"__doc__", "__file__", "__loader__", "__name__", "__package__", "__spec__", "__all__", "__builtins__"}
    there = {name for name in vars(native) if name not in ignored}
    assert there == {name for name in declared() if name != "__all__"}


def test_the_stub_leaves_nothing_untyped() -> None:
    nodes = ast.walk(ast.parse(STUB.read_text(encoding="utf-8")))
    functions = [node for node in nodes if isinstance(node, ast.FunctionDef)]
    assert functions
    for function in functions:
        arguments = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
        names = [argument.arg for argument in arguments if argument.annotation is None]
        assert not set(names) - {"self", "cls"}, f"{function.name}: {names}"
        assert function.returns is not None, function.name


@pytest.mark.parametrize("package", ["bgeprep", "bgetrain"])
def test_the_package_says_that_it_is_typed(package: str) -> None:
    assert (REPOSITORY / "python" / package / "py.typed").is_file()


@pytest.mark.parametrize("package", ["bgeprep", "bgetrain"])
def test_public_names_exist_and_are_documented(package: str) -> None:
    module = importlib.import_module(package)
    assert module.__doc__
    names = getattr(module, "__all__", [])
    assert len(set(names)) == len(names)
    for name in names:
        value = getattr(module, name)
        if inspect.isclass(value) or callable(value):
            assert inspect.getdoc(value), f"{package}.{name} has no docstring"
