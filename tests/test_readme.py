"""What the README and the pages that it links to must name."""

import re
from pathlib import Path

import pytest

from reactor.cli import commands
from reactor.settings import Settings

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PAGES = ("README.md", "SECURITY.md", "deploy/README.md", "sql/README.md", "tests/bench/README.md")
COMMANDS = re.findall(r"^\| `reactor (\w+)", README, re.MULTILINE)
SETTINGS = re.findall(r"[A-Z_]{2,}", " ".join(re.findall(r"^\| (`[A-Z_`, ]+`) \|", README, re.MULTILINE)))


def anchor(heading):
    """The anchor that GitHub gives to a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def test_the_table_of_settings_has_every_setting():
    assert {name.upper() for name in Settings.model_fields} == set(SETTINGS)


def test_the_table_of_commands_has_every_command():
    assert set(commands.commands) == set(COMMANDS)


@pytest.mark.parametrize("page", PAGES)
def test_a_link_leads_to_a_file_and_a_heading(page):
    path = ROOT / page
    links = re.findall(r"\]\(([^)\s]+)\)", path.read_text())

    for name, _, heading in (link.partition("#") for link in links if not link.startswith("https:")):
        target = path.parent / name if name else path
        assert target.exists(), name
        headings = re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE) if heading else []
        assert not heading or heading in map(anchor, headings), heading
