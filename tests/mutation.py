"""Measures how many mutants of the modules that only compute the tests notice: `make mutation`.

    python tests/mutation.py [MODULE...] [--sample N] [--seed N] [--jobs N] [--at-least PERCENT]

Rules: a mutant is tried in a forked child by those tests of the mirroring files that run its lines,
quick ones before slow ones; the first that fails ends it. Tests that need another program stay out.
A function within a function may have been made when its module was imported: it is changed where
it lives. What no test runs may have been run by the import, so it is tried again with the module
imported anew; it counts as survived if nothing fails then. A mutant that changes nothing that
anybody could see is listed, with the reason, in tests/equivalent_mutants.txt, and is not counted.
"""

from __future__ import annotations

import argparse
import gc
import importlib.abc
import importlib.util
import os
import pickle
import random
import resource
import signal
import sys
import time
import tomllib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FunctionType, ModuleType

import coverage
import pytest

CLONE = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(CLONE))

from tests.mutants import Mutant, compile_mutant, mutants_of

NO_PROGRAMS = "not apache and not pebble and not strace and not slow"
EQUIVALENT = CLONE / "tests" / "equivalent_mutants.txt"
LONGEST_TEST_SECONDS = 2.0
SECONDS_FOR_ONE_MUTANT = 3.0
"""of processor time, of tests that run its lines, by what they took without it"""
HANGS_AFTER_SECONDS = 40
MEMORY_BYTES = 4 << 30

SHARED = ("cryptography.x509", "cryptography.hazmat.primitives.serialization")
"""imported once, before anything is forked; nothing of ours"""

KILLED, SURVIVED, UNTESTED = "killed", "survived", "no test runs it"


@dataclass(slots=True)
class Known:
    """What one run of all tests, without any mutant, has shown."""

    seconds: dict[str, float] = field(default_factory=dict)
    failed: set[str] = field(default_factory=set)
    runs: dict[tuple[str, int], set[str]] = field(default_factory=lambda: defaultdict(set))
    """by file and line: the tests that run it"""

    def tests_for(self, mutant: Mutant) -> list[str]:
        """Return the tests to try on a mutant, in their order."""
        found = {
            one for line in mutant.statement for one in self.runs.get((str(mutant.path), line), ())
        }
        return self._affordable(found, mutant)

    def tests_of_module(self, mutant: Mutant) -> list[str]:
        """Return the tests to try on a mutant of what is run by the import, in their order.

        Those of the mirroring file are all among them: who only reads a value runs no line.
        """
        path = str(mutant.path)
        found = {one for (file, _), tests in self.runs.items() if file == path for one in tests}
        mirrored = {one for one in self.seconds if one.startswith(_mirror_prefix(mutant))}
        return self._affordable(found | mirrored, mutant)

    def _affordable(self, found: Iterable[str], mutant: Mutant) -> list[str]:
        mirror = _mirror_prefix(mutant)
        usable = (one for one in found if one not in self.failed)
        ordered = sorted(
            usable, key=lambda one: (not one.startswith(mirror), self.seconds.get(one, 0.0))
        )
        chosen: list[str] = []
        spent = 0.0
        for one in ordered:
            spent += self.seconds.get(one, 0.0)
            if chosen and spent > SECONDS_FOR_ONE_MUTANT:
                break
            chosen.append(one)
        return chosen


class Tester:
    """A pytest plug-in: tests are collected once, then run in forked children, mutant by mutant."""

    def __init__(self, mutants: Sequence[Mutant], jobs: int, tell: Callable[[object], None]):
        self._mutants = mutants
        self._jobs = jobs
        self._tell = tell
        self._failed = False

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Notice that a test has failed."""
        self._failed |= report.failed

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Run all tests once, then those that matter for every mutant."""
        items = {item.nodeid: item for item in session.items}
        known: Known = _in_child(lambda: self._run_all(items))
        self._tell(known)
        functions = _functions()
        try_all(
            [one for one in self._mutants if one.function is not None],
            lambda one: self._try(one, items, known, functions),
            self._jobs,
            self._tell,
        )
        return True

    def _run_all(self, items: dict[str, pytest.Item]) -> Known:
        known = Known()
        measured = coverage.Coverage(data_file=None, config_file=False, source=["mdconnector"])
        measured.start()
        for name, item in items.items():
            measured.switch_context(name)
            self._failed = False
            begun = time.process_time()
            self._run(item)
            known.seconds[name] = time.process_time() - begun
            if self._failed or known.seconds[name] > LONGEST_TEST_SECONDS:
                known.failed.add(name)
        measured.stop()
        data = measured.get_data()
        for file in data.measured_files():
            place = str(Path(file).relative_to(CLONE))
            for line, contexts in data.contexts_by_lineno(file).items():
                known.runs[place, line] = {one for one in contexts if one}
        return known

    def _try(
        self,
        mutant: Mutant,
        items: dict[str, pytest.Item],
        known: Known,
        functions: dict[tuple[str, str, int], list[FunctionType]],
    ) -> str:
        tests = known.tests_for(mutant)
        if not tests:
            return UNTESTED
        _install(mutant, functions)
        for name in tests:
            self._run(items[name])
            if self._failed:
                return KILLED
        return SURVIVED

    def _run(self, item: pytest.Item) -> None:
        # the next item is of no interest: whatever the test has set up is taken down
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=None)


def _functions() -> dict[tuple[str, str, int], list[FunctionType]]:
    """Return all functions of ours that live, by file, name and first line."""
    found = defaultdict(list)
    ours = str(CLONE / "mdconnector")
    for one in gc.get_objects():
        if isinstance(one, FunctionType) and one.__code__.co_filename.startswith(ours):
            code = one.__code__
            found[code.co_filename, code.co_qualname, code.co_firstlineno].append(one)
    return found


def _install(mutant: Mutant, functions: dict[tuple[str, str, int], list[FunctionType]]) -> None:
    """Give the changed code to the function, and to those within it that live already."""
    assert mutant.function is not None
    file = str(CLONE / mutant.path)
    compiled = compile_mutant(mutant)
    assert isinstance(compiled, CodeType)
    (outermost,) = [one for one in _codes(compiled) if _key(one) == mutant.function]
    if not functions[file, *mutant.function]:
        raise LookupError(f"no function {file} {mutant.function}")
    codes = (outermost, *_codes(outermost))
    unique = Counter(map(_key, codes))
    for code in codes:
        if unique[_key(code)] == 1:
            for function in functions[file, *_key(code)]:
                function.__code__ = code.replace(co_filename=file)


def _key(code: CodeType) -> tuple[str, int]:
    return code.co_qualname, code.co_firstlineno


def _codes(code: CodeType) -> Iterator[CodeType]:
    for one in code.co_consts:
        if isinstance(one, CodeType):
            yield one
            yield from _codes(one)


class _MutantFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports one module of ours with a change."""

    def __init__(self, mutant: Mutant) -> None:
        self._mutant = mutant

    def find_spec(self, name: str, *_: object) -> importlib.machinery.ModuleSpec | None:
        """Answer for the one module."""
        if name != self._mutant.module:
            return None
        path = CLONE / self._mutant.path
        return importlib.util.spec_from_file_location(name, path, loader=self)

    def create_module(self, spec: object) -> None:
        """Leave it to Python."""

    def exec_module(self, module: ModuleType) -> None:
        """Run the changed code."""
        code = compile_mutant(self._mutant)
        assert isinstance(code, CodeType)
        exec(code, module.__dict__)  # noqa: S102 - it is our own code, but for the change


class _Failures:
    """A pytest plug-in: notices that anything fails, also what is collected."""

    def __init__(self) -> None:
        self.failed = False

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.failed |= report.failed

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self.failed |= report.failed


def try_as_import(mutant: Mutant, known: Known) -> str:
    """Try a mutant of what is run when the module is imported."""
    tests = known.tests_of_module(mutant)
    if not tests:
        return UNTESTED
    sys.meta_path.insert(0, _MutantFinder(mutant))
    failures = _Failures()
    ended = _pytest([*tests, "-x"], failures)
    return KILLED if failures.failed or ended not in (0, 5) else SURVIVED


def try_all(
    mutants: Sequence[Mutant],
    attempt: Callable[[Mutant], str],
    jobs: int,
    tell: Callable[[object], None],
) -> None:
    """Try mutants, each in a child of its own, so many at once; a child that dies has noticed."""
    running: dict[int, Mutant] = {}

    def reap() -> None:
        pid, status = os.wait()
        mutant = running.pop(pid)
        code = os.waitstatus_to_exitcode(status)
        tell((mutant, {0: SURVIVED, 3: UNTESTED}.get(code, KILLED)))

    for mutant in mutants:
        while len(running) >= jobs:
            reap()
        pid = os.fork()
        if pid == 0:
            _attempt_and_exit(lambda mutant=mutant: attempt(mutant))  # type: ignore[misc] # bound now
        running[pid] = mutant
    while running:
        reap()


def _attempt_and_exit(attempt: Callable[[], str]) -> None:
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(HANGS_AFTER_SECONDS)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    code = 1
    try:
        code = {SURVIVED: 0, UNTESTED: 3}.get(attempt(), 1)
    except LookupError as error:
        print(f"cannot be tried: {error!r}", file=sys.__stderr__)
        code = 3
    finally:
        os._exit(code)


def _in_child(act: Callable[[], Known]) -> Known:
    """Do something in a child, so that nothing of it stays behind here."""
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read_end)
        try:
            with os.fdopen(write_end, "wb") as pipe:
                pickle.dump(act(), pipe)
        finally:
            os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as pipe:
        result = pickle.load(pipe)  # noqa: S301 - our own child wrote it
    os.waitpid(pid, 0)
    assert isinstance(result, Known)
    return result


def _pytest(arguments: Sequence[str], plugin: object) -> int:
    """Run pytest in this process, silently."""
    options = ("-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--capture=no", "-m", NO_PROGRAMS)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    if os.environ.get("MUTATION_DEBUG") is None:
        os.dup2(nowhere, 1)
    if os.environ.get("MUTATION_DEBUG") is None:
        os.dup2(nowhere, 2)
    return int(pytest.main([*options, *arguments], plugins=[plugin]))


def collect_and_try(
    files: Sequence[Path], mutants: Sequence[Mutant], jobs: int, hear: Callable[[object], None]
) -> Known | None:
    """Run the tests, and try all mutants of functions, in a child; `hear` is told each result."""
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read_end)
        with os.fdopen(write_end, "wb") as results:

            def tell(told: object) -> None:
                pickle.dump(told, results)
                results.flush()

            _pytest([str(one) for one in files], Tester(mutants, jobs, tell))
        os._exit(0)
    os.close(write_end)
    known = None
    with os.fdopen(read_end, "rb") as pipe:
        while True:
            try:
                told = pickle.load(pipe)  # noqa: S301 - our own child wrote it
            except EOFError:
                break
            if isinstance(told, Known):
                known = told
            hear(told)
    os.waitpid(pid, 0)
    return known


def mirror_of(module: str) -> Path:
    """Return the file of tests that mirrors a module, from the top of the clone."""
    _, *folders, name = module.split(".")
    return Path("tests", *folders, f"test_{name}.py")


def files_of_tests(modules: Iterable[str]) -> list[Path]:
    """Return the files of tests for some modules: those of the full run, which run one another's.

    Else a module that was asked for alone would be tried by fewer tests.
    """
    mirrors = map(mirror_of, dict.fromkeys((*modules, *pure_modules())))
    return [one for one in mirrors if (CLONE / one).exists()]


def _mirror_prefix(mutant: Mutant) -> str:
    """Return what the ids of the tests in the mirroring file begin with."""
    return f"{mirror_of(mutant.module)}::"


def pure_modules() -> tuple[str, ...]:
    """Return the modules that only compute, as import-linter is told."""
    settings = tomllib.loads((CLONE / "pyproject.toml").read_text())
    contracts = settings["tool"]["importlinter"]["contracts"]
    (found,) = [one for one in contracts if one["name"].startswith("what only computes")]
    return tuple(found["source_modules"])


def path_of(module: str) -> Path:
    """Return the file of a module, from the top of the clone."""
    return Path(*module.split(".")).with_suffix(".py")


def equivalents() -> Counter[tuple[str, str]]:
    """Return the mutants that change nothing: module and `change | source`, and how many each."""
    found: Counter[tuple[str, str]] = Counter()
    module = ""
    for line in EQUIVALENT.read_text().splitlines():
        if line.startswith("["):
            module = line.strip("[]")
        elif line and not line.startswith("#"):
            found[module, line] += 1
    return found


def chosen(modules: Sequence[str], sample: int | None, seed: int) -> list[Mutant]:
    """Return the mutants to try; so many of each module at most."""
    left_out = equivalents()
    found: list[Mutant] = []
    for module in modules:
        mutants = []
        for one in mutants_of(module, path_of(module)):
            if left_out[module, _name(one)]:
                left_out[module, _name(one)] -= 1
            else:
                mutants.append(one)
        if sample is not None and sample < len(mutants):
            drawn = random.Random(f"{seed} {module}").sample(mutants, sample)  # noqa: S311 - repeatable
            mutants = sorted(drawn, key=lambda one: one.number)
        found += mutants
    for module, name in +left_out:
        if module in modules:
            print(f"{EQUIVALENT.name} lists what is no mutant of {module}: {name}")
    return found


def _name(mutant: Mutant) -> str:
    return f"{mutant.change} | {mutant.source}"


def report(results: Mapping[Mutant, str], modules: Sequence[str]) -> float:
    """Print the table; return the score of all modules in percent."""
    print(
        f"\n{'module':<32}{'mutants':>9}{'killed':>9}{'survived':>10}{'untested':>10}{'score':>9}"
    )
    for module in (*modules, "all"):
        counts = Counter(
            outcome for mutant, outcome in results.items() if module in ("all", mutant.module)
        )
        print(
            f"{module:<32}{counts.total():>9}{counts[KILLED]:>9}{counts[SURVIVED]:>10}"
            f"{counts[UNTESTED]:>10}{_score(counts):>8.1f}%"
        )
    return _score(Counter(results.values()))


def _score(counts: Counter[str]) -> float:
    return 100 * counts[KILLED] / counts.total() if counts else 100.0


def main() -> int:
    """Try the mutants that were asked for; 1 where too many survive."""
    parser = argparse.ArgumentParser(description="how many mutants do the tests notice")
    parser.add_argument("modules", nargs="*", metavar="MODULE")
    parser.add_argument(
        "--sample", type=int, help="so many mutants of each module, drawn by --seed"
    )
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))  # noqa: S311 - printed
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--at-least", type=float, default=90.0, metavar="PERCENT")
    options = parser.parse_args()
    os.chdir(CLONE)
    os.environ["MDCONNECTOR_FUZZ_EXAMPLES"] = "10"
    for name in SHARED:
        importlib.import_module(name)
    modules = options.modules or pure_modules()
    mutants = chosen(modules, options.sample, options.seed)
    drawn = (
        "all"
        if options.sample is None
        else f"at most {options.sample} a module, seed {options.seed}"
    )
    print(f"{len(mutants)} mutants of {len(modules)} modules ({drawn})", flush=True)
    results: dict[Mutant, str] = {}

    def hear(told: object) -> None:
        match told:
            case Known(seconds=seconds, failed=failed):
                print(
                    f"{len(seconds)} tests, {sum(seconds.values()):.0f} s; left out {len(failed)}:"
                )
                print("".join(f"  {one}\n" for one in sorted(failed)), end="", flush=True)
            case (Mutant() as mutant, str(outcome)):
                results[mutant] = outcome
                if outcome != KILLED:
                    print(f"{outcome}: {mutant}", flush=True)
                if len(results) % 100 == 0:
                    print(f"{len(results)} tried", flush=True)

    known = collect_and_try(files_of_tests(modules), mutants, options.jobs, hear)
    if known is None:
        print("the tests could not be run")
        return 1
    at_import = [one for one in mutants if results.get(one, UNTESTED) == UNTESTED]
    try_all(at_import, lambda one: try_as_import(one, known), options.jobs, hear)
    if len(results) != len(mutants):
        print(f"only {len(results)} of {len(mutants)} could be tried")
        return 1
    score = report(results, modules)
    return 0 if score >= options.at_least else 1


if __name__ == "__main__":
    sys.exit(main())
