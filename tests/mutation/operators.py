"""The mistakes: for a node of a syntax tree, what a tired programmer may have written instead.

An operator returns replacements and leaves the node as it is.  `None` stands for a statement that is not there.
"""

import ast
from collections.abc import Callable, Iterator

Replacement = ast.AST | None
Operator = Callable[[ast.AST], Iterator[Replacement]]

LARGE = 100
"""Beyond it a number is a limit."""
COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.FloorDiv: ast.Mult,
    ast.Div: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr,
    ast.BitXor: ast.BitAnd,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
}


def comparison(node: ast.AST) -> Iterator[Replacement]:
    """A bound that is off by one, or the opposite."""
    if isinstance(node, ast.Compare):
        for position, operator in enumerate(node.ops):
            ops = [*node.ops]
            ops[position] = COMPARISONS[type(operator)]()
            yield ast.Compare(node.left, ops, node.comparators)


def boolean(node: ast.AST) -> Iterator[Replacement]:
    """`and` for `or`, a forgotten `not`, a condition too few."""
    if isinstance(node, ast.BoolOp):
        yield ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values)
        if len(node.values) > 2:
            for position in range(len(node.values)):
                yield ast.BoolOp(node.op, node.values[:position] + node.values[position + 1 :])
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield node.operand


def arithmetic(node: ast.AST) -> Iterator[Replacement]:
    """Plus for minus."""
    if isinstance(node, ast.BinOp) and not _is_text(node.left) and type(node.op) in ARITHMETIC:
        yield ast.BinOp(node.left, ARITHMETIC[type(node.op)](), node.right)
    elif isinstance(node, ast.AugAssign) and type(node.op) in ARITHMETIC:
        yield ast.AugAssign(node.target, ARITHMETIC[type(node.op)](), node.value)


def constant(node: ast.AST) -> Iterator[Replacement]:
    """One more, one less, the other truth value, other bytes.  Texts are for people and stay.

    A large number is a limit, of which one more or less is nobody's mistake: it becomes 0, so that at least it matters.
    """
    if not isinstance(node, ast.Constant):
        return
    value = node.value
    if isinstance(value, bool):
        yield ast.Constant(not value)
    elif isinstance(value, int) and value > LARGE:
        yield ast.Constant(0)
    elif isinstance(value, int):
        yield ast.Constant(value + 1)
        if value > 0:
            yield ast.Constant(value - 1)
    elif isinstance(value, bytes):
        yield ast.Constant(b"" if value else b"?")


def condition(node: ast.AST) -> Iterator[Replacement]:
    """The other branch."""
    if isinstance(node, ast.If | ast.While | ast.IfExp) and _is_negatable(node.test):
        yield _with(node, test=_negated(node.test))
    elif isinstance(node, ast.comprehension):
        for position, test in enumerate(node.ifs):
            if _is_negatable(test):
                ifs = [*node.ifs]
                ifs[position] = _negated(test)
                yield _with(node, ifs=ifs)
    elif isinstance(node, ast.match_case) and node.guard is not None and _is_negatable(node.guard):
        yield _with(node, guard=_negated(node.guard))


def removal(node: ast.AST) -> Iterator[Replacement]:
    """A forgotten statement.  Not an assignment to a name, without which nothing would run at all."""
    if isinstance(node, ast.Expr):
        is_forgettable = isinstance(node.value, ast.Call) and not _is_call_of(node.value, "assert_never")
    elif isinstance(node, ast.Assign):
        is_forgettable = all(isinstance(target, ast.Attribute | ast.Subscript) for target in node.targets)
    elif isinstance(node, ast.AnnAssign):
        is_forgettable = isinstance(node.target, ast.Attribute | ast.Subscript) and node.value is not None
    else:
        is_forgettable = isinstance(node, ast.AugAssign | ast.Delete | ast.Break | ast.Continue | ast.Raise)
    if is_forgettable:
        yield None


def returned(node: ast.AST) -> Iterator[Replacement]:
    """Another answer."""
    if not isinstance(node, ast.Return) or node.value is None or isinstance(node.value, ast.Constant):
        return
    is_condition = isinstance(node.value, ast.Compare | ast.BoolOp | ast.UnaryOp)
    yield ast.Return(_negated(node.value) if is_condition else ast.Constant(None))


OPERATORS: dict[str, Operator] = {
    operator.__name__: operator
    for operator in (comparison, boolean, arithmetic, constant, condition, removal, returned)
}


def _is_negatable(test: ast.expr) -> bool:
    """Whether its opposite is a mutant that `comparison` does not make already; `while True` has none."""
    if isinstance(test, ast.Compare) and len(test.ops) == 1:
        return isinstance(test.ops[0], ast.Lt | ast.LtE | ast.Gt | ast.GtE)
    return not isinstance(test, ast.Constant)


def _negated(test: ast.expr) -> ast.expr:
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        return test.operand
    return ast.UnaryOp(ast.Not(), test)


def _with(node: ast.AST, **changes: object) -> ast.AST:
    fields = {name: getattr(node, name) for name in node._fields if hasattr(node, name)}
    return type(node)(**(fields | changes))


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


def _is_call_of(node: ast.expr, name: str) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name
