"""What `make mutation` tries."""

from __future__ import annotations

from tests.mutation import files_of_tests, mirror_of, pure_modules


def test_module_asked_for_alone_is_tried_by_the_tests_of_the_full_run() -> None:
    full = files_of_tests(pure_modules())
    assert all(set(files_of_tests([module])) == set(full) for module in pure_modules())
    assert mirror_of("mdconnector.keys") in full


def test_module_that_does_more_than_compute_is_tried_by_its_own_tests_too() -> None:
    own = mirror_of("mdconnector.acme.session")
    assert own not in files_of_tests(pure_modules())
    assert own in files_of_tests(["mdconnector.acme.session"])
