from pathlib import Path

import pytest
from mutants.guards import MUTANTS

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_names_code_and_a_test_that_are_there(mutant):
    path, _, name = mutant.test.partition("::")

    assert mutant.old in (ROOT / mutant.path).read_text()
    assert f"def {name.partition('[')[0]}(" in (ROOT / path).read_text()
