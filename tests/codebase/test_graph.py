"""What names mean across files, language by language; each project is a few files of text."""

import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lsp_assist.codebase import graph
from lsp_assist.codebase.index import Index
from lsp_assist.codebase.resolve import BELIEVED, Target
from lsp_assist.codebase.store import StoredSymbol
from lsp_assist.config import IndexSettings

Project = Mapping[str, str]
Open = Callable[[Project], Index]

PYTHON = {
    "pkg/__init__.py": "from .sessions import Session as Client\nfrom . import api\n",
    "pkg/sessions.py": """\
from .adapters import Adapter, BaseAdapter as Base
from .models import make

class Session:
    def __init__(self):
        self.adapter = Adapter()

    def get(self, url, **kwargs):
        kwargs.get("x")
        self.adapter.send(url)
        return self.request(url)

    def request(self, url):
        return make(url)
""",
    "pkg/adapters.py": """\
class BaseAdapter:
    def close(self):
        parent.close()

class Adapter(BaseAdapter):
    def send(self, url, parent=None):
        self.close()
        parent.close()
        return super().close()
""",
    "pkg/models.py": """\
from __future__ import annotations

def make(url) -> Model:
    return Model(url)

class Model:
    def __init__(self, url):
        self.url = url

    def text(self):
        return ""
""",
    "pkg/api.py": """\
from . import sessions, models
import pkg.models as m

def get(url):
    with sessions.Session() as session:
        return session.get(url)

def text(url):
    return m.make(url).text()

def loop(get):
    return get()
""",
    "main.py": """\
import json
import pkg
from pkg import Client
from pkg.api import get as fetch

def run(options, session):
    Client().get("x")
    fetch("y")
    pkg.api.text("z")
    json.loads("{}")
    options.get("Session")
    session.request("w")
""",
    "tests/test_pkg.py": """\
from pkg.sessions import Session

def test_get():
    Session().get("x")
""",
}

JAVASCRIPT = {
    "src/index.ts": """\
export { Client as Http } from './client';
export * from './util/index.js';
""",
    "src/client.ts": """\
import { join } from './util';
import type { Options } from './types';
import * as fs from 'fs';

export class Client {
  constructor(private options: Options) {}
  get(path: string) {
    fs.get(path);
    this.options.check();
    return this.send(join(path));
  }
  send(path: string): Reply { return new Reply(path); }
}
export class Reply { text() { return ''; } }
""",
    "src/types.ts": "export class Options { check() {} }\n",
    "src/util/index.ts": "export function join(a: string) { return a; }\nfunction hidden() {}\n",
    "app/main.tsx": """\
import { Http, join } from '../src';
import log from './log';

export function main(map: Map<string, string>) {
  const client = new Http();
  client.send('a').text();
  map.get('x');
  log(join('b'));
}
""",
    "app/log.js": "export default function write(text) { return text; }\n",
}

GO = {
    "go.mod": "module example.com/shop\n\ngo 1.22\n",
    "store/store.go": """\
package store

type Store struct { log *Logger }

func New() *Store { return &Store{} }

func (s *Store) Get(key string) string { return s.find(key) }
""",
    "store/find.go": """\
package store

type Logger struct{}

func (l *Logger) Print(text string) {}

func (s *Store) find(key string) string { s.log.Print(key); return key }
""",
    "cmd/main.go": """\
package main

import (
	"net/http"
	st "example.com/shop/store"
)

func main() {
	s := st.New()
	s.Get("a")
	http.Get("b")
	run(s)
}

func run(s *st.Store) { s.Get("c") }
""",
}

RUST = {
    "Cargo.toml": "[package]\n",
    "src/lib.rs": "pub mod store;\nmod search;\n",
    "src/store.rs": """\
pub struct Store { size: usize }

impl Store {
    pub fn new() -> Self { Store { size: 0 } }
    pub fn get(&self, key: &str) -> usize { self.count(key) }
    fn count(&self, key: &str) -> usize { 0 }
}
""",
    "src/search.rs": """\
use crate::store::Store;
use std::collections::HashMap;

pub fn find(cache: &HashMap<String, usize>) -> usize {
    let store = Store::new();
    cache.get("x");
    store.get("y")
}

pub fn all(store: &super::store::Store) -> usize { store.get("z") }
""",
}

C = {
    "src/list.h": "struct list { int n; };\nint list_len(struct list *l);\n",
    "src/list.c": '#include "list.h"\n\nint list_len(struct list *l) { return l->n; }\n',
    "src/main.c": """\
#include <stdio.h>
#include "list.h"

static int count(struct list *l) { return list_len(l); }

int main(void) { struct list l; printf("x"); return count(&l); }
""",
}

CPP = {
    "include/acme/engine.hpp": """\
namespace acme {
class Engine {
 public:
  int run();
 private:
  int step();
};
}
""",
    "src/engine.cpp": """\
#include "acme/engine.hpp"

int acme::Engine::run() { return step(); }
int acme::Engine::step() { return 1; }
""",
    "src/main.cpp": """\
#include <acme/engine.hpp>

int main() { acme::Engine engine; return engine.run(); }
""",
}

JAVA = {
    "src/com/acme/Store.java": """\
package com.acme;

public class Store extends Base {
  private final Log log = new Log();
  public String get(String key) { log.print(key); return find(key); }
  public static Store open() { return new Store(); }
}
""",
    "src/com/acme/Base.java": """\
package com.acme;

class Base { String find(String key) { return key; } }
""",
    "src/com/acme/util/Main.java": """\
package com.acme.util;

import com.acme.Store;
import java.util.Map;

class Main {
  void run(Map<String, String> map) {
    Store store = Store.open();
    store.get("a");
    map.get("b");
  }
}
""",
    "src/com/acme/Log.java": "package com.acme;\n\nclass Log { void print(String text) {} }\n",
}

CALLEES = [
    ("python", PYTHON, "Session.get", ["Adapter.send", "Session.request"]),
    ("python", PYTHON, "Session.__init__", ["Adapter"]),
    ("python", PYTHON, "Session.request", ["make"]),
    ("python", PYTHON, "Adapter.send", ["BaseAdapter.close"]),
    ("python", PYTHON, "BaseAdapter.close", []),
    ("python", PYTHON, "pkg/api.py:get", ["Session", "Session.get"]),
    ("python", PYTHON, "pkg/api.py:text", ["make", "Model.text"]),
    ("python", PYTHON, "loop", []),
    ("python", PYTHON, "run", ["Session", "Session.get", "get", "text", "Session.request"]),
    ("typescript", JAVASCRIPT, "Client.get", ["Options.check", "Client.send", "join"]),
    ("typescript", JAVASCRIPT, "Client.send", ["Reply"]),
    ("tsx", JAVASCRIPT, "main", ["Client", "Client.send", "Reply.text", "write", "join"]),
    ("go", GO, "main", ["New", "Store.Get", "run"]),
    ("go", GO, "run", ["Store.Get"]),
    ("go", GO, "Store.Get", ["Store.find"]),
    ("go", GO, "Store.find", ["Logger.Print"]),
    ("rust", RUST, "find", ["Store::new", "Store::get"]),
    ("rust", RUST, "all", ["Store::get"]),
    ("rust", RUST, "Store::get", ["Store::count"]),
    ("c", C, "src/main.c:main", ["count"]),
    ("c", C, "count", ["list_len"]),
    ("cpp", CPP, "main", ["acme::Engine::run"]),
    ("cpp", CPP, "src/engine.cpp:acme::Engine::run", ["acme::Engine::step"]),
    ("java", JAVA, "Store.get", ["Log.print", "Base.find"]),
    ("java", JAVA, "Main.run", ["Store.open", "Store.get"]),
]


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Open]:
    opened: list[Index] = []

    def open_index(files: Project) -> Index:
        root = tmp_path / "workspace"
        for path, text in files.items():
            file = root / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        index = Index(root, tmp_path / "cache" / "index.sqlite3", IndexSettings())
        index.refresh()
        opened.append(index)
        return index

    yield open_index
    for index in opened:
        index.close()


def moment(index: Index) -> graph.Moment:
    return index._graph.at(index._view())


def names(targets: list[Target]) -> list[str]:
    return [target.symbol.qualified_name for target in targets]


def symbol(index: Index, name: str) -> StoredSymbol:
    """A symbol by its qualified name, with its path in front where that is needed."""
    path, _, qualified = name.partition(":") if "/" in name else ("", "", name)
    last = qualified.replace("::", ".").rpartition(".")[2]
    found = [
        s
        for s in index._view().symbols_named(last)
        if s.qualified_name == qualified and s.path.startswith(path)
    ]
    assert len({s.path for s in found}) == 1, found
    return found[0]


@pytest.mark.parametrize(
    ("language", "files", "name", "expected"), CALLEES, ids=[f"{c[0]}-{c[2]}" for c in CALLEES]
)
def test_a_symbol_calls_what_its_names_mean(
    project: Open, language: str, files: Project, name: str, expected: list[str]
) -> None:
    """Through imports, types and inheritance, and nothing foreign that is called alike."""
    index = project(files)
    found = graph.callees(moment(index), symbol(index, name), 20)
    assert sorted(names(found)) == sorted(expected)
    assert all(BELIEVED <= target.confidence <= 1 for target in found)


@pytest.mark.parametrize(
    ("files", "name", "expected"),
    [
        (PYTHON, "Session.get", ["get", "run", "test_get"]),
        (PYTHON, "pkg/api.py:get", ["run"]),
        (PYTHON, "Model.__init__", ["make"]),
        (PYTHON, "BaseAdapter.close", ["Adapter.send"]),
        (JAVASCRIPT, "join", ["Client.get", "main"]),
        (GO, "Store.Get", ["main", "run"]),
        (RUST, "Store::get", ["find", "all"]),
        (C, "src/list.c:list_len", ["count"]),
        (JAVA, "Base.find", ["Store.get"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_symbol_is_called_by_those_that_mean_it(
    project: Open, files: Project, name: str, expected: list[str]
) -> None:
    index = project(files)
    found = graph.callers(moment(index), symbol(index, name), 20)
    assert sorted(names(found)) == sorted(expected)


@pytest.mark.parametrize(
    ("files", "path", "expected"),
    [
        (PYTHON, "pkg/sessions.py", ["pkg/__init__.py", "pkg/api.py", "tests/test_pkg.py"]),
        (PYTHON, "pkg/models.py", ["pkg/api.py", "pkg/sessions.py"]),
        (JAVASCRIPT, "src/util/index.ts", ["src/client.ts", "src/index.ts"]),
        (JAVASCRIPT, "src/index.ts", ["app/main.tsx"]),
        (GO, "store/find.go", ["cmd/main.go"]),
        (RUST, "src/store.rs", ["src/lib.rs", "src/search.rs"]),
        (C, "src/list.h", ["src/list.c", "src/main.c"]),
        (CPP, "include/acme/engine.hpp", ["src/engine.cpp", "src/main.cpp"]),
        (JAVA, "src/com/acme/Store.java", ["src/com/acme/util/Main.java"]),
        ({"a/x.rb": "require_relative 'y'\n", "a/y.rb": "Y = 1\n"}, "a/y.rb", ["a/x.rb"]),
        ({"x.lua": "local y = require('a.y')\n", "a/y.lua": "return 1\n"}, "a/y.lua", ["x.lua"]),
        (
            {"x.php": "<?php\nuse App\\Models\\User;\n", "src/Models/User.php": "<?php\n"},
            "src/Models/User.php",
            ["x.php"],
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_importers_are_found(project: Open, files: Project, path: str, expected: list[str]) -> None:
    assert project(files).importers(path) == expected


def test_tests_are_found_directly_and_through_what_they_call(project: Open) -> None:
    index = project(PYTHON)
    direct = symbol(index, "Session.get")
    tested = index.tests_of(direct.path, direct.start_line)
    assert [passage.hit.symbol for passage in tested] == ["test_get"]
    assert "Session().get" in tested[0].text
    indirect = symbol(index, "Session.request")
    assert names(graph.tests_of(moment(index), indirect)) == ["test_get"]
    assert index.tests_of("main.py", 0) == []


def test_the_closure_of_a_selection_is_what_it_builds_on(project: Open) -> None:
    """A name is found too where it is used above the selection first; what is selected is not."""
    index = project(PYTHON)
    got = symbol(index, "Session.get")
    found = index.closure(got.path, got.start_line, got.end_line)
    assert {passage.hit.symbol for passage in found} == {"Adapter.send", "Session.request"}
    assert found[0].text.startswith("    def ")
    last = index.closure(got.path, got.end_line, got.end_line)
    assert [passage.hit.symbol for passage in last] == ["Session.request"]
    whole = index.closure("pkg/sessions.py", 0, 99)
    assert {"Adapter", "make"} <= {passage.hit.symbol for passage in whole}
    assert not any(passage.hit.path == "pkg/sessions.py" for passage in whole)
    assert index.closure("missing.py", 0, 9) == []


def test_unsaved_text_counts_like_saved_text(project: Open) -> None:
    """In who calls whom and in who imports whom, and no longer when it is thrown away."""
    index = project(PYTHON)
    made = symbol(index, "make")
    index.overlay("new.py", "from pkg.models import make\n\ndef unsaved():\n    make('x')\n")
    assert "unsaved" in names(graph.callers(moment(index), made, 20))
    assert "new.py" in index.importers("pkg/models.py")
    assert "new.py" in index.file_ranks({})
    index.overlay("new.py", None)
    assert "unsaved" not in names(graph.callers(moment(index), made, 20))
    assert "new.py" not in index.importers("pkg/models.py")


def test_a_change_of_one_file_changes_what_others_mean(project: Open) -> None:
    index = project(PYTHON)
    assert names(graph.callees(moment(index), symbol(index, "Session.request"))) == ["make"]
    index.overlay("pkg/models.py", "def made(url):\n    pass\n")
    assert names(graph.callees(moment(index), symbol(index, "Session.request"))) == []


def test_files_rank_by_what_ties_them(project: Open) -> None:
    index = project(PYTHON)
    ranks = index.file_ranks({})
    assert sum(ranks.values()) == pytest.approx(1)
    assert set(ranks) == set(PYTHON)
    near = [path for path, _ in index.related_files("tests/test_pkg.py", 3)]
    assert near[0] == "pkg/sessions.py"
    shares = [share for _, share in index.related_files("main.py", 99)]
    assert shares == sorted(shares, reverse=True)
    assert sum(shares) == pytest.approx(1)
    assert index.file_ranks({"missing.py": 1.0}) == ranks


def test_several_threads_find_the_same(project: Open) -> None:
    """Nobody takes for unknown what another one is finding out."""
    index = project(PYTHON)
    wanted = [symbol(index, name) for name in ("Session.get", "run", "Adapter.send")]
    expected = [names(graph.callees(moment(index), one)) for one in wanted]
    start = threading.Barrier(4)

    def ask(n: int) -> list[list[str]]:
        asked = moments[n]
        start.wait()
        return [names(graph.callees(asked, one)) for one in wanted]

    for n in range(10):
        index.overlay("new.py", f"x = {n}\n")
        moments = [moment(index)] * 4
        with ThreadPoolExecutor(4) as threads:
            assert list(threads.map(ask, range(4))) == [expected] * 4
