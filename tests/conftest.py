"""What tests share: which are quick, a cache of their own, the real data, a local web server.

A test is ``quick`` unless it is marked ``costly`` or ``slow``, or uses, however far down, the
fixture ``costly`` or ``real_data``. guards.py fails a quick test that starts a process, imports
torchvision or takes seconds, and any test that reaches for the network.
"""

import contextlib
import os
import shutil
import sys
import threading
from collections.abc import Callable, Generator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from hypothesis import settings

import guards
from own_metrics_kit import table_restored
from server_kit import Server
from tinylab import cli

# Else this process, and each that a test starts, compiles the tests or all of tinylab again.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
settings.register_profile("tinylab", deadline=None, max_examples=30)
settings.load_profile("tinylab")
guards.install()


@pytest.hookimpl(tryfirst=True)  # before -m chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        uses = set(getattr(item, "fixturenames", ()))
        if "real_data" in uses:
            item.add_marker("realdata")
        if not uses & {"costly", "real_data"} and not {"costly", "slow"} & item.keywords.keys():
            item.add_marker("quick")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, object, object]:
    with guards.watching(item):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    with guards.watching(item):
        return (yield)


@pytest.fixture(scope="session")
def costly() -> None:
    """Asked for by a fixture that trains or starts a process: its tests are not quick."""


@pytest.fixture(scope="session", autouse=True)
def _cache_of_the_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Decoded data is shared by the tests of a session; TINYLAB_DATA holds in any folder."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in guards.NO_NETWORK.items():
            patch.setenv(name, value)
        for name in ("TINYLAB_CACHE", "TINYLAB_CODE"):
            patch.delenv(name, raising=False)
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        if "TINYLAB_DATA" in os.environ:
            patch.setenv("TINYLAB_DATA", os.path.abspath(os.environ["TINYLAB_DATA"]))
        yield


@pytest.fixture(autouse=True)
def _options_of_this_test() -> Iterator[None]:
    """What a test has put into the tables of options and metrics leaves them with the test."""
    with table_restored():
        yield


@pytest.fixture(scope="session")
def real_data(_cache_of_the_session: None) -> Path:
    """The folder with MNIST and 15-Scene; without it the test is skipped."""
    if "TINYLAB_DATA" not in os.environ:
        pytest.skip("TINYLAB_DATA is not set: it names the folder with MNIST/ and 15-Scene/")
    folder = Path(os.environ["TINYLAB_DATA"])
    if not folder.is_dir():
        pytest.skip(f"TINYLAB_DATA={folder}: no such folder")
    return folder


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder for one test: where the decoded arrays will be."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "tinylab" / "decoded"


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., str]]:
    """``serve({"a.zip": b"..."})`` starts a web server on 127.0.0.1 and returns its address.

    ``length`` is what Content-Length says if it is to be wrong, or None for no such header.
    """
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with contextlib.ExitStack() as stack:

        def start(pages: dict[str, bytes], **lie: int | None) -> str:
            server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(pages, lie))
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
            thread.start()
            for undo in (server.server_close, thread.join, server.shutdown):
                stack.callback(undo)
            return f"http://127.0.0.1:{server.server_port}/"

        yield start


def _handler(pages: dict[str, bytes], lie: dict[str, int | None]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            page = pages.get(self.path[1:])
            if page is None:
                self.send_error(404)
                return
            self.send_response(200)
            length = lie.get("length", len(page))
            if length is not None:
                self.send_header("Content-Length", str(length))
            self.end_headers()

        def do_GET(self) -> None:
            self.do_HEAD()
            with contextlib.suppress(OSError):  # a client may hang up
                self.wfile.write(pages.get(self.path[1:], b""))

        def log_message(self, *_: object) -> None:
            pass

    return Handler


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """One thread for the computations of a module."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def server(costly: None) -> Iterator[Server]:
    """The real command in processes of its own, at once; it keeps the session's environment."""
    server = Server()
    yield server
    server.close()


@pytest.fixture(scope="session")
def digits_run(costly: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run on digits; a test that changes it works on a copy."""
    outputs = tmp_path_factory.mktemp("digits")
    assert cli.run(["train", "train.epochs=6", f"outputs={outputs}"]) == 0
    [folder] = (outputs / "runs").glob("digits-*")
    return folder


@pytest.fixture
def copied_run(digits_run: Path, tmp_path: Path) -> Path:
    """A copy of ``digits_run`` of one's own."""
    return shutil.copytree(digits_run, tmp_path / "outputs" / "runs" / digits_run.name)
