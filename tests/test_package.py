"""What is published: the source distribution, the page of the package, and the Pythons and verbs of the workflows."""

import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# Nothing is compiled for the list of files and the metadata.
SETUP = "import Cython.Build, runpy; Cython.Build.cythonize = lambda *_, **__: []; runpy.run_path('setup.py')"
LINK = re.compile(r'\]\(([^)\s]+)|(?:href|src|srcset)="([^"\s]+)"')


def setup(checkout, *arguments):
    command = [sys.executable, "-c", f"import sys; sys.argv[1:] = {[*arguments]!r}; {SETUP}"]
    done = subprocess.run(command, cwd=checkout, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def tracked():
    if not (ROOT / ".git").exists():
        pytest.skip("needs the repository")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    return {name for name in listed.stdout.split("\0") if name and (ROOT / name).exists()}


@pytest.fixture
def checkout(tmp_path):
    """A copy of what git has."""
    for name in tracked():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def test_the_sdist_has_what_git_has_and_nothing_that_is_built(checkout):
    for built in (
        "src/fastecho/_session.c",
        "src/fastecho/_session.cpython-311-x86_64-linux-gnu.so",
        "tests/__pycache__/conftest.cpython-311.pyc",
        "build/lib/fastecho/server.py",
        "dist/old.tar.gz",
        ".venv/bin/python",
    ):
        (checkout / built).parent.mkdir(parents=True, exist_ok=True)
        (checkout / built).touch()
    setup(checkout, "-q", "sdist", "--dist-dir", "out")
    (path,) = (checkout / "out").glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()}
    generated = {name for name in names if ".egg-info/" in name} | {"PKG-INFO", "setup.cfg"}
    assert names - generated == tracked()


def page(checkout):
    """The page of the package, without the fields above it."""
    setup(checkout, "-q", "egg_info")
    return (checkout / "src/fastecho.egg-info/PKG-INFO").read_text(encoding="utf-8").partition("\n\n")[2]


def test_links_on_the_page_of_the_package_lead_to_the_repository(checkout):
    project, count = re.subn(
        r"^\[project.urls\]\n.*$", '[project.urls]\nSource = "https://host.invalid/owner/fastecho"',
        (checkout / "pyproject.toml").read_text(encoding="utf-8"), flags=re.M,
    )  # fmt: skip
    assert count == 1
    (checkout / "pyproject.toml").write_text(project, encoding="utf-8")
    with (checkout / "README.md").open("a", encoding="utf-8") as readme:
        readme.write('<picture><source srcset="docs/x.svg"><img src="docs/y.png"></picture>\n')
        readme.write("[![x](docs/z.svg)](docs/a.md#b)\n")
    text = page(checkout)
    links = ["".join(found) for found in LINK.findall(text)]
    version = re.search(r'^version = "(.+)"', project, re.M)[1]
    base = "https://host.invalid/owner/fastecho"
    assert {f"{base}/raw/v{version}/docs/{name}" for name in ("x.svg", "y.png", "z.svg")} <= {*links}
    assert {f"{base}/blob/v{version}/{name}" for name in ("docs/a.md#b", "CHANGELOG.md")} <= {*links}
    assert [link for link in links if not re.match("[a-z]+:|#", link)] == []


def test_the_page_is_the_readme_as_long_as_the_repository_is_unknown(checkout):
    project = re.sub(r"^Source = .*$", "", (checkout / "pyproject.toml").read_text(encoding="utf-8"), flags=re.M)
    (checkout / "pyproject.toml").write_text(project, encoding="utf-8")
    assert page(checkout).strip() == (ROOT / "README.md").read_text(encoding="utf-8").strip()


def test_the_workflows_call_verbs_that_exist():
    verbs = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))
    called = set()
    for path in [*(ROOT / ".github").rglob("*.yml"), ROOT / ".pre-commit-config.yaml"]:
        text = path.read_text(encoding="utf-8")
        for words in re.findall(r"(?:run|entry): make ([a-z -]+?)(?: ARGS.*)?$", text, re.M):
            called |= {*words.split()}
    assert called
    assert called <= verbs


def test_one_list_of_pythons_in_the_workflow_the_metadata_and_make_test_all():
    def of(name, pattern):
        return re.findall(pattern, (ROOT / name).read_text(encoding="utf-8"), re.M)

    pythons = of("pyproject.toml", r"Python :: (3\.[0-9]+)")
    assert len(pythons) >= 5
    assert re.findall(r"3\.[0-9]+", *of(".github/workflows/ci.yml", r"^ +python: \[(.*)\]")) == pythons
    assert [f"3.{minor}" for minor in of("scripts/each-python", "^for minor in (.*);")[0].split()] == pythons
