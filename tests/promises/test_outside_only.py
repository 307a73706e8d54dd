"""What judges the promises stands outside: nothing in this folder imports the package."""

from __future__ import annotations

import ast

from tests.promises.outside import HERE

# The scripted model server, the thread it runs in, and what signs as hardware does: they import nothing
# of the package either.
_BESIDE = tuple(
    HERE.parent / "support" / f"{name}.py" for name in ("upstream", "threaded", "signers")
)
_ALLOWED = {f"tests.support.{path.stem}" for path in _BESIDE}


def imported(source: str) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute | ast.Name):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id
            if name in {"import_module", "__import__"}:
                found |= {str(a.value) for a in node.args if isinstance(a, ast.Constant)}
    return found


def test_nothing_here_imports_the_package() -> None:
    # What an attacker changes inside a process of the package runs there, and judges nothing.
    inside = {"crooked", "days"}
    files = [path for path in sorted(HERE.glob("**/*.py")) if path.parent.name not in inside]
    files += _BESIDE
    assert len(files) > 12
    for path in files:
        names = imported(path.read_text())
        assert not any(name.split(".")[0] == "gatelift" for name in names), path.name
        ours = {name for name in names if name.startswith("tests.")}
        assert all(name.startswith("tests.promises") or name in _ALLOWED for name in ours), (
            path.name,
            ours,
        )


def test_the_check_sees_an_import() -> None:
    assert "gatelift.trust" in imported("from gatelift.trust import Order")
    assert "gatelift" in imported("def f():\n    import gatelift\n")
    assert "gatelift.cli" in imported("import importlib\nimportlib.import_module('gatelift.cli')")


def test_each_promise_has_its_file_and_says_how_it_was_seen_to_fail() -> None:
    for number in range(1, 11):
        paths = sorted(HERE.glob(f"test_p{number:02d}_*.py"))
        assert paths
        for path in paths:
            text = ast.get_docstring(ast.parse(path.read_text())) or ""
            assert text.startswith(
                (f"Promise {number}: ", f"Promise {number} ", f"Promise {number},")
            )
            assert "Attacked here" in text, path.name
            assert "Seen to fail:" in text, path.name
