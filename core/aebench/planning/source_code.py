"""Which modules a module imports, directly and indirectly, and a hash of their code; nothing is imported for it."""

from __future__ import annotations

import ast
import hashlib
import importlib.metadata
import importlib.util
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

from aebench.errors import AebenchError
from aebench.registry.loading import ENTRY_POINT_GROUP

# Holds the version and computes nothing, so a new version alone changes no hash.
PACKAGE_FRONT = "aebench"


def import_closure(*roots: str) -> frozenset[str]:
    """Names of the modules that `roots` import, directly and indirectly, and of `roots` themselves.

    Imports inside functions count; those under `if TYPE_CHECKING:` do not; those by a computed name are not found.
    The packages around a module belong to it. Followed are aebench, all plugins and all modules that lie outside
    the folders of installed packages. The standard library and other libraries are not: their versions stand for them.

    Raises:
        AebenchError: the source of one of the roots cannot be found.
    """
    for root in roots:
        if _locate(root) is None:
            raise AebenchError(f"the source of module '{root}' cannot be found; results depend on it")
    own = {_top_level(root) for root in roots}
    is_library = cache(lambda top_level: top_level not in own and _is_library(top_level))
    closure: set[str] = set()
    seen = {PACKAGE_FRONT}
    waiting = list(roots)
    while waiting:
        name = waiting.pop()
        if name in seen or is_library(_top_level(name)):
            continue
        seen.add(name)
        module = _locate(name)
        if module is None:  # a name inside a module, or an optional module that is not installed
            continue
        closure.add(name)
        if "." in name:
            waiting.append(name.rpartition(".")[0])
        if module.file is not None:
            waiting += _imported(name, module.file)
    return frozenset(closure)


def source_hash(modules: Iterable[str]) -> str:
    """A hash of the modules' code, as 16 hexadecimal digits; comments and docstrings do not change it."""
    digest = hashlib.sha256()
    for name in sorted(set(modules)):
        module = _locate(name)
        if module is not None and module.file is not None:
            digest.update(f"{name}\0{_parsed(module.file).code}\0".encode())
    return digest.hexdigest()[:16]


@dataclass(frozen=True)
class _Module:
    """Where a module's source lies; `file` is None for a folder without `__init__.py`."""

    file: Path | None
    folders: tuple[Path, ...]


def _locate(name: str) -> _Module | None:
    """The module of this name, or None if there is none with Python source."""
    top, *rest = name.split(".")
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    folders = tuple(map(Path, spec.submodule_search_locations or ()))
    file = Path(spec.origin) if spec.has_location and spec.origin else None
    if file is None and not folders:
        return None
    module: _Module | None = _Module(file, folders)
    for part in rest:
        module = _locate_inside(module.folders, part) if module is not None else None
    return module


def _locate_inside(folders: tuple[Path, ...], name: str) -> _Module | None:
    for folder in folders:
        if (folder / name / "__init__.py").is_file():
            return _Module(folder / name / "__init__.py", (folder / name,))
        if (folder / f"{name}.py").is_file():
            return _Module(folder / f"{name}.py", ())
        for suffix in EXTENSION_SUFFIXES:
            if (folder / f"{name}{suffix}").is_file():
                return _Module(folder / f"{name}{suffix}", ())
    without_init = tuple(folder / name for folder in folders if (folder / name).is_dir())
    return _Module(None, without_init) if without_init else None


def _is_library(top_level: str) -> bool:
    """Whether a top-level module is Python's own, or was installed as a package that is no plugin."""
    if top_level in sys.stdlib_module_names:
        return True
    module = _locate(top_level)
    path = tuple(sys.path)
    if module is None or top_level in _plugin_modules(path):
        return False
    places = [module.file] if module.file is not None else module.folders
    return all(any(place.is_relative_to(folder) for folder in _package_folders(path)) for place in places)


@cache
def _plugin_modules(path: tuple[str, ...]) -> frozenset[str]:
    """Top-level modules of aebench and of the distributions of its plugins; `path` is `sys.path`."""
    modules = {PACKAGE_FRONT}
    for plugin in importlib.metadata.entry_points(group=ENTRY_POINT_GROUP):
        modules.add(_top_level(plugin.module))
        files = plugin.dist.files if plugin.dist else None
        modules |= {file.parts[0].partition(".")[0] for file in files or () if file.suffix == ".py"}
    return frozenset(modules)


@cache
def _package_folders(path: tuple[str, ...]) -> tuple[Path, ...]:
    """The folders of `path` in which packages are installed."""
    return tuple(Path(folder) for folder in path if any(Path(folder).glob("*.dist-info")))


def _top_level(name: str) -> str:
    return name.partition(".")[0]


@dataclass(frozen=True)
class _Import:
    """One imported module, `level` dots above the importing one, and the names imported from it."""

    level: int
    module: str
    names: tuple[str, ...]


@dataclass(frozen=True)
class _Parsed:
    """A file's code as normalised text, and its imports."""

    code: str
    imports: tuple[_Import, ...]


def _imported(name: str, file: Path) -> Iterator[str]:
    """Absolute names of what module `name` imports; a name from a module may be a submodule, so both are given."""
    package = name.split(".") if file.name == "__init__.py" else name.split(".")[:-1]
    for found in _parsed(file).imports:
        above = package[: len(package) - found.level + 1] if found.level else []
        module = ".".join([*above, found.module]) if found.module else ".".join(above)
        yield module
        yield from (f"{module}.{imported}" for imported in found.names)


def _parsed(file: Path) -> _Parsed:
    status = file.stat()
    return _parse(file, status.st_mtime_ns, status.st_size)


@cache
def _parse(file: Path, modified: int, size: int) -> _Parsed:
    """Parse a file; `modified` in ns and `size` in bytes make an edited file a different one for the cache."""
    content = file.read_bytes()
    try:
        tree = ast.parse(content)
    except (SyntaxError, ValueError):  # a compiled module, or one for another version of Python
        return _Parsed(content.hex(), ())
    imports = tuple(_imports(tree))
    return _Parsed(ast.unparse(_WithoutDocstrings().visit(tree)), imports)


def _imports(node: ast.AST) -> Iterator[_Import]:
    if isinstance(node, ast.Import):
        yield from (_Import(0, alias.name, ()) for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        yield _Import(node.level, node.module or "", tuple(alias.name for alias in node.names))
    children: Iterable[ast.AST] = ast.iter_child_nodes(node)
    if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
        children = node.orelse
    for child in children:
        yield from _imports(child)


class _WithoutDocstrings(ast.NodeTransformer):
    """Removes strings that stand alone as a statement: docstrings, and those under attributes."""

    def visit_Expr(self, node: ast.Expr) -> ast.Expr | None:
        is_text = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        return None if is_text else node
