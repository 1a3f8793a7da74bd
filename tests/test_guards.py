"""What keeps quick tests quick and every test offline is itself seen to work."""

import contextlib
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from functools import partial

import pytest

import guards

EXAMPLE = ("192.0.2.1", 80)  # of a network that is nobody's


def refused(words: str, act: Callable[[], object]) -> None:
    """``act`` is stopped with these words; that it was tried is not held against the test."""
    with pytest.raises(pytest.fail.Exception, match=words):
        act()
    guards.forgive()


def test_a_test_that_says_nothing_is_quick(request: pytest.FixtureRequest) -> None:
    assert "quick" in request.node.keywords


@pytest.mark.costly
def test_a_costly_test_is_not_quick(request: pytest.FixtureRequest) -> None:
    assert "quick" not in request.node.keywords


def test_what_uses_a_trained_run_is_not_quick(
    copied_run: object, request: pytest.FixtureRequest
) -> None:
    assert "quick" not in request.node.keywords


def test_what_uses_real_data_is_chosen_by_that(
    real_data: object, request: pytest.FixtureRequest
) -> None:
    assert "realdata" in request.node.keywords
    assert "quick" not in request.node.keywords


def test_a_quick_test_may_start_no_process() -> None:
    refused("started a process: .'true'", lambda: subprocess.run(["true"], check=True))


def test_a_refusal_that_is_swallowed_fails_the_test_nevertheless(
    request: pytest.FixtureRequest,
) -> None:
    def swallow() -> None:
        with guards.watching(request.node):
            with contextlib.suppress(BaseException):
                subprocess.run(["true"], check=True)

    refused("started a process", swallow)


@pytest.mark.costly
def test_even_a_costly_test_may_not_use_the_network() -> None:
    refused("needs the network", lambda: socket.getaddrinfo("example.org", 80))
    for address in (EXAMPLE, ("127.0.0.1", guards.PROXY_PORT)):  # straight, or as urllib would
        with socket.socket() as plug:
            refused("needs the network", partial(plug.connect, address))


@pytest.mark.costly
def test_a_process_that_a_test_starts_has_no_network() -> None:
    program = "import urllib.request as r; r.urlopen('http://example.org')"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "Connection refused" in done.stderr


def test_a_server_on_this_machine_is_allowed(serve: Callable[..., str]) -> None:
    with urllib.request.urlopen(serve({"page": b"here"}) + "page") as answer:
        assert answer.read() == b"here"
