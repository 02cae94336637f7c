"""The code behind a result: it follows imports wherever they stand, down to installed distributions, and nothing else."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import time
import zipfile
from dataclasses import dataclass, make_dataclass
from typing import Any

import pytest

from sweep.compress.distill import teachers
from sweep.compress.quantize import integer, qat
from sweep.core.errors import ConfigError
from sweep.models import families
from sweep.pipeline import sources
from sweep.pipeline.imports import Imports
from sweep.pipeline.sources import Code, Reader
from sweep.tflite import benchmark


class Folder:
    """A folder on the path of modules."""

    def __init__(self, path):
        self.path = path

    def write(self, files):
        """Write files, path to text."""
        for name, text in files.items():
            path = self.path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        importlib.invalidate_caches()

    def code(self, name="own") -> Code:
        """The code behind a module, read anew."""
        importlib.invalidate_caches()
        return Reader()._code([name])


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    yield Folder(tmp_path)
    for name in set(sys.modules) - before:
        del sys.modules[name]


LAZY = """
from importlib import import_module
def __getattr__(name):
    return import_module(".helper", __name__)
"""
# What is in own.py, and the files beside it; the last is the one that is changed.
WAYS = {
    "import": ("import helper", ["helper.py"]),
    "import as": ("import sys, helper as h", ["helper.py"]),
    "from": ("from helper import SIZE", ["helper.py"]),
    "in a function": ("def f():\n    from helper import SIZE", ["helper.py"]),
    "deep in a method": (
        "class A:\n def f(self):\n  for i in ():\n   with self:\n    if i:\n     import helper",
        ["helper.py"],
    ),
    "in an except": ("try:\n    import absent\nexcept ImportError:\n    import helper", ["helper.py"]),
    "in a finally": ("try:\n    pass\nfinally:\n    import helper", ["helper.py"]),
    "in a case": ("def f(x):\n match x:\n  case 1:\n   import helper", ["helper.py"]),
    "not for types": ("import typing\nif typing.TYPE_CHECKING:\n    pass\nelse:\n    import helper", ["helper.py"]),
    "a submodule": ("from kit import helper", ["kit/__init__.py", "kit/helper.py"]),
    "a dotted name": ("import kit.helper", ["kit/__init__.py", "kit/helper.py"]),
    "the init of a package": ("from kit.helper import x", ["kit/helper.py", "kit/__init__.py"]),
    "the init of an outer package": ("import kit.a.b", ["kit/a/b.py", "kit/a/__init__.py", "kit/__init__.py"]),
    "a namespace package": ("from room.deep import helper", ["room/deep/helper.py"]),
    "import_module": ("import importlib\ndef f(): importlib.import_module('helper')", ["helper.py"]),
    "import_module by keyword": ("from importlib import import_module\nimport_module(name='helper')", ["helper.py"]),
    "__import__": ("def f(): __import__('helper')", ["helper.py"]),
    "a name made at run time": ("import importlib\ndef f(name): importlib.import_module(name)", ["helper.py"]),
}


@pytest.mark.parametrize(("own", "beside"), WAYS.values(), ids=WAYS)
def test_an_import_counts_however_it_is_written(folder, own, beside):
    folder.write({"own.py": own, **dict.fromkeys(beside, "SIZE = 8")})
    first = folder.code()
    assert folder.code() == first
    folder.write({beside[-1]: "SIZE = 2"})
    second = folder.code()
    assert first.digest != second.digest
    changed = beside[-1].removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    assert [name for name in first.modules if first.modules[name] != second.modules[name]] == [changed]


CHAINS = {
    "a helper of a helper": {"own.py": "import helper", "helper.py": "import more", "more.py": "SIZE = 8"},
    "a circle": {"own.py": "import helper", "helper.py": "import more", "more.py": "import own\nSIZE = 8"},
    "what an init takes in": {"own.py": "import kit", "kit/__init__.py": "from .a import *", "kit/a.py": "SIZE = 8"},
    "a relative import": {
        "own.py": "import kit.a",
        "kit/__init__.py": "",
        "kit/a.py": "from .b import x",
        "kit/b.py": "SIZE = 8",
    },
    "a sibling": {"own.py": "import kit.a", "kit/__init__.py": "", "kit/a.py": "from . import b", "kit/b.py": "SIZE = 8"},
    "two levels up": {
        "own.py": "import kit.a.c",
        "kit/__init__.py": "",
        "kit/a/__init__.py": "",
        "kit/a/c.py": "from ..b import d",
        "kit/b/d.py": "SIZE = 8",
    },
    "a lazy package": {"own.py": "import kit", "kit/__init__.py": LAZY, "kit/helper.py": "SIZE = 8"},
    "a package of plugins": {
        "own.py": "import kit",
        "kit/__init__.py": "import importlib\ndef f(name): importlib.import_module(f'kit.parts.{name}')",
        "kit/parts/deep/helper.py": "SIZE = 8",
    },
}


@pytest.mark.parametrize("files", CHAINS.values(), ids=CHAINS)
def test_imports_are_followed_to_their_end(folder, files):
    folder.write({**files, "unrelated.py": "SIZE = 8"})
    first = folder.code()
    folder.write({"unrelated.py": "SIZE = 2", "kit/notes.txt": "SIZE = 2"})
    assert folder.code() == first
    last = list(files)[-1]
    folder.write({last: files[last].replace("SIZE = 8", "SIZE = 2") + "\n"})
    assert folder.code().digest != first.digest


def test_what_only_a_type_checker_sees_does_not_count(folder):
    hidden = (
        "if TYPE_CHECKING:\n    import hints\nif typing.TYPE_CHECKING:\n    from hints import x\n# import hints\n'import hints'"
    )
    folder.write({"own.py": f"import typing\nfrom typing import TYPE_CHECKING\n{hidden}", "hints.py": "x = 1"})
    assert set(folder.code().modules) == {"own"}


def test_a_module_may_be_called_as_one_of_pythons(folder):
    folder.write({"own.py": "import this", "this.py": "SIZE = 8"})
    assert set(folder.code().modules) == {"own", "this"}


def test_python_itself_is_not_followed(folder):
    folder.write({"own.py": "import json, os.path, ctypes, sys, _socket, xml.etree.ElementTree, absent"})
    assert folder.code() == Code({"own": folder.code().modules["own"]}, {"Python": "{}.{}".format(*sys.version_info)})


def test_what_is_no_python_counts_by_its_bytes(folder):
    for text in ("def f(:", "\0", "(" * 5000):
        folder.write({"own.py": "import helper", "helper.py": text})
        assert set(folder.code().modules) == {"own", "helper"}


def test_an_extension_counts_by_its_bytes(folder):
    ending = importlib.machinery.EXTENSION_SUFFIXES[0]
    folder.write({"own.py": "import fast", f"fast{ending}": "first"})
    first = folder.code()
    folder.write({f"fast{ending}": "other"})
    assert folder.code().modules["own"] == first.modules["own"]
    assert folder.code().modules["fast"] != first.modules["fast"]


def test_a_shared_library_counts_where_a_module_names_it(folder):
    folder.write({"own.py": "import ctypes\nf = lambda: ctypes.CDLL(str(here / 'lib/fast.so'))", "lib/fast.so": "first"})
    first = folder.code()
    folder.write({"lib/fast.so": "other", "lib/more.so": "other"})
    assert folder.code().digest != first.digest


def test_a_module_in_an_archive_counts_by_its_content(tmp_path, monkeypatch):
    codes = []
    for number in range(2):
        archive = tmp_path / f"{number}.zip"
        with zipfile.ZipFile(archive, "w") as file:
            file.writestr("kit/__init__.py", "from kit import helper")
            file.writestr("kit/helper.py", f"SIZE = {number}")
        with monkeypatch.context() as patched:
            patched.syspath_prepend(str(archive))
            codes.append(Reader()._code(["kit"]))
    assert [set(code.modules) for code in codes] == [{"kit", "kit.helper"}] * 2
    assert codes[0].digest != codes[1].digest


def installed(folder, version="1.0", record="lib/__init__.py,,\nlib/deep.py,,\n", **files):
    """A distribution as an installer leaves it, with a package `lib`."""
    files = {"METADATA": f"Metadata-Version: 2.1\nName: My-Lib\nVersion: {version}\n", "RECORD": record, **files}
    folder.write({f"my_lib-1.0.dist-info/{name}": text for name, text in files.items()})


@pytest.mark.parametrize("record", ["lib/__init__.py,,\nlib/deep.py,,\n", ""])
def test_a_distribution_counts_by_its_version_and_is_not_followed(folder, record):
    folder.write({"own.py": "from lib import deep", "lib/__init__.py": "import more", "lib/deep.py": "x = 1", "more.py": ""})
    installed(folder, record=record, **{"top_level.txt": "lib\n"})
    first = folder.code()
    assert set(first.modules) == {"own"}
    assert first.distributions["My-Lib"] == "1.0"
    folder.write({"lib/deep.py": "x = 2"})
    assert folder.code() == first
    installed(folder, "1.1", record, **{"top_level.txt": "lib\n"})
    assert folder.code().digest != first.digest


def test_each_part_of_a_namespace_is_its_own_distributions(folder):
    folder.write({"own.py": "import room.lib, room.mine", "room/lib/__init__.py": "", "room/mine.py": ""})
    installed(folder, record="room/lib/__init__.py,,\n")
    assert set(folder.code().modules) == {"own", "room.mine"}
    assert "My-Lib" in folder.code().distributions


def test_what_was_installed_from_a_folder_counts_by_its_content(folder):
    folder.write({"own.py": "from lib import deep", "lib/__init__.py": "", "lib/deep.py": "x = 1"})
    installed(folder, **{"direct_url.json": json.dumps({"url": "file:///home/me/lib", "dir_info": {}})})
    first = folder.code()
    assert set(first.modules) == {"own", "lib", "lib.deep"}
    folder.write({"lib/deep.py": "x = 2"})
    assert folder.code().digest != first.digest


def test_what_building_leaves_beside_the_sources_makes_them_no_distribution(folder):
    folder.write({"own.py": "import lib", "lib.py": "", "my_lib.egg-info/PKG-INFO": "", "my_lib.egg-info/top_level.txt": "lib"})
    assert set(folder.code().modules) == {"own", "lib"}


def test_our_own_stages_stand_on_their_imports():
    code = sources.behind(qat)
    assert {
        "sweep",
        "sweep.core.types",
        "sweep.compress.quantize.integer",
        "sweep.compress.quantize.bit_search",
        "sweep.compress.quantize.mixed_precision",
        "sweep.train.context",
        "sweep.models.checkpoints",
        "sweep.tflite.requantize",
    } <= set(code.modules)
    assert not [name for name in code.modules if name.startswith(("sweep.pipeline.", "sweep.config.", "sweep.tracking."))]
    assert {"tensorflow", "tf_keras", "tensorflow-model-optimization", "numpy"} <= set(code.distributions)
    assert code.users == {}
    assert {"sweep.tflite.litert", "sweep.core.native"} <= set(sources.behind(benchmark).modules)
    assert "ai-edge-litert" in sources.behind(benchmark).distributions


def test_reading_takes_milliseconds():
    began = time.perf_counter()
    Reader().behind(integer, teachers, benchmark)
    assert time.perf_counter() - began < 1  # 0.05 s on an idle core


@dataclass(frozen=True)
class Holder:
    parts: Any


def test_the_parts_of_a_value_count_wherever_they_are_held(folder):
    folder.write({"one.py": "class Part: pass", "two.py": "import one\nclass Part(one.Part): pass\ndef f(): pass"})
    one, two = importlib.import_module("one"), importlib.import_module("two")
    for value in (one.Part(), one.Part, [one.Part()], {"a": (one.Part(),)}, Holder(Holder([one.Part()])), one):
        assert "one" in Reader().behind(value).modules
    for value in (two.Part, two.f, two.Part()):
        assert {"one", "two"} <= set(Reader().behind(value).modules)
    assert set(Reader().behind(None, 1, "a", 2.0, [True]).modules) == set()


def from_text():
    space = {"__name__": __name__, "dataclass": dataclass}
    exec("class Net:\n    def build(self): pass", space)
    globals()["Net"] = space["Net"]
    return space["Net"]


@pytest.mark.parametrize("make", [from_text, lambda: make_dataclass("Made", [])], ids=["exec", "make_dataclass"])
def test_a_class_without_a_file_is_refused(make):
    with pytest.raises(ConfigError, match=r"_target_: expected a class in a module's file.*; received \w+\.(Net|Made)"):
        Reader().behind(make()())


@pytest.mark.slow
def test_a_script_has_a_file_and_a_command_has_none(tmp_path):
    text = (
        "from dataclasses import dataclass\nfrom sweep.pipeline import sources\n@dataclass\nclass Net:\n    width: int = 1\n"
        "    def build(self): import helper\nprint(sorted(sources.behind(Net()).modules))"
    )
    (tmp_path / "script.py").write_text(text)
    (tmp_path / "helper.py").touch()
    ran = subprocess.run([sys.executable, str(tmp_path / "script.py")], check=True, capture_output=True, text=True)
    ours = ("sweep", "sweep.core", "sweep.core.errors", "sweep.pipeline")
    reading = [f"sweep.pipeline.{name}" for name in ("imports", "installed", "sources")]
    assert ran.stdout == f"{['__main__', 'helper', *ours, *reading]}\n"
    ran = subprocess.run([sys.executable, "-c", text], check=False, capture_output=True, text=True)
    assert "received __main__.Net" in ran.stderr


def test_a_module_that_cannot_be_read_is_refused(folder):
    folder.write({"own.py": "x = 1"})
    own = importlib.import_module("own")
    (folder.path / "own.py").unlink()
    with pytest.raises(ConfigError, match="own: expected a module whose code can be read"):
        Reader().behind(own)


def test_code_that_changes_before_it_is_imported_is_noticed(folder):
    folder.write({"own.py": "def f(): import helper", "helper.py": "SIZE = 8"})
    own, reader = importlib.import_module("own"), Reader()
    reader.behind(own)
    folder.write({"own.py": "def f(): import helper  # it was imported before", "helper.py": "SIZE = 2"})
    reader.require_unchanged()
    own.f()
    with pytest.raises(sources.CodeChanged, match="the code of helper changed"):
        reader.require_unchanged()


def test_code_that_stays_is_imported_as_read(folder):
    folder.write({"own.py": "def f(): import helper", "helper.py": "SIZE = 8"})
    own, reader = importlib.import_module("own"), Reader()
    code = reader.behind(own)
    own.f()
    reader.require_unchanged()
    folder.write({"helper.py": "SIZE = 2"})
    assert reader.behind(own) == code


def test_text_that_is_not_python_imports_nothing():
    assert Imports.of(b"import (", "").names == set()
    assert Imports.of(b"from . import a\nfrom .b import c\nfrom .. import d", "x.y").names == {
        "x.y",
        "x.y.a",
        "x.y.b",
        "x.y.b.c",
        "x",
        "x.d",
    }


def test_a_model_of_ours_stands_on_little():
    assert set(sources.behind(families.LeNet5()).modules) == {
        "sweep",
        "sweep.core",
        "sweep.core.errors",
        "sweep.models",
        "sweep.models.families",
    }
