"""Reads a file of the extension and tells which of its calls into Slicer do not fit Slicer's API.

Types are followed only where the text is plain about them: imports, annotations, `x = slicer.vtkX()`, attributes of
`self` that are set once to one kind, what known methods return, and the project's own names for arguments
(`ARGUMENT_NAMES`). What is not known is not checked: no finding is a guess.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from Testing.contract.kinds import (
    EitherKind,
    Kind,
    Member,
    PackageKind,
    PythonClassKind,
    PythonModuleKind,
    Signature,
    SlicerClassKind,
    VtkKind,
    object_of,
    vtk_class,
)
from Testing.host import api

PACKAGES = ("slicer", "vtk", "qt", "ctk")
VIEW_WIDGET = EitherKind((SlicerClassKind("qMRMLSliceWidget"), SlicerClassKind("qMRMLThreeDWidget")))
ARGUMENT_NAMES: dict[str, Kind] = {
    "scriptedEffect": SlicerClassKind("qSlicerSegmentEditorScriptedEffect"),
    "callerInteractor": vtk_class("vtkRenderWindowInteractor"),
    "interactor": vtk_class("vtkRenderWindowInteractor"),
    "viewWidget": VIEW_WIDGET,
    "sliceWidget": SlicerClassKind("qMRMLSliceWidget"),
    "threeDWidget": SlicerClassKind("qMRMLThreeDWidget"),
    "scene": vtk_class("vtkMRMLScene"),
    "segmentationNode": vtk_class("vtkMRMLSegmentationNode"),
    "volumeNode": vtk_class("vtkMRMLScalarVolumeNode"),
    "markupsNode": vtk_class("vtkMRMLMarkupsFiducialNode"),
    "interactionNode": vtk_class("vtkMRMLInteractionNode"),
    "parameterSetNode": vtk_class("vtkMRMLSegmentEditorNode"),
    "segmentation": vtk_class("vtkSegmentation"),
    "segment": vtk_class("vtkSegment"),
}
"""What an argument (or an attribute of the first name) without an annotation is, by this project's names."""
ATTRIBUTE_NAMES = ("scriptedEffect", "_scriptedEffect")
PARENTS = {
    "ScriptedLoadableModule": SlicerClassKind("qSlicerScriptedLoadableModule"),
    "ScriptedLoadableModuleWidget": SlicerClassKind("qSlicerScriptedLoadableModuleWidget"),
}
"""What `parent` is in the constructor of a class below these."""
NODE_MAKERS = ("AddNewNodeByClass", "CreateNodeByClass")
"""What returns a node of the class that its first argument names."""
EFFECT = "AbstractScriptedSegmentEditorEffect"


@dataclass(frozen=True)
class Finding:
    """One call or name that does not fit."""

    path: Path
    line: int
    message: str

    def __str__(self) -> str:
        return f"{self.path.name}:{self.line}: {self.message}"


@dataclass
class Scope:
    """What is known of names in a function, and of attributes of `self` in its class."""

    names: dict[str, Kind | None] = field(default_factory=dict)
    attributes: dict[str, Kind | None] = field(default_factory=dict)


def check(path: Path) -> list[Finding]:
    """Every finding of a file."""
    return Checker(path, ast.parse(path.read_text(), str(path))).findings()


class Checker:
    """Checks one file."""

    def __init__(self, path: Path, tree: ast.Module) -> None:
        self._path, self._tree = path, tree
        self._found: dict[tuple[int, str], Finding] = {}
        self._checked = 0

    def findings(self) -> list[Finding]:
        """Look at the whole file."""
        scope = Scope(self._imports())
        for statement in self._tree.body:
            if isinstance(statement, ast.ClassDef):
                self._class(statement, scope)
            elif isinstance(statement, ast.FunctionDef):
                self._function(statement, scope, None)
            else:
                self._body([statement], scope)
        return sorted(self._found.values(), key=lambda finding: finding.line)

    @property
    def checked(self) -> int:
        """How many members of known kinds were looked up: a check that knows nothing finds nothing."""
        return self._checked

    # Names that imports bind

    def _imports(self) -> dict[str, Kind | None]:
        names: dict[str, Kind | None] = {}
        submodules = self._imported_submodules()
        for node in ast.walk(self._tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    root, _, submodule = alias.name.partition(".")
                    if root in PACKAGES and alias.asname is None:
                        names[root] = PackageKind(root, submodules)
                    if root == "slicer" and submodule:
                        self._look_up(PackageKind(root, submodules), submodule, node.lineno)
                    elif alias.name == "qSlicerSegmentationsEditorEffectsPythonQt":
                        names[alias.asname or alias.name] = PackageKind("slicer")  # its classes are there too
            elif isinstance(node, ast.ImportFrom) and node.module:
                for alias in node.names:
                    if (kind := self._imported(node, alias.name)) is not None:
                        names[alias.asname or alias.name] = kind
        return names

    def _imported_submodules(self) -> frozenset[str]:
        """What the file imports of `slicer`, under whatever name: only then are these attributes of the package."""
        found = set()
        for node in ast.walk(self._tree):
            if isinstance(node, ast.Import):
                found.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.update((node.module, *(f"{node.module}.{alias.name}" for alias in node.names)))
        return frozenset(name.split(".")[1] for name in found if name.startswith("slicer."))

    def _imported(self, node: ast.ImportFrom, name: str) -> Kind | None:
        modules = api.load()["modules"]
        if node.module == "SegmentEditorEffects" and f"SegmentEditorEffects.{name}" in modules:
            return PythonClassKind(f"SegmentEditorEffects.{name}", name)
        if node.module in PACKAGES:
            owner: Kind = PackageKind(node.module, frozenset({name}))
        elif node.module in modules:
            owner = PythonModuleKind(node.module)
        else:
            return None
        member = self._look_up(owner, name, node.lineno)
        return member.result if member else None

    # Classes and functions

    def _class(self, node: ast.ClassDef, outer: Scope) -> None:
        bases = [self._kind(base, outer) for base in node.bases]
        base_names = [base.attr if isinstance(base, ast.Attribute) else getattr(base, "id", "") for base in node.bases]
        methods = [statement for statement in node.body if isinstance(statement, ast.FunctionDef)]
        scope = Scope(outer.names, dict.fromkeys(ATTRIBUTE_NAMES, ARGUMENT_NAMES["scriptedEffect"]))
        parent = next((PARENTS[name] for name in base_names if name in PARENTS), None)
        if parent is not None:
            scope.attributes["parent"] = parent
        for statement in node.body:
            if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
                scope.attributes[statement.target.id] = self._annotated(statement.annotation, outer)
        for method in methods:  # first what attributes are, then what is done with them
            self._learn_attributes(method, scope, parent)
        if EFFECT in base_names:
            self._callbacks(methods)
        self._inherited(node, methods, bases, scope)
        for method in methods:
            self._function(method, scope, parent)

    def _function(self, node: ast.FunctionDef, outer: Scope, parent: Kind | None) -> None:
        scope = Scope(self._argument_kinds(node, outer, parent), outer.attributes)
        self._body(node.body, scope)

    def _argument_kinds(self, node: ast.FunctionDef, outer: Scope, parent: Kind | None) -> dict[str, Kind | None]:
        names = dict(outer.names)
        for argument in [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]:
            if argument.annotation is not None:
                names[argument.arg] = self._annotated(argument.annotation, outer)
            elif argument.arg == "parent" and parent is not None:
                names["parent"] = parent
            else:
                names[argument.arg] = ARGUMENT_NAMES.get(argument.arg)
        for name, kind in self._assigned(node, Scope(names, outer.attributes)).items():
            names[name] = kind
        return names

    def _assigned(self, node: ast.FunctionDef, scope: Scope) -> dict[str, Kind | None]:
        """Local variables with one kind; a variable of several kinds is not known."""
        for _ in range(2):  # what is assigned from a variable that is assigned later in the text is rare
            found: dict[str, list[Kind | None]] = {}
            for statement in ast.walk(node):
                for target, value in _assignments(statement):
                    if isinstance(target, ast.Name):
                        kind = None if value is None else self._kind(value, scope, quiet=True)
                        found.setdefault(target.id, []).append(kind)
            kinds = {name: values[0] if len(set(values)) == 1 else None for name, values in found.items()}
            scope = Scope(scope.names | kinds, scope.attributes)
        return kinds

    def _learn_attributes(self, method: ast.FunctionDef, scope: Scope, parent: Kind | None) -> None:
        local = Scope(self._argument_kinds(method, scope, parent), scope.attributes)
        for statement in ast.walk(method):
            for target, value in _assignments(statement):
                if _is_self_attribute(target) and not _is_none(value) and target.attr not in ATTRIBUTE_NAMES:
                    kind = None if value is None else self._kind(value, local, quiet=True)
                    known = scope.attributes.get(target.attr, kind)
                    scope.attributes[target.attr] = kind if kind == known else None

    def _callbacks(self, methods: list[ast.FunctionDef]) -> None:
        """Methods that Slicer calls take the arguments that it gives."""
        for method in methods:
            expected = api.load()["effect_callbacks"].get(method.name)
            if expected is not None and method.args.vararg is None:
                taken = len(method.args.args) - 1
                if not taken - len(method.args.defaults) <= expected <= taken:
                    self._report(method.lineno, f"Slicer calls {method.name} with {expected} arguments, not {taken}")

    def _inherited(
        self, node: ast.ClassDef, methods: list[ast.FunctionDef], bases: list[Kind | None], scope: Scope
    ) -> None:
        """`self.name` is the class's own or that of one of its bases, where all of these are Slicer's."""
        if not bases or not all(isinstance(base, PythonClassKind) for base in bases):
            return
        own = {method.name for method in methods} | set(scope.attributes)
        for part in ast.walk(node):
            for target, _ in _assignments(part):
                own.add(target.attr if _is_self_attribute(target) else getattr(target, "id", ""))
        for part in ast.walk(node):
            if _is_self_attribute(part) and part.attr not in own and not any(base.member(part.attr) for base in bases):
                self._report(part.lineno, f"{node.name} and its bases have no '{part.attr}'")

    # Statements and expressions

    def _body(self, statements: list[ast.stmt], scope: Scope) -> None:
        for statement in statements:
            for node in ast.iter_child_nodes(ast.Module([statement], [])):
                self._visit(node, scope)

    def _visit(self, node: ast.AST, scope: Scope) -> None:
        if isinstance(node, ast.FunctionDef):
            self._function(node, scope, None)
            return
        for target, _ in _assignments(node):
            if isinstance(target, ast.Attribute):
                self._check_set(target, scope)
        if isinstance(node, ast.Call) or (isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)):
            self._kind(node, scope)
        for child in ast.iter_child_nodes(node):
            self._visit(child, scope)

    def _check_set(self, target: ast.Attribute, scope: Scope) -> None:
        owner = self._kind(target.value, scope)
        member = self._look_up(owner, target.attr, target.lineno) if owner is not None else None
        if member is not None and not member.writable:
            self._report(target.lineno, f"'{target.attr}' of {owner} cannot be set")

    def _kind(self, node: ast.expr, scope: Scope, quiet: bool = False) -> Kind | None:
        """What an expression stands for; reports what does not fit on the way, unless quiet."""
        if isinstance(node, ast.Name):
            return scope.names.get(node.id)
        if isinstance(node, ast.Attribute):
            if _is_self_attribute(node):
                return scope.attributes.get(node.attr)
            owner = self._kind(node.value, scope, quiet)
            member = self._look_up(owner, node.attr, node.lineno, quiet) if owner is not None else None
            return member.result if member is not None and not _is_method(owner, member) else None
        if isinstance(node, ast.Call):
            return self._called(node, scope, quiet)
        if isinstance(node, ast.IfExp):
            kinds = {self._kind(branch, scope, quiet) for branch in (node.body, node.orelse) if not _is_none(branch)}
            return kinds.pop() if len(kinds) == 1 else None
        return None

    def _called(self, node: ast.Call, scope: Scope, quiet: bool) -> Kind | None:
        if isinstance(node.func, ast.Attribute) and not _is_self_attribute(node.func):
            owner = self._kind(node.func.value, scope, quiet)
            if owner is None:
                return None
            member = self._look_up(owner, node.func.attr, node.lineno, quiet)
            name = f"{owner}.{node.func.attr}"
            if member is None:
                return None
            if not _is_method(owner, member) and member.result is not None:  # a class, reached through its module
                member = member.result.called()
            elif isinstance(owner, (PythonClassKind, VtkKind, SlicerClassKind)) and getattr(owner, "is_class", True):
                return member.result  # Base.method(self, …), or a static method: counts differ by the object
            if node.func.attr in NODE_MAKERS and node.args and isinstance(node.args[0], ast.Constant):
                member = replace(member, result=vtk_class(str(node.args[0].value)))
            if node.func.attr == "connect" and not quiet:
                self._check_connect(node, owner)
        else:
            called = self._kind(node.func, scope, quiet)
            if called is None:
                return None
            member, name = called.called(), str(called)
        if not quiet:
            self._check_call(node, name, member.signature)
        return member.result

    def _check_call(self, node: ast.Call, name: str, signature: Signature | None) -> None:
        if signature is None:
            self._report(node.lineno, f"{name} is not called: it is a property or a constant")
            return
        keywords = [keyword.arg for keyword in node.keywords]
        if None in keywords or any(isinstance(argument, ast.Starred) for argument in node.args):
            return  # how many there are is not in the text
        if complaint := signature.complaint(len(node.args), keywords):
            self._report(node.lineno, f"{name} {complaint}")

    def _check_connect(self, node: ast.Call, owner: Kind) -> None:
        signal = getattr(node.args[0], "value", None) if node.args else None
        if isinstance(signal, str) and owner.has_signal(signal) is False:
            self._report(node.lineno, f"{owner} has no signal '{signal}'")

    def _look_up(self, owner: Kind, name: str, line: int, quiet: bool = False) -> Member | None:
        self._checked += not quiet
        member = owner.member(name)
        if member is None and not quiet:
            self._report(line, f"{owner} has no '{name}'")
        return member

    def _annotated(self, annotation: ast.expr, scope: Scope) -> Kind | None:
        """Objects of the annotated class; `X | None` is X."""
        if isinstance(annotation, ast.BinOp) and isinstance(annotation.op, ast.BitOr):
            sides = [side for side in (annotation.left, annotation.right) if not _is_none(side)]
            return self._annotated(sides[0], scope) if len(sides) == 1 else None
        is_known = isinstance(annotation, ast.Attribute) and self._kind(annotation, scope) is not None
        return object_of(annotation.attr) if is_known else None

    def _report(self, line: int, message: str) -> None:
        self._found.setdefault((line, message), Finding(self._path, line, message))


def _assignments(node: ast.AST) -> Iterator[tuple[ast.expr, ast.expr | None]]:
    """Targets of a statement with what is assigned to them; None where that is not one expression."""
    if isinstance(node, ast.Assign):
        for target in node.targets:
            if isinstance(target, (ast.Tuple, ast.List)):
                yield from ((part, None) for part in target.elts)
            else:
                yield target, node.value
    elif isinstance(node, ast.AnnAssign) and node.value is not None:
        yield node.target, node.value
    elif isinstance(node, ast.AugAssign):
        yield node.target, None
    elif isinstance(node, ast.NamedExpr):
        yield node.target, node.value
    elif isinstance(node, (ast.For, ast.comprehension)):
        parts = node.target.elts if isinstance(node.target, (ast.Tuple, ast.List)) else [node.target]
        yield from ((part, None) for part in parts)
    elif isinstance(node, ast.withitem) and node.optional_vars is not None:
        yield node.optional_vars, None


def _is_self_attribute(node: ast.AST | None) -> bool:
    return isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self"


def _is_none(node: ast.AST | None) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _is_method(owner: Kind, member: Member) -> bool:
    """Whether the member has to be called to get its result: packages and modules hold their classes ready."""
    return not isinstance(owner, (PackageKind, PythonModuleKind)) and member.signature is not None
