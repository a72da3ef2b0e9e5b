"""What is checked beside the tests, and the tests on several Pythons, each in an environment of its own.

nox -f .ci/noxfile.py                       lint, types, docs, package
nox -f .ci/noxfile.py -s tests              `pip install .` and a selection of the tests, on 3.11, 3.12 and 3.13
nox -f .ci/noxfile.py -s tests-3.12 -- tests    all of them, on 3.12
"""

from pathlib import Path

import nox

PROJECT = Path(__file__).resolve().parent.parent
SELECTION = ["echo", "events", "lifecycle", "client_messages", "listener", "aio_messages", "property_bag", "cli", "exit"]

nox.options.sessions = ["lint", "types", "docs", "package"]
nox.options.reuse_existing_virtualenvs = True


@nox.session(python=["3.11", "3.12", "3.13"])
def tests(session):
    session.chdir(PROJECT)
    session.install(".[test]")
    # npipes/ of the source has no extension in it; without this it would hide the installed one.
    environment = {"PYTHONSAFEPATH": "1", "CI": "1"}
    chosen = session.posargs or [f"tests/test_{name}.py" for name in SELECTION]
    session.run("python", "-P", "-m", "pytest", "-q", *chosen, env=environment)


@nox.session
def lint(session):
    session.chdir(PROJECT)
    session.install("ruff==0.17.6", "clang-format==23.1.5", "check-jsonschema", "zizmor")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    sources = sorted(str(file) for room in ("src", "tests") for file in Path(room).rglob("*.[ch]"))
    session.run("clang-format", "--dry-run", "--Werror", *sources)
    workflows = sorted(str(file) for file in Path(".github/workflows").glob("*.yml"))
    session.run("check-jsonschema", "--builtin-schema", "vendor.github-workflows", *workflows)
    session.run("zizmor", "--offline", "--min-severity", "medium", "--config", ".github/zizmor.yml", *workflows)


@nox.session
def types(session):
    """mypy --strict, stubtest and pyright, by tests/typing."""
    session.chdir(PROJECT)
    session.install("-e", ".[test]", "pyright[nodejs]")
    session.run("python", "-m", "pytest", "-q", "tests/typing")


@nox.session
def docs(session):
    session.chdir(PROJECT)
    session.install(".[docs]")
    # -P: the npipes/ here has no extension in it.
    session.run("python", "-P", "-m", "sphinx", "-qWE", "--keep-going", "docs", "build/docs")


@nox.session
def package(session):
    """The sdist, the wheel from it in an environment of its own, and what can be said of both."""
    session.chdir(PROJECT)
    session.install("build", "twine", "check-wheel-contents", "auditwheel", "validate-pyproject[all]")
    session.run("validate-pyproject", "pyproject.toml")
    folder = session.create_tmp()
    session.run("python", "-m", "build", "--outdir", f"{folder}/dist", str(PROJECT))
    built = sorted(str(file) for file in Path(folder, "dist").glob("npipes_ipc-*"))
    session.run("twine", "check", "--strict", *built)
    wheels = [file for file in built if file.endswith(".whl")]
    session.run("check-wheel-contents", *wheels)
    session.run("auditwheel", "show", *wheels)
    dist = PROJECT / "dist"
    dist.mkdir(exist_ok=True)
    for file in built:
        Path(file).replace(dist / Path(file).name)
