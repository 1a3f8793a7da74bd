"""The pages as a person has them in a browser: the report, the docs, and TensorBoard's tabs.

They need the test extra ``browser`` and a Chromium (its path by TINYLAB_CHROMIUM, or Debian's).
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from compare_kit import write_run
from tensorboard_kit import serve_tensorboard
from tinylab import reporting
from tinylab.ui.tensorboard import RunTracker

pytestmark = pytest.mark.costly

ROOT = Path(__file__).parents[1]
NAMES = ("chromium", "chromium-browser", "google-chrome")
PHONE = {"width": 390, "height": 844}
DESKTOP = {"width": 1280, "height": 900}
# What TensorBoard's console says of its own code.
OF_TENSORBOARD = ("Multiple instances of Three.js", "is deprecated")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """One Chromium for the module."""
    api = pytest.importorskip("playwright.sync_api", reason="needs pip install 'tinylab[browser]'")
    result = os.environ.get("TINYLAB_CHROMIUM") or next(
        filter(None, map(shutil.which, NAMES)), None
    )
    if result is None:
        pytest.skip("no Chromium: TINYLAB_CHROMIUM is not set, and none is on the path")
    with api.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=result)
        yield opened
        opened.close()


class Visit:
    """A page in a window of its own, and what it asked for and complained about."""

    def __init__(self, browser: Any, address: str, size: dict[str, int]) -> None:
        self.page = browser.new_page(viewport=size)
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", self._heard)
        self.page.goto(address)

    def _heard(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def overflow(self) -> int:
        """By how many pixels the page is wider than the window."""
        return self.page.evaluate("document.documentElement.scrollWidth - innerWidth")

    def ground(self) -> str:
        return self.page.evaluate("getComputedStyle(document.body).backgroundColor")


# ---------------------------------------------------------------- the report


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of a report on five settings, whose learning curves show overfitting."""
    folder = tmp_path_factory.mktemp("report")
    for number, (filters, lr) in enumerate([(4, 0.1), (8, 0.1), (16, 0.1), (4, 0.01), (128, 0.01)]):
        for seed in (0, 1, 2):
            made = write_run(
                folder, 80 + 2 * number + seed, 0.8 + number / 100,
                model__filters=filters, optim__lr=lr, seed=seed,
            )  # fmt: skip
            (made / "metrics.jsonl").write_text("\n".join(map(json.dumps, curve(number))))
    reporting.write([folder], folder / "report.html")
    return (folder / "report.html").as_uri()


def curve(number: int) -> list[dict[str, float]]:
    return [
        {
            "epoch": epoch, "step": 10 * epoch, "time": 1e6, "lr": 0.1,
            "train_loss": 1 / epoch, "train_accuracy": 1 - 1 / (epoch + 1),
            "val_loss": 0.5 + 0.1 * abs(epoch - 4), "val_accuracy": 0.8 + number / 100,
        }
        for epoch in range(1, 11)
    ]  # fmt: skip


@pytest.fixture
def visit(browser: Any, report: str) -> Iterator[Visit]:
    made = Visit(browser, report, DESKTOP)
    yield made
    made.page.close()


def test_the_report_asks_for_nothing_and_complains_of_nothing(visit: Visit, report: str) -> None:
    assert visit.requests == [report]
    assert visit.complaints == []
    assert "overfitting" in visit.page.inner_text("main")


def test_a_click_on_a_head_sorts_and_another_turns_round(visit: Visit) -> None:
    table = visit.page.locator("table").first
    head = table.locator("th", has=visit.page.get_by_role("button", name="model.filters"))
    place = head.evaluate("head => head.cellIndex")

    def column() -> list[str]:
        return table.evaluate(
            f"table => [...table.tBodies[0].rows].map(row => row.cells[{place}].innerText)"
        )

    before = sorted(column(), key=float)
    head.get_by_role("button").click()
    assert column() == before == ["4", "4", "8", "16", "128"]
    assert head.get_attribute("aria-sort") == "ascending"
    head.get_by_role("button").press("Enter")
    assert column() == before[::-1]
    assert head.get_attribute("aria-sort") == "descending"


def test_copy_puts_the_table_into_the_clipboard(visit: Visit) -> None:
    page = visit.page
    page.locator(".copy").first.click()
    page.evaluate("document.body.prepend(document.createElement('textarea'))")
    page.locator("textarea").press("Control+V")
    head, *rows = page.locator("textarea").input_value().strip().splitlines()
    assert head.split("\t")[:3] == page.locator("table").first.locator("th").all_inner_texts()[:3]
    assert len(rows) == 5


def test_the_switch_makes_it_dark_and_paper_is_white(visit: Visit) -> None:
    assert visit.ground() == "rgb(255, 255, 255)"
    visit.page.locator("#flip").check()
    dark = visit.ground()
    assert max(map(int, dark.removeprefix("rgb(").removesuffix(")").split(","))) < 60
    visit.page.emulate_media(media="print")
    assert not visit.page.locator(".copy").first.is_visible()
    assert not visit.page.locator("#flip").is_visible()
    assert visit.ground() == "rgb(255, 255, 255)"
    assert visit.page.pdf()[:5] == b"%PDF-"


def test_a_phone_shows_the_report_without_scrolling_sideways(browser: Any, report: str) -> None:
    made = Visit(browser, report, PHONE)
    assert made.overflow() == 0
    made.page.close()


# ---------------------------------------------------------------- the docs


@pytest.fixture(scope="module")
def site(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the docs, built and served here."""
    pytest.importorskip("material", reason="needs pip install 'tinylab[docs]'")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True)
    handler = partial(Silent, directory=str(folder))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    thread.join()
    server.server_close()


class Silent(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_the_docs_load_nothing_from_elsewhere_and_fit_the_window(
    browser: Any, site: str, size: dict[str, int]
) -> None:
    for name in ("", "statistics-explained/", "config-keys/"):
        made = Visit(browser, site + name, size)
        assert made.complaints == [], name
        assert all(request.startswith(site) for request in made.requests), name
        assert made.overflow() == 0, name
        assert made.page.locator("h1").is_visible()
        made.page.close()


# ---------------------------------------------------------------- TensorBoard


@pytest.fixture(scope="module")
def board(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a TensorBoard with two runs, as the trainings write them."""
    folder = tmp_path_factory.mktemp("runs")
    for number in (0, 1):
        place = folder / f"run{number}"
        place.mkdir()
        values = {"optim.lr": 0.1 / (number + 1)}
        tracker = RunTracker(place, place / "metrics.jsonl", curve(number), values)
        tracker.finish({"final/test_accuracy": 0.9 + number / 100}, step=100)
    with serve_tensorboard(folder, num_runs=6) as address:
        yield address


def test_time_series_has_one_chart_for_train_and_validation(browser: Any, board: str) -> None:
    made = Visit(browser, f"{board}/#timeseries", DESKTOP)
    cards = made.page.locator("card-view")
    cards.filter(has_text="run0/val").first.wait_for()
    for tag in ("accuracy", "loss"):
        made.page.locator("input[placeholder^='Filter tags']").fill(f"^{tag}$")
        card = cards.filter(has_text=re.compile(rf"^\s*{tag}")).first
        for run in ("run0/train", "run0/val", "run1/train", "run1/val"):
            card.get_by_text(run).first.wait_for()
    own = [each for each in made.complaints if not any(text in each for text in OF_TENSORBOARD)]
    assert own == []
    made.page.close()


def test_hparams_has_one_row_for_each_run(browser: Any, board: str) -> None:
    made = Visit(browser, f"{board}/#hparams", DESKTOP)
    rows = made.page.locator("vaadin-grid-cell-content")
    rows.filter(has_text="0.91000").first.wait_for()
    shown = " ".join(rows.all_inner_texts())
    for each in ("optim.lr", "final/test_accuracy", "0.10000", "0.050000", "0.90000", "run0"):
        assert each in shown
    made.page.close()
