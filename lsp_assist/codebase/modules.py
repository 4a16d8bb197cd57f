"""Which files of the workspace an import means, by the habits of its language.

Pure: works on the paths that there are, and reads none of them. Knows no symbol.
"""

import posixpath
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

__all__ = ["Modules", "n_shared"]

_MAX_PACKAGE_FILES = 200
_SCRIPT_SUFFIXES = (
    "", ".ts", ".tsx", ".d.ts", ".js", ".jsx", ".mjs", ".cjs", ".mts", ".cts",
    "/index.ts", "/index.tsx", "/index.d.ts", "/index.js", "/index.jsx", "/index.mjs",
    "/src/index.ts", "/src/index.tsx", "/src/index.js",
)  # fmt: skip
_COMPILED_SCRIPTS = {
    ".js": (".ts", ".tsx"),
    ".mjs": (".mts",),
    ".cjs": (".cts",),
    ".jsx": (".tsx",),
}
_SOURCE_ROOTS = ("", "src", "lib", "python", "app")


class Modules:
    """The workspace's files, found as imports name them. Never changes."""

    def __init__(self, paths: Iterable[str], go_modules: Mapping[str, str] | None = None) -> None:
        """`go_modules` are the paths of Go modules by the folder of their go.mod."""
        self._paths = frozenset(paths)
        self._by_name: dict[str, list[str]] = defaultdict(list)
        self._by_folder: dict[str, list[str]] = defaultdict(list)
        for path in sorted(self._paths):
            folder, name = posixpath.split(path)
            self._by_name[name].append(path)
            self._by_folder[folder].append(path)
        self._go_modules = dict(go_modules or {})
        self._python = self._python_modules()

    def files(self, importer: str, language: str, module: str, name: str = "") -> Sequence[str]:
        """The files that an import in a file means, the likeliest first; none of a foreign one.

        With a name taken from the module, the file of the submodule of that name comes too.
        """
        find = _FINDERS.get(language)
        return find(self, importer, module, name) if find else ()

    def package_of(self, path: str, language: str) -> Sequence[str]:
        """The files whose names a file sees without importing them, without itself."""
        if language not in _FOLDER_IS_PACKAGE:
            return ()
        folder, name = posixpath.split(path)
        suffix = posixpath.splitext(name)[1]
        others = self._by_folder.get(folder, ())[:_MAX_PACKAGE_FILES]
        return [other for other in others if other != path and other.endswith(suffix)]

    def with_suffix(self, suffix: str, importer: str) -> str | None:
        """The file whose path ends with these parts; of several, the nearest to the importer."""
        suffix = suffix.strip("/")
        named = self._by_name.get(posixpath.basename(suffix), ())
        found = [path for path in named if path == suffix or path.endswith("/" + suffix)]
        return min(found, key=lambda path: (-n_shared(path, importer), len(path)), default=None)

    # Languages

    def _python_modules(self) -> dict[str, list[str]]:
        """Files by dotted name, from the folder above the outermost package that they are in."""
        found: dict[str, list[str]] = defaultdict(list)
        packages = {
            posixpath.dirname(path)
            for path in self._paths
            if posixpath.basename(path) in ("__init__.py", "__init__.pyi")
        }
        for path in sorted(self._paths):
            stem, suffix = posixpath.splitext(path)
            if suffix not in (".py", ".pyi", ".pyx"):
                continue
            stem = stem.removesuffix("/__init__")
            root = posixpath.dirname(path)
            while root in packages and root:
                root = posixpath.dirname(root)
            names = {posixpath.relpath(stem, root) if root else stem}
            # A package without __init__.py starts at the workspace or at a folder for sources.
            names |= {stem[len(r) + 1 :] for r in _SOURCE_ROOTS[1:] if stem.startswith(r + "/")}
            for name in {*names, stem}:
                found[name.replace("/", ".")].append(path)
        return found

    def _of_python(self, importer: str, module: str, name: str) -> Sequence[str]:
        rest = module.lstrip(".")
        n_up = len(module) - len(rest)
        if n_up:
            folder = importer
            for _ in range(n_up):
                folder = posixpath.dirname(folder)
            base = posixpath.join(folder, rest.replace(".", "/")) if rest else folder
            return self._python_files(base, name)
        if name and (found := self._python.get(f"{module}.{name}")):
            package = self._python.get(module, [])
            return (
                [_nearest(package, importer), _nearest(found, importer)] if package else found[:1]
            )
        if found := self._python.get(module):
            return [_nearest(found, importer)]
        beside = posixpath.join(posixpath.dirname(importer), module.replace(".", "/"))
        return self._python_files(beside, name)

    def _python_files(self, base: str, name: str) -> Sequence[str]:
        bases = [base, posixpath.join(base, name)] if name else [base]
        ends = (".py", "/__init__.py", ".pyi", "/__init__.pyi")
        found = [(f"{b}{end}").lstrip("/") for b in bases for end in ends]
        return [path for path in found if path in self._paths]

    def _of_script(self, importer: str, module: str, _name: str) -> Sequence[str]:
        if module.startswith("."):
            base = posixpath.normpath(posixpath.join(posixpath.dirname(importer), module))
            return self._script_file(base)
        if module[:2] in ("@/", "~/"):
            module = module[2:]
        for root in _SOURCE_ROOTS:
            if "/" in module and (found := self._script_file(posixpath.join(root, module))):
                return found
        return self._script_package(importer, module)

    def _script_package(self, importer: str, module: str) -> Sequence[str]:
        """A package of the same repository: the folder of its name that has a package.json."""
        parts = module.split("/")
        name, inside = (parts[1:2], parts[2:]) if module[0:1] == "@" else (parts[:1], parts[1:])
        manifest = self.with_suffix("/".join([*name, "package.json"]), importer) if name else None
        if manifest is None or "/" not in manifest:
            return ()
        return self._script_file(posixpath.join(posixpath.dirname(manifest), *inside))

    def _script_file(self, base: str) -> Sequence[str]:
        stem, suffix = posixpath.splitext(base)
        found = [base + end for end in _SCRIPT_SUFFIXES if base + end in self._paths]
        found += [stem + e for e in _COMPILED_SCRIPTS.get(suffix, ()) if stem + e in self._paths]
        return found[:1]

    def _of_go(self, _importer: str, module: str, _name: str) -> Sequence[str]:
        for folder, root in self._go_modules.items():
            if module == root or module.startswith(root + "/"):
                inside = posixpath.join(folder, module[len(root) + 1 :]).rstrip("/")
                files = self._by_folder.get(inside, ())[:_MAX_PACKAGE_FILES]
                return [f for f in files if f.endswith(".go") and not f.endswith("_test.go")]
        return ()

    def _of_rust(self, importer: str, module: str, name: str) -> Sequence[str]:
        parts = [part for part in module.replace("*", "").split("::") if part]
        folder, file = posixpath.split(importer)
        is_root = file in ("lib.rs", "main.rs", "mod.rs")
        here = folder if is_root else posixpath.join(folder, file.removesuffix(".rs"))
        if parts and parts[0] == "crate":
            here, parts = self._crate_of(folder), parts[1:]
        elif parts and parts[0] in ("self", "super"):
            while parts and parts[0] in ("self", "super"):
                here = posixpath.dirname(here) if parts[0] == "super" else here
                parts = parts[1:]
        elif parts and not self._rust_files(here, parts[:1]):
            manifest = self.with_suffix(f"{parts[0].replace('_', '-')}/Cargo.toml", importer)
            manifest = manifest or self.with_suffix(f"{parts[0]}/Cargo.toml", importer)
            if manifest is None:
                return ()
            here, parts = posixpath.join(posixpath.dirname(manifest), "src"), parts[1:]
        wanted = [*parts, *name.split("::")] if name and name not in ("*", "self") else parts
        # What is no module on the way is an item of the last one that is.
        for n in range(len(wanted), -1, -1):
            if found := self._rust_files(here, wanted[:n]):
                return found
        return ()

    def _rust_files(self, here: str, parts: Sequence[str]) -> Sequence[str]:
        base = posixpath.join(here, *parts)
        ends = (".rs", "/mod.rs") if parts else ("/lib.rs", "/main.rs", "/mod.rs", ".rs")
        return [f for end in ends if (f := (base + end).lstrip("/")) in self._paths][:1]

    def _crate_of(self, folder: str) -> str:
        at = folder
        while at and posixpath.join(at, "Cargo.toml") not in self._paths:
            at = posixpath.dirname(at)
        return posixpath.join(at, "src")

    def _of_c(self, importer: str, module: str, _name: str) -> Sequence[str]:
        beside = posixpath.normpath(posixpath.join(posixpath.dirname(importer), module))
        if beside in self._paths:
            return [beside]
        found = self.with_suffix(module.lstrip("./"), importer)
        return [found] if found else ()

    def _of_java(self, importer: str, module: str, name: str) -> Sequence[str]:
        """`a.b.C` is C.java below a/b; `a.b.C.m` is there too; of `a.b.*`, all files of a/b."""
        suffix = posixpath.splitext(importer)[1]
        parts = module.split(".")
        if name == "*" or not parts[-1][:1].isupper():
            inside = "/".join(parts)
            folders = [f for f in self._by_folder if f == inside or f.endswith("/" + inside)]
            files = [p for f in folders for p in self._by_folder[f] if p.endswith(suffix)]
            if files:
                return files[:_MAX_PACKAGE_FILES]
        for n in range(len(parts), 1, -1):
            for end in dict.fromkeys((suffix, ".java", ".kt")):
                if found := self.with_suffix("/".join(parts[:n]) + end, importer):
                    return [found]
        return ()

    def _of_path(self, importer: str, module: str, _name: str) -> Sequence[str]:
        """A file named by its path, with or without its suffix, from here or from some root."""
        suffix = posixpath.splitext(importer)[1]
        module = posixpath.normpath(module.strip("\"' ")).replace("$SCRIPT_DIR/", "")
        beside = posixpath.normpath(posixpath.join(posixpath.dirname(importer), module))
        for end in ("", suffix, f"/init{suffix}", f"/_index{suffix}"):
            if beside + end in self._paths:
                return [beside + end]
        for end in ("", suffix):
            if found := self.with_suffix(module.lstrip("./") + end, importer):
                return [found]
        return ()

    def _of_dotted(self, importer: str, module: str, name: str) -> Sequence[str]:
        """Lua and Haskell: a path with dots."""
        return self._of_path(importer, module.replace(".", "/"), name)

    def _of_php(self, importer: str, module: str, name: str) -> Sequence[str]:
        if "\\" not in module:
            return self._of_path(importer, module.lstrip("/"), name)
        parts = [*module.split("\\"), name] if name else module.split("\\")
        for n in range(len(parts)):  # PSR-4: the first parts stand for a folder of any name
            if found := self.with_suffix("/".join(parts[n:]) + ".php", importer):
                return [found]
        return ()

    def _of_cmake(self, importer: str, module: str, name: str) -> Sequence[str]:
        below = posixpath.join(posixpath.dirname(importer), module, "CMakeLists.txt")
        below = posixpath.normpath(below)
        return [below] if below in self._paths else self._of_path(importer, module, name)


_FOLDER_IS_PACKAGE = frozenset({"go", "java", "kotlin", "scala", "swift", "csharp"})

_FINDERS: dict[str, Callable[[Modules, str, str, str], Sequence[str]]] = {
    "python": Modules._of_python,
    "javascript": Modules._of_script,
    "typescript": Modules._of_script,
    "tsx": Modules._of_script,
    "go": Modules._of_go,
    "rust": Modules._of_rust,
    "c": Modules._of_c,
    "cpp": Modules._of_c,
    "java": Modules._of_java,
    "kotlin": Modules._of_java,
    "scala": Modules._of_java,
    "php": Modules._of_php,
    "ruby": Modules._of_path,
    "lua": Modules._of_dotted,
    "haskell": Modules._of_dotted,
    "zig": Modules._of_path,
    "bash": Modules._of_path,
    "css": Modules._of_path,
    "make": Modules._of_path,
    "vim": Modules._of_path,
    "cmake": Modules._of_cmake,
}


def _nearest(paths: Sequence[str], importer: str) -> str:
    return min(paths, key=lambda path: (-n_shared(path, importer), len(path)))


def n_shared(path: str, other: str) -> int:
    """How many folders two paths have in common."""
    n = 0
    for one, two in zip(path.split("/")[:-1], other.split("/")[:-1], strict=False):
        if one != two:
            break
        n += 1
    return n
