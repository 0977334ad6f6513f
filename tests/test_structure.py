"""One stem per paper, one direction of imports, and an import that does nothing else."""

import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import grimp
import pytest
import yaml

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "code" / "casebook"
CARD = re.compile(r"^[`:]{3,}\{(paper|lab|opener)-card\}", re.M)
PARTS = [
    "vision",
    "sequence",
    "transformers",
    "language",
    "generative",
    "diffusion",
    "games",
    "reasoning",
]
SHARED = ["data", "text", "training", "record", "plotting", "ledger"]


def chapters() -> list[str]:
    """ "part/stem" of every page with a card, in reading order."""
    contents = yaml.safe_load((ROOT / "_toc.yml").read_text())
    pages = [c["file"] for part in contents["parts"] for c in part["chapters"]]
    return [
        page.removeprefix("book/")
        for page in pages
        if CARD.search((ROOT / f"{page}.md").read_text())
    ]


def modules() -> list[str]:
    """ "part/stem" of every paper's module."""
    found = (path for part in PARTS for path in (PACKAGE / part).glob("*.py"))
    return sorted(f"{p.parent.name}/{p.stem}" for p in found if p.stem != "__init__")


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph("casebook", include_external_packages=True)


def test_every_chapter_has_its_module_and_every_module_its_chapter() -> None:
    assert chapters()
    assert sorted(chapters()) == modules()


@pytest.mark.parametrize("chapter", chapters())
def test_one_stem(chapter: str) -> None:
    part, stem = chapter.split("/")
    assert part in PARTS
    assert (ROOT / "tests" / part / f"test_{stem}.py").exists()
    assert (PACKAGE / "claims" / f"{stem}.toml").exists()


def test_every_claims_file_and_test_has_its_chapter() -> None:
    stems = [chapter.split("/")[1] for chapter in chapters()]
    assert sorted(path.stem for path in (PACKAGE / "claims").glob("*.toml")) == sorted(stems)
    tested = [
        p.stem.removeprefix("test_") for part in PARTS for p in ROOT.glob(f"tests/{part}/*.py")
    ]
    assert sorted(tested) == sorted(stems)


def test_code_is_no_package() -> None:
    assert not (ROOT / "code" / "__init__.py").exists(), "it would shadow the library's `code`"


def in_part(module: str) -> bool:
    return module.split(".")[1:2] in [[part] for part in PARTS]


def test_shared_modules_know_no_paper(graph: grimp.ImportGraph) -> None:
    shared = [m for m in graph.modules if m.startswith("casebook.") and m.split(".")[1] in SHARED]
    assert shared
    for module in shared:
        papers = {
            other for other in graph.find_modules_directly_imported_by(module) if in_part(other)
        }
        assert not papers, f"{module} imports {papers}"


def test_papers_leave_the_wiring_to_the_chapter(graph: grimp.ImportGraph) -> None:
    papers = [m for m in graph.modules if m.startswith("casebook.") and in_part(m)]
    assert papers
    for module in papers:
        for other in graph.find_modules_directly_imported_by(module):
            shared = other.startswith("casebook.") and not in_part(other)
            allowed = other in ("casebook.training", "casebook.text")
            assert not shared or allowed, f"{module} imports {other}"


def test_papers_import_earlier_papers_only(graph: grimp.ImportGraph) -> None:
    order = {f"casebook.{c.replace('/', '.')}": place for place, c in enumerate(chapters())}
    for module, place in order.items():
        for other in graph.find_modules_directly_imported_by(module):
            assert order.get(other, -1) < place, f"{module} imports the later {other}"


def test_only_plotting_draws(graph: grimp.ImportGraph) -> None:
    for library in ("matplotlib", "altair"):
        assert graph.find_modules_that_directly_import(library) == {"casebook.plotting"}


def test_importing_has_no_effect_but_itself() -> None:
    """Nothing printed, no seed set, no thread count changed, no file or network touched."""
    script = """
import random, sys, numpy, torch
before = random.getstate(), numpy.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
threads = torch.get_num_threads()
def no_network(event, arguments):
    if event.startswith("socket."):
        sys.exit(f"{event} {arguments}")
sys.addaudithook(no_network)
import MODULES
after = random.getstate(), numpy.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
assert after == before and torch.get_num_threads() == threads
"""
    names = [f"casebook.{m}" for m in SHARED] + [
        f"casebook.{m.replace('/', '.')}" for m in modules()
    ]
    done = subprocess.run(
        [sys.executable, "-c", script.replace("MODULES", ", ".join(names))],
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_table_of_contents_follows_the_parts() -> None:
    places = [PARTS.index(chapter.split("/")[0]) for chapter in chapters()]
    assert all(a <= b for a, b in pairwise(places))
