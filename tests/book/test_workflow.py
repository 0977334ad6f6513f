"""The workflow that tests and publishes: what it may do, when, and with whose code."""

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny_book import ROOT

FILES = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
ON_MAIN = "github.event_name == 'push' && github.ref == 'refs/heads/main'"


def load(path: Path) -> dict[str, Any]:
    workflow = yaml.safe_load(path.read_text())
    workflow["on"] = workflow.pop(True)  # YAML takes the key `on` for a truth value
    return workflow


WORKFLOWS = {path.name: load(path) for path in FILES}
BOOK = WORKFLOWS["book.yml"]
JOBS = [
    (f"{file}: {name}", job) for file, w in WORKFLOWS.items() for name, job in w["jobs"].items()
]
NAMES = [name for name, _ in JOBS]


def steps(job: dict[str, Any], action: str) -> list[dict[str, Any]]:
    return [step for step in job["steps"] if step.get("uses", "").startswith(f"{action}@")]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_actions_are_pinned_by_commit_and_say_their_version(path: Path) -> None:
    used = re.findall(r"uses:(.*)", path.read_text())
    assert used
    for action in used:
        assert re.fullmatch(r" [\w-]+/[\w-]+@[0-9a-f]{40}  # v\d+\.\d+\.\d+", action), action


@pytest.mark.parametrize("workflow", WORKFLOWS.values(), ids=WORKFLOWS)
def test_nothing_may_write_by_default(workflow: dict[str, Any]) -> None:
    assert workflow["permissions"] == {"contents": "read"}
    # These would lend a pull request's code the rights of the main branch.
    assert not {"pull_request_target", "workflow_run"} & set(workflow["on"])


@pytest.mark.parametrize("job", [job for _, job in JOBS], ids=NAMES)
def test_only_the_main_branch_may_write(job: dict[str, Any]) -> None:
    assert set(job["permissions"].values()) <= {"read", "write"}
    if "write" in job["permissions"].values():
        assert job["if"] == ON_MAIN
        # No code of the repository runs where something may be written.
        assert not any("make" in step.get("run", "") for step in job["steps"])
        assert not any(".ci" in step.get("run", "") for step in job["steps"])


@pytest.mark.parametrize("job", [job for _, job in JOBS], ids=NAMES)
def test_no_outsiders_text_becomes_a_script(job: dict[str, Any]) -> None:
    assert not any("${{" in step.get("run", "") for step in job["steps"])


def test_pull_requests_and_the_main_branch_are_tested_as_everywhere() -> None:
    assert set(BOOK["on"]) == {"pull_request", "push"}
    assert BOOK["on"]["push"] == {"branches": ["main"]}
    test = BOOK["jobs"]["test"]
    assert "if" not in test
    assert test["permissions"] == {"contents": "read"}
    assert "bash .ci/run" in [step.get("run") for step in test["steps"]]
    assert "secrets" not in str(test)
    (checkout,) = steps(test, "actions/checkout")
    assert checkout["with"]["persist-credentials"] is False


def test_what_is_published_is_built_under_its_real_address() -> None:
    test = BOOK["jobs"]["test"]
    (build,) = (step for step in test["steps"] if "CASEBOOK_SITE_URL" in step.get("env", {}))
    assert build["if"] == "github.event_name == 'push'"
    assert build["run"] == "make book notebooks"
    assert build["env"]["CASEBOOK_REPOSITORY"] == "${{ github.repository }}"
    later = test["steps"][test["steps"].index(build) + 1 :]
    assert [step["with"]["path"] for step in later] == ["_build/html", "_build/colab/**/*.ipynb"]
    assert all(step["if"] == build["if"] for step in later)


def test_the_publishing_jobs_have_the_least_they_need() -> None:
    site, notebooks = BOOK["jobs"]["site"], BOOK["jobs"]["notebooks"]
    assert site["needs"] == notebooks["needs"] == "test"
    assert site["permissions"] == {"pages": "write", "id-token": "write"}
    assert steps(site, "actions/deploy-pages") == site["steps"]
    assert notebooks["permissions"] == {"contents": "write"}


def test_the_notebooks_branch_holds_nothing_but_notebooks(tmp_path: Path) -> None:
    """Run the job's own lines on a repository, as the first time and as every other time."""
    origin, clone = tmp_path / "origin", tmp_path / "clone"
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "GITHUB_SHA": "0123456",
        "GIT_CONFIG_NOSYSTEM": "1",
    }

    def run(script: str, folder: Path) -> str:
        command = ["bash", "-euo", "pipefail", "-c", script]
        return subprocess.run(
            command, cwd=folder, env=environment, check=True, capture_output=True, text=True
        ).stdout

    identity = "-c user.name=a -c user.email=a@example.org"
    run(f"git init -q --bare -b main {origin}; git clone -q {origin} {clone}", tmp_path)
    run(
        f"git checkout -q -B main; mkdir book; touch README.md book/vision.md; git add -A; "
        f"git {identity} commit -qm main; git push -q origin main",
        clone,
    )
    switch, push = (s["run"] for s in BOOK["jobs"]["notebooks"]["steps"] if "run" in s)

    for content in ("first", "second"):
        run("git checkout -q main; git branch -qD notebooks || true", clone)
        run(switch, clone)
        run(f"mkdir vision; echo {content} > vision/alexnet.ipynb; touch vision/stray.txt", clone)
        run(push, clone)
        run("rm -rf vision", clone)
        assert run("git ls-tree -r --name-only notebooks", origin).split() == [
            "vision/alexnet.ipynb"
        ]
        assert run("git show notebooks:vision/alexnet.ipynb", origin).strip() == content
        assert run("git rev-list --count notebooks", origin).strip() == "1"
        assert run("git log -1 --format=%s notebooks", origin).strip() == "Notebooks of 0123456"
    assert run("git ls-tree -r --name-only main", origin).split() == ["README.md", "book/vision.md"]
