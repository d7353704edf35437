"""What the errors of CAs mean: RFC 8555's types, and the texts that Sectigo is known for."""

from __future__ import annotations

import pytest

from mdconnector.acme.advice import (
    ACME_ERROR,
    Purpose,
    advise,
    fill_name,
    is_sectigo,
    says_deactivated,
)
from mdconnector.acme.answers import JsonObject, problem_error
from mdconnector.errors import CaProblemError, ErrorClass

SECTIGO = "acme.sectigo.com"
ELSEWHERE = "acme.example.net"

# RFC 8555 §6.7, and the profiles draft's and RFC 9773's.
RFC_TYPES = {
    "accountDoesNotExist": ErrorClass.TRANSIENT,
    "alreadyReplaced": ErrorClass.TRANSIENT,
    "alreadyRevoked": ErrorClass.NEEDS_HUMAN,
    "badCSR": ErrorClass.NEEDS_HUMAN,
    "badNonce": ErrorClass.TRANSIENT,
    "badPublicKey": ErrorClass.CONFIGURATION,
    "badRevocationReason": ErrorClass.NEEDS_HUMAN,
    "badSignatureAlgorithm": ErrorClass.NEEDS_HUMAN,
    "caa": ErrorClass.NEEDS_HUMAN,
    "connection": ErrorClass.TRANSIENT,
    "dns": ErrorClass.TRANSIENT,
    "externalAccountRequired": ErrorClass.CONFIGURATION,
    "incorrectResponse": ErrorClass.TRANSIENT,
    "invalidContact": ErrorClass.CONFIGURATION,
    "invalidProfile": ErrorClass.CONFIGURATION,
    "malformed": ErrorClass.NEEDS_HUMAN,
    "orderNotReady": ErrorClass.TRANSIENT,
    "rateLimited": ErrorClass.TRANSIENT,
    "rejectedIdentifier": ErrorClass.NEEDS_HUMAN,
    "serverInternal": ErrorClass.TRANSIENT,
    "tls": ErrorClass.TRANSIENT,
    "unauthorized": ErrorClass.NEEDS_HUMAN,
    "unsupportedContact": ErrorClass.CONFIGURATION,
    "unsupportedIdentifier": ErrorClass.CONFIGURATION,
    "userActionRequired": ErrorClass.NEEDS_HUMAN,
}


def problem(
    kind: str,
    detail: str,
    *,
    status: int = 400,
    host: str = SECTIGO,
    purpose: Purpose = Purpose.NEW_ORDER,
    **members: object,
) -> CaProblemError:
    document = {"type": kind, "detail": detail, **members}
    return problem_error(
        JsonObject(document, what="problem", url="https://ca.example/x"),
        url="https://ca.example/x",
        status=status,
        host=host,
        purpose=purpose,
    )


@pytest.mark.parametrize(("word", "error_class"), RFC_TYPES.items())
def test_every_type_of_the_rfc_has_a_class_and_a_hint(word: str, error_class: ErrorClass) -> None:
    found = advise(
        kind=ACME_ERROR + word, status=400, detail="x", host=ELSEWHERE, purpose=Purpose.NEW_ORDER
    )
    assert found.error_class is error_class
    assert "PORTAL" not in found.hint
    if found.error_class is not ErrorClass.TRANSIENT:
        assert found.hint.endswith("then: mdconnector renew NAME")


@pytest.mark.parametrize(
    ("kind", "status", "detail", "error_class", "words"),
    [
        pytest.param(
            ACME_ERROR + "malformed",
            400,
            "[External Account Binding] The account is not awaiting external account binding",
            ErrorClass.NEEDS_HUMAN,
            "create a new ACME account in SCM",
            id="binding-used",
        ),
        pytest.param(
            ACME_ERROR + "malformed",
            400,
            "[External Account Binding] The Key Identifier was not recognized",
            ErrorClass.CONFIGURATION,
            "the CA does not know the key ID",
            id="kid-unknown",
        ),
        pytest.param(
            ACME_ERROR + "externalAccountRequired",
            400,
            'The request must include a value for the "externalAccountBinding" field',
            ErrorClass.CONFIGURATION,
            "MDContactEmail",
            id="no-binding",
        ),
        pytest.param(
            ACME_ERROR + "malformed",
            400,
            "",
            ErrorClass.NEEDS_HUMAN,
            "gave no reason",
            id="empty-malformed",
        ),
        pytest.param(
            ACME_ERROR + "rejectedIdentifier",
            403,
            "A requested identifier has not been delegated [shop.example.org]",
            ErrorClass.NEEDS_HUMAN,
            "SCM > Domains > Delegate",
            id="not-delegated",
        ),
        pytest.param(
            ACME_ERROR + "malformed",
            400,
            "The identifiers are not all linked to the same preauthorized Subject organization "
            "name/address",
            ErrorClass.NEEDS_HUMAN,
            "an MDomain of its own",
            id="two-organisations",
        ),
        pytest.param(
            ACME_ERROR + "unauthorized",
            401,
            "The account is currently suspended",
            ErrorClass.NEEDS_HUMAN,
            "SCM > ACME accounts",
            id="suspended",
        ),
        pytest.param(
            ACME_ERROR + "unauthorized",
            401,
            "No suitable certificate product is currently available to this account",
            ErrorClass.NEEDS_HUMAN,
            "certificate profile",
            id="no-product",
        ),
        pytest.param(
            ACME_ERROR + "serverInternal",
            500,
            "internal error",
            ErrorClass.TRANSIENT,
            "nothing to do",
            id="internal",
        ),
        pytest.param(
            ACME_ERROR + "orderNotReady",
            403,
            "Order's status (valid) is not acceptable for finalization",
            ErrorClass.TRANSIENT,
            "nothing to do",
            id="finalized-before",
        ),
        pytest.param(
            "urn:sectigo:params:acme:error:insufficientBalance",
            403,
            "Your balance is too low",
            ErrorClass.NEEDS_HUMAN,
            "balance, credit limit",
            id="subscription",
        ),
    ],
)
def test_answer_that_sectigo_is_known_for_says_what_to_do(
    kind: str, status: int, detail: str, error_class: ErrorClass, words: str
) -> None:
    error = problem(kind, detail, status=status)
    assert error.error_class is error_class
    assert words in (error.hint or "")
    assert detail in error.message


def test_portal_is_called_scm_at_sectigo_only() -> None:
    text = "A requested identifier has not been delegated [x]"
    at_sectigo = problem(ACME_ERROR + "malformed", text)
    elsewhere = problem(ACME_ERROR + "malformed", text, host=ELSEWHERE)
    assert "SCM > Domains" in (at_sectigo.hint or "")
    assert "the CA's portal > Domains" in (elsewhere.hint or "")


@pytest.mark.parametrize(
    ("host", "answer"),
    [
        ("sectigo.com", True),
        ("acme.enterprise.sectigo.com", True),
        ("notsectigo.com", False),
        ("sectigo.com.evil.example", False),
    ],
)
def test_sectigo_is_known_by_its_domain(host: str, answer: bool) -> None:
    assert is_sectigo(host) is answer


@pytest.mark.parametrize(
    ("purpose", "error_class", "words"),
    [
        (Purpose.ACCOUNT, ErrorClass.CONFIGURATION, "MDExternalAccountBinding"),
        (Purpose.VALIDATION, ErrorClass.TRANSIENT, "reaches this Apache"),
        (Purpose.NEW_ORDER, ErrorClass.NEEDS_HUMAN, "validated and assigned"),
    ],
)
def test_unauthorized_means_what_the_step_makes_of_it(
    purpose: Purpose, error_class: ErrorClass, words: str
) -> None:
    error = problem(ACME_ERROR + "unauthorized", "no", status=403, purpose=purpose)
    assert error.error_class is error_class
    assert words in (error.hint or "")


def test_binding_with_a_wrong_mac_is_a_matter_of_configuration() -> None:
    error = problem(
        ACME_ERROR + "unauthorized",
        "failed to verify external account binding signature",
        purpose=Purpose.ACCOUNT,
    )
    assert error.error_class is ErrorClass.CONFIGURATION
    assert "HMAC key" in (error.hint or "")


@pytest.mark.parametrize(
    ("status", "error_class"),
    [
        (400, ErrorClass.NEEDS_HUMAN),
        (404, ErrorClass.CONFIGURATION),
        (429, ErrorClass.TRANSIENT),
        (503, ErrorClass.TRANSIENT),
    ],
)
def test_unknown_type_is_judged_by_its_status(status: int, error_class: ErrorClass) -> None:
    assert problem("about:blank", "?", status=status).error_class is error_class


def test_compound_problem_is_judged_by_its_first_part_and_names_each() -> None:
    parts = [
        {
            "type": ACME_ERROR + "rejectedIdentifier",
            "detail": f"no {number}",
            "identifier": {"type": "dns", "value": f"n{number}.example.org"},
        }
        for number in range(7)
    ]
    error = problem(ACME_ERROR + "compound", "several", subproblems=parts)
    assert error.error_class is ErrorClass.NEEDS_HUMAN
    assert "take it out of the MDomain" in (error.hint or "")
    assert "n0.example.org: no 0; n1.example.org: no 1" in error.message
    assert "n5.example.org" not in error.message
    assert "and 2 more" in error.message


def test_page_of_the_terms_is_shown_where_the_ca_asks_for_agreement() -> None:
    error = problem(
        ACME_ERROR + "userActionRequired", "new terms", instance="https://ca.example/terms/2"
    )
    assert "https://ca.example/terms/2" in (error.hint or "")


def test_name_is_put_into_the_command() -> None:
    hint = problem(ACME_ERROR + "caa", "CAA").hint or ""
    assert fill_name(hint, "shop.example.org").endswith("then: mdconnector renew shop.example.org")


@pytest.mark.parametrize(
    "purpose",
    [Purpose.REVOCATION, Purpose.READ_ACCOUNT, Purpose.KEY_CHANGE, Purpose.DEACTIVATION],
)
def test_no_renewal_is_advised_where_none_follows(purpose: Purpose) -> None:
    hint = problem(ACME_ERROR + "caa", "CAA", purpose=purpose).hint or ""
    assert hint
    assert "mdconnector renew" not in hint


@pytest.mark.parametrize(
    ("detail", "is_said"),
    [("the account is deactivated", True), ("Account has been deactivated", True), ("no", False)],
)
def test_ca_that_says_that_the_account_was_deactivated_is_understood(
    detail: str, is_said: bool
) -> None:
    assert says_deactivated(detail) is is_said
