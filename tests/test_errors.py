"""Errors say what failed, carry the facts, and know their exit code, type and class."""

from __future__ import annotations

import pytest

from mdconnector.errors import (
    CaError,
    CaProblemError,
    CaProtocolError,
    CaUnreachableError,
    CertificateError,
    ChallengeError,
    ConfigurationError,
    ErrorClass,
    HttpdError,
    LockedError,
    MdConnectorError,
    StoreBusyError,
    StoreError,
    Subproblem,
    UnsafeStoreError,
    UsageError,
)

URL = "https://ca.example/order"
SUBPROBLEMS = tuple(Subproblem("t", f"no {n}", f"{n}.example") for n in range(7))


def refusal(**more: object) -> CaProblemError:
    facts = {"url": URL, "status": 403, "type": "urn:ietf:params:acme:error:caa", "detail": "no"}
    return CaProblemError(**(facts | more))  # type: ignore[arg-type] # a test's own facts


@pytest.mark.parametrize(
    ("error", "exit_code", "type_", "error_class"),
    [
        (UsageError("x"), 2, "usage", ErrorClass.CONFIGURATION),
        (ConfigurationError("x"), 2, "configuration", ErrorClass.CONFIGURATION),
        (StoreError("x", path="p"), 1, "store", ErrorClass.NEEDS_HUMAN),
        (StoreBusyError("x", path="p"), 1, "store", ErrorClass.TRANSIENT),
        (UnsafeStoreError("x", path="p"), 3, "unsafe-store", ErrorClass.NEEDS_HUMAN),
        (LockedError("x"), 75, "locked", ErrorClass.TRANSIENT),
        (CertificateError("x"), 1, "certificate", ErrorClass.NEEDS_HUMAN),
        (ChallengeError("x"), 1, "challenge", ErrorClass.NEEDS_HUMAN),
        (CaError("x", url=URL), 1, "ca", ErrorClass.TRANSIENT),
        (CaUnreachableError("x", url=URL), 1, "connection", ErrorClass.TRANSIENT),
        (CaProtocolError("x", url=URL), 1, "protocol", ErrorClass.TRANSIENT),
        (refusal(), 1, "urn:ietf:params:acme:error:caa", ErrorClass.NEEDS_HUMAN),
        (HttpdError("x"), 4, "httpd", ErrorClass.NEEDS_HUMAN),
    ],
    ids=lambda one: type(one).__name__ if isinstance(one, Exception) else "",
)
def test_each_kind_has_its_exit_code_type_and_class(
    error: MdConnectorError, exit_code: int, type_: str, error_class: ErrorClass
) -> None:
    assert (error.exit_code, error.type, error.error_class) == (exit_code, type_, error_class)
    assert isinstance(error, MdConnectorError)


def test_classes_are_the_words_that_are_kept_and_shown() -> None:
    assert [str(one) for one in ErrorClass] == ["transient", "needs-human", "configuration"]


def test_text_is_made_of_the_facts() -> None:
    assert str(ConfigurationError("no", at="a.conf:3")) == "a.conf:3: no"
    assert str(ConfigurationError("no")) == "no"
    assert str(StoreError("no", path="/md/x")) == "/md/x: no"
    assert str(CertificateError("no", hint="mend it")) == "no"


def test_facts_are_kept() -> None:
    at = ConfigurationError("no", at="a.conf:3", hint="mend it")
    assert (at.message, at.at, at.hint) == ("no", "a.conf:3", "mend it")
    store = StoreError("no", path="/md", hint="h", unreadable=True)
    assert (store.path, store.hint, store.unreadable) == ("/md", "h", True)
    assert StoreError("no", path="/md").unreadable is False
    locked = LockedError("held", age_seconds=7.5)
    assert (locked.age_seconds, LockedError("held").age_seconds) == (7.5, None)
    assert locked.hint == "wait for it to end, or see what it does with ps"
    elsewhere = LockedError("held", host="b.example")
    assert elsewhere.hint == "wait for it to end, or see what it does with ps on b.example"
    ca = CaError(
        "no",
        url=URL,
        hint="h",
        type="clock",
        error_class=ErrorClass.CONFIGURATION,
        retry_after_seconds=3,
    )
    assert (ca.url, ca.hint, ca.type, ca.error_class) == (
        URL,
        "h",
        "clock",
        ErrorClass.CONFIGURATION,
    )
    assert (ca.retry_after_seconds, ca.stops_account) == (3, False)


def test_request_counts_as_sent_unless_it_is_known_not_to_be() -> None:
    lost = CaUnreachableError("no", url=URL, hint="h", retry_after_seconds=9)
    assert (lost.request_sent, lost.url, lost.hint) == (True, URL, "h")
    assert lost.retry_after_seconds == 9
    assert CaUnreachableError("no", url=URL, request_sent=False).request_sent is False


def test_refusal_tells_the_ca_s_words_its_type_and_status() -> None:
    error = refusal(hint="h", retry_after_seconds=5)
    assert str(error) == "the CA refused: no (caa, HTTP 403)"
    assert (error.status, error.detail, error.hint, error.subproblems) == (403, "no", "h", ())
    assert (error.url, error.retry_after_seconds) == (URL, 5)
    assert str(refusal(detail="")) == "the CA refused: no reason given (caa, HTTP 403)"
    assert str(refusal(type="about:blank")) == "the CA refused: no (HTTP 403)"


def test_refusal_names_five_identifiers_and_how_many_more() -> None:
    assert str(refusal(subproblems=SUBPROBLEMS[:1])) == (
        "the CA refused: no; 0.example: no 0 (caa, HTTP 403)"
    )
    five = "; ".join(f"{n}.example: no {n}" for n in range(5))
    assert (
        str(refusal(subproblems=SUBPROBLEMS[:5])) == f"the CA refused: no; {five} (caa, HTTP 403)"
    )
    assert str(refusal(subproblems=SUBPROBLEMS)) == (
        f"the CA refused: no; {five}; and 2 more (caa, HTTP 403)"
    )
    unnamed = (Subproblem("t", "no", None), Subproblem("t", "", "a.example"))
    assert str(refusal(subproblems=unnamed)) == "the CA refused: no (caa, HTTP 403)"


def test_an_error_of_no_kind_is_an_error_for_a_human() -> None:
    error = MdConnectorError("no")
    assert (error.type, error.exit_code, error.error_class) == ("error", 1, ErrorClass.NEEDS_HUMAN)
