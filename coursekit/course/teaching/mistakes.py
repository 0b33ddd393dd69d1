"""What students get wrong: the mistakes that the checks of a task name, read from their code."""

import ast
import functools
import inspect
import sys
from collections.abc import Iterator
from types import ModuleType

from coursekit.course.tasks import Task

CHECKS = "coursekit.course.tasks."
FORMAL = ("it returns None", "expected ", "it changes", "a label is")
"""How messages begin that speak of types and shapes, not of the subject."""
FEWEST_WORDS = 4  # a message is a sentence; other dictionaries have names for keys


def named_mistakes(task: Task) -> tuple[str, ...]:
    """The messages of a task's check that name a mistake in the subject, in the order of the code.

    They are the keys of its dictionaries of wrong variants and the arguments of `Wrong`, in the check and in what it
    calls; a value that is filled in at run time is shown as "…".
    """
    found: dict[str, None] = {}
    check = task.check
    while isinstance(check, functools.partial):
        check = check.func
    for node in _reached(check.__name__, sys.modules[check.__module__], set()):
        for message in _messages(node):
            if len(message.split()) >= FEWEST_WORDS and not message.startswith(FORMAL) and message[-1] != "…":
                found.setdefault(message)
    return tuple(found)


def _reached(name: str, module: ModuleType, seen: set[str]) -> Iterator[ast.AST]:
    """The definitions of `name` and of every name it uses, as far as they are checks'."""
    thing = getattr(module, name, None)
    home = sys.modules[thing.__module__] if inspect.isfunction(thing) else module
    if not home.__name__.startswith(CHECKS) or f"{home.__name__}.{name}" in seen:
        return
    seen.add(f"{home.__name__}.{name}")
    for node in _defined(getattr(thing, "__name__", name) if home is not module else name, home):
        yield node
        for used in ast.walk(node):
            if isinstance(used, ast.Name) and isinstance(used.ctx, ast.Load):
                yield from _reached(used.id, home, seen)


def _defined(name: str, module: ModuleType) -> list[ast.AST]:
    """The statements of a module that define a function or a constant."""
    found = []
    for node in _tree(module).body:
        names = [getattr(node, "name", "")] if isinstance(node, ast.FunctionDef) else []
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = [target.id for target in targets if isinstance(target, ast.Name)]
        if name in names:
            found.append(node)
    return found


@functools.cache
def _tree(module: ModuleType) -> ast.Module:
    return ast.parse(inspect.getsource(module))


def _messages(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        keys: list[ast.expr | None] = []
        if isinstance(node, ast.Dict):
            keys = node.keys
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "Wrong":
            keys = node.args[:1]
        for key in keys:
            if key is not None and (text := _text(key)):
                yield text


def _text(node: ast.expr) -> str:
    """A string of the code as a learner would read it, or ""."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else ""
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(part) if isinstance(part, ast.Constant) else "…" for part in node.values)
    return ""
