"""The map in each package's docstring has a line for every file of the package."""

import ast
from pathlib import Path

import pytest

import reactor

PACKAGES = sorted(Path(reactor.__file__).parent.rglob("__init__.py"))
NOT_CODE = {"__init__.py", "__pycache__", "py.typed", "queries", "static", "templates"}


@pytest.mark.parametrize("package", PACKAGES, ids=lambda init: init.parent.name)
def test_every_file_has_a_line_in_the_map_of_its_package(package):
    told = ast.get_docstring(ast.parse(package.read_text())) or ""
    files = [file.name if file.suffix else f"{file.name}/" for file in package.parent.iterdir()]

    assert [name for name in sorted(files) if name.strip("/") not in NOT_CODE and name not in told] == []
