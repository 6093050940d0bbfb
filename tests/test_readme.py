"""The README tells the truth: its tree is the disk's, its commands are those that are run elsewhere."""

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```", README, flags=re.M | re.S)


def test_the_tree_names_every_part_of_the_package_once():
    [tree] = blocks("text")
    named = re.findall(r"^  (\S+)\s+\S", tree, flags=re.M)
    here = {p.name + "/" * p.is_dir() for p in (ROOT / "mlxnb").iterdir() if not p.name.startswith("_")}
    assert sorted(named) == sorted(here)


def test_the_top_level_is_as_agreed():
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    top = {Path(line).parts[0] for line in tracked.splitlines()}
    assert {name for name in top if not name.startswith(".")} == {
        "CHANGELOG.md",
        "LICENSE",
        "README.md",
        "mlxnb",
        "notebooks",
        "pyproject.toml",
        "tests",
    }


def test_the_first_two_sh_blocks_try_it_and_test_it():
    first, second = blocks("sh")
    assert first.strip().endswith("mlxnb demo")
    assert "tests/constraints.txt" in second
    assert second.strip().endswith("pytest -q")


def test_every_link_and_picture_is_there():
    for target in re.findall(r"\]\(([^)]+)\)", README):
        assert target.startswith("https://") or (ROOT / target).exists(), target


def test_every_option_of_the_magic_is_named():
    from mlxnb.magics.options import generate_parser

    actions = {action.dest: action.option_strings for action in generate_parser().options().values()}
    del actions["help"]
    for names in actions.values():
        assert any(re.search(rf"`{name}\b", README) for name in names), names


def test_the_python_shown_runs():
    """The notebook shows the magics at work; here the plain Python, as it stands in the README."""
    import asyncio

    code = next(block for block in blocks("python") if "import mlxnb" in block)
    assert "await" in code
    indented = "\n".join(f"    {line}" for line in code.splitlines())
    names: dict[str, object] = {}
    exec(f"async def main():\n{indented}\n    return result", names)
    assert asyncio.run(names["main"]()).text
