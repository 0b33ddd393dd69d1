"""A submitted notebook's functions, without the rest of it: what runs inside the sandbox before the checks call.

Of an answer's cell everything runs; of other cells only imports, functions, classes and assignments, so that no model
is trained and nothing downloaded. Of a cell that was handed out and came back unchanged, assignments that call
something are left out too. A statement that fails is noted, and the next one runs.
"""

import ast
import linecache
import sys
from collections.abc import Iterator
from types import ModuleType

DEFINITIONS = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
ASSIGNMENTS = (ast.Assign, ast.AnnAssign, ast.AugAssign)
COURSE = ("check", "stand_in", "hint", "progress")  # of coursekit.course: they have no say here


def load(cells: list[dict]) -> tuple[dict, list[str]]:
    """The names that the cells define, and one line for each cell or statement that failed.

    A cell is {"source": str, "answer": bool, "given": bool}: whether it holds an answer, whether it is as handed out.
    """
    module = ModuleType("__main__")  # dataclasses look their module up
    sys.modules["__main__"] = module
    names, problems = vars(module), []
    for number, cell in enumerate(cells, 1):
        file = f"<cell {number}>"
        source = "\n".join("" if line.lstrip()[:1] in ("%", "!", "?") else line for line in cell["source"].split("\n"))
        linecache.cache[file] = (len(source), None, [line + "\n" for line in source.split("\n")], file)
        try:
            statements = list(_chosen(ast.parse(source), cell["answer"], cell["given"]))
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            problems.append(f"cell {number} cannot be read: {_said(error)}")
            continue
        for statement in statements:
            try:
                exec(compile(ast.Module([statement], []), file, "exec"), names)
            except BaseException as error:
                if cell["given"]:  # it needs what the rest of the notebook would have made
                    continue
                problems.append(f"cell {number}, line {statement.lineno}: {_said(error)}")
    return names, problems[:20]


def _chosen(tree: ast.Module, answer: bool, given: bool) -> Iterator[ast.stmt]:
    for statement in tree.body:
        if isinstance(statement, DEFINITIONS):
            yield statement
        elif answer or isinstance(statement, ASSIGNMENTS):
            calls = [node.func for node in ast.walk(statement) if isinstance(node, ast.Call)]
            ours = any(isinstance(call, ast.Name) and call.id in COURSE for call in calls)
            if not ours and (answer or not (given and calls)):
                yield statement


def _said(error: BaseException) -> str:
    try:
        text = str(error).split("\n")[0][:150]
    except BaseException:
        text = ""
    return f"{type(error).__name__}: {text}"
