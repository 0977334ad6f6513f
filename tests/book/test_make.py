"""The commands of the README: what they run, and the one line they print when something is missing.

A stand-in for Python writes down what it is asked to do, and fails where a test wants it to.
"""

import os
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import pytest
from casebook_book import __main__ as command
from tiny_book import EXTENSION, ROOT

TOOLS = ("sh", "bash", "make", "awk", "rm", "mkdir", "cp", "touch", "cat", "dirname")

STAND_IN = """\
#!/bin/sh
echo "$(basename "$0") $*" >> "$LOG"
case "$*" in
    *version_info*) exit "${OLD:-0}" ;;
    *ensurepip*) exit "${NO_VENV:-0}" ;;
    --version) echo "Python 3.11.99" ;;
    "-m venv"*) mkdir -p .venv/bin; cp "$0" .venv/bin/python; exit "${BAD_VENV:-0}" ;;
    "-m pip"*) exit "${NO_PIP:-0}" ;;
    "-m casebook_book"*) echo "built with $PYTHONPATH"; exit "${BAD_BOOK:-0}" ;;
    "-m pytest"*) echo "tested" ;;
esac
"""


@dataclass(frozen=True)
class Machine:
    """A folder with the project's Makefile, and a PATH with only what a test puts there."""

    root: Path
    bin: Path

    def provide(self, name: str, script: str = STAND_IN) -> None:
        path = self.bin / name
        path.write_text(script.replace('$(basename "$0")', name))
        path.chmod(0o755)

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            arguments,
            cwd=self.root,
            env={"PATH": str(self.bin), "LOG": str(self.root / "log"), **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    def calls(self) -> list[str]:
        """What the stand-ins were asked, and forget it."""
        log = self.root / "log"
        lines = log.read_text().splitlines() if log.exists() else []
        log.unlink(missing_ok=True)
        return lines


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    root, bin = tmp_path / "project", tmp_path / "bin"
    root.mkdir()
    bin.mkdir()
    for file in ("Makefile", "requirements.txt", "pyproject.toml"):
        shutil.copy(ROOT / file, root)
    for tool in TOOLS:
        (bin / tool).symlink_to(shutil.which(tool))
    return Machine(root, bin)


def complaint(result: subprocess.CompletedProcess[str]) -> str:
    """The one line that a failing make prints besides its own closing line."""
    assert result.returncode != 0
    lines = result.stderr.splitlines()
    (line,) = (line for line in lines if not line.startswith(("make: ***", "make[")))
    return line


def test_help_names_every_target(machine: Machine) -> None:
    listed = machine.run("make").stdout
    for target in ("book", "test", "serve", "notebooks", "colab", "bench", "clean"):
        assert f"make {target} " in listed


def test_without_python(machine: Machine) -> None:
    assert "No Python 3.11 or newer among: python3" in complaint(machine.run("make", "book"))


def test_with_an_old_python(machine: Machine) -> None:
    machine.provide("python3")
    line = complaint(machine.run("make", "test", OLD="1"))
    assert line.startswith("No Python 3.11 or newer among: python3")
    assert "PYTHON=" in line


def test_a_newer_python_by_another_name(machine: Machine) -> None:
    machine.provide("python3", "#!/bin/sh\nexit 1\n")
    machine.provide("python3.12")
    assert machine.run("make", "book").returncode == 0


def test_python_can_be_named(machine: Machine) -> None:
    machine.provide("python3")
    machine.provide("mine")
    assert machine.run("make", "book", "PYTHON=mine").returncode == 0
    assert "mine -m venv .venv" in machine.calls()


def test_without_venv(machine: Machine) -> None:
    machine.provide("python3")
    line = complaint(machine.run("make", "book", NO_VENV="1"))
    assert "python3 has no venv module; on Debian or Ubuntu: apt install python3-venv" in line


def test_a_venv_that_fails_is_not_left_behind(machine: Machine) -> None:
    machine.provide("python3")
    line = complaint(machine.run("make", "book", BAD_VENV="1"))
    assert "python3 could not make .venv" in line
    assert not (machine.root / ".venv").exists()


def test_when_pip_fails(machine: Machine) -> None:
    machine.provide("python3")
    line = complaint(machine.run("make", "book", NO_PIP="1"))
    assert "Pip could not install requirements.txt" in line
    # Mended, the next one installs.
    machine.calls()
    assert machine.run("make", "book").returncode == 0
    assert any("pip install" in call for call in machine.calls())


def test_tests_need_git(machine: Machine) -> None:
    machine.provide("python3")
    assert "Git is missing" in complaint(machine.run("make", "test"))


def test_book(machine: Machine) -> None:
    machine.provide("python3")
    result = machine.run("make", "book", "JOBS=3")
    assert result.returncode == 0
    assert "making .venv with Python 3.11.99" in result.stdout
    assert "installing what builds the book" in result.stdout
    assert "built with book/_ext" in result.stdout
    assert [call for call in machine.calls() if "-m" in call.split()] == [
        "python3 -m venv .venv",
        "python3 -m pip install --disable-pip-version-check -r requirements.txt",
        "python3 -m casebook_book build --jobs 3",
    ]

    machine.run("make", "book")
    assert machine.calls() == ["python3 -m casebook_book build --jobs 2"]

    os.utime(machine.root / "requirements.txt")
    machine.run("make", "book")
    assert any("pip install" in call for call in machine.calls())


def test_a_book_that_fails_fails_make(machine: Machine) -> None:
    machine.provide("python3")
    for target in ("book", "notebooks", "test"):
        assert machine.run("make", target, BAD_BOOK="1").returncode != 0


def test_test(machine: Machine) -> None:
    machine.provide("python3")
    machine.provide("git")
    result = machine.run("make", "test")
    assert result.returncode == 0
    assert result.stdout.endswith("tested\n")
    modules = [call.split("-m ")[1] for call in machine.calls() if " -m " in call]
    assert "pip install --disable-pip-version-check -r requirements.txt -e .[test]" in modules
    assert modules[-3:] == [
        "casebook_book build --jobs 2",
        "casebook_book notebooks --jobs 2",
        "pytest -n 2 --dist loadfile",
    ]

    machine.run("make", "test")
    assert not any("pip" in call for call in machine.calls())


def test_bench_installs_what_it_needs(machine: Machine) -> None:
    machine.provide("python3")
    assert machine.run("make", "bench").returncode == 0
    calls = [call.removeprefix("python3 ") for call in machine.calls()]
    assert "-m pip install --disable-pip-version-check -r requirements.txt -e .[bench]" in calls
    assert calls[-2:] == ["benchmarks/training_speed.py", "benchmarks/build_speed.py"]


def test_clean_keeps_what_is_installed(machine: Machine) -> None:
    for folder in ("_build/html", ".venv"):
        (machine.root / folder).mkdir(parents=True)
    machine.run("make", "clean")
    assert not (machine.root / "_build").exists()
    assert (machine.root / ".venv").exists()


MAKE = '#!/bin/sh\necho "make $* $CASEBOOK_REQUIRE_BROWSER" >> "$LOG"\nexit "${BAD_MAKE:-0}"\n'
APT = '#!/bin/sh\necho "apt-get $*" >> "$LOG"\n'


@pytest.fixture
def ci(machine: Machine) -> Machine:
    shutil.copytree(ROOT / ".ci", machine.root / ".ci")
    (machine.bin / "make").unlink()
    machine.provide("make", MAKE)
    machine.provide("apt-get", APT)
    return machine


def test_ci_runs_the_readmes_commands(ci: Machine) -> None:
    ci.provide("chromium")
    assert ci.run("bash", ".ci/run").returncode == 0
    assert ci.calls() == ["make book 1", "make test 1"]


def test_ci_installs_a_browser(ci: Machine) -> None:
    assert ci.run("bash", ".ci/run").returncode == 0
    assert ci.calls() == [
        "apt-get update",
        "apt-get install --yes --no-install-recommends chromium",
        "make book 1",
        "make test 1",
    ]


def test_ci_fails_with_what_it_runs(ci: Machine) -> None:
    ci.provide("chromium")
    assert ci.run("bash", ".ci/run", BAD_MAKE="2").returncode == 2
    assert ci.calls() == ["make book 1"]


# ---------------------------------------------------------------------------------------------
# The command that make calls


def test_serving_needs_a_site(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.serve(tmp_path, 0) == 1
    assert capsys.readouterr().err == "There is no built site: run `make book` first.\n"


def test_the_command_wants_the_books_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert command.main(["build"]) == 1
    assert "has no _config.yml: run this in the book's root" in capsys.readouterr().err


def test_serve(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "_build" / "html").mkdir(parents=True)
    (tmp_path / "_build" / "html" / "index.html").write_text("the book")
    (tmp_path / "_config.yml").touch()
    server = subprocess.Popen(
        [sys.executable, "-m", "casebook_book", "serve", "--port", "0"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(EXTENSION)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        address = server.stdout.readline().split()[4]
        with urllib.request.urlopen(address) as page:
            assert page.read() == b"the book"
        with pytest.raises(urllib.error.HTTPError) as missing:
            urllib.request.urlopen(f"{address}../_config.yml")
        missing.value.close()
        port = int(address.rstrip("/").rsplit(":", 1)[1])
        assert command.serve(tmp_path, port) == 1
        assert f"Port {port} cannot be used" in capsys.readouterr().err
    finally:
        server.terminate()
        server.communicate()
