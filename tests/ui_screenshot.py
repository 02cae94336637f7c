"""Look at a store as a user does: MLflow's UI in a real Chromium, over the newest sweep of STORE_FOLDER/mlflow.db.

    python tests/ui_screenshot.py STORE_FOLDER OUT_FOLDER

Checks, in the rendered pages, that the runs table shows the sweep with its trials below it, that the link in the sweep's
description leads to a comparison of the trials that it names, with what was swept, and that a trial with a model shows it on
its page. Writes sweep.png, compare.png and, where there is a model, model.png; where something is missing, says so and exits
with 1. Meant for sweeps of at most sixty trials: the table shows more only when one scrolls.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qs, urlsplit

from selenium import webdriver
from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException, TimeoutException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

CHROMIUM, CHROMEDRIVER = Path("/usr/bin/chromium"), Path("/usr/bin/chromedriver")
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --hide-scrollbars"
)
CLOSE_ASSISTANT = '[data-component-id="mlflow.assistant.chat_panel.close"]'
PATIENCE = 60  # seconds for one thing to appear

T = TypeVar("T")


class MissingError(Exception):
    """Something that a user should see is not there."""


@dataclass(frozen=True)
class Run:
    """One run, as the server describes it."""

    id: str
    experiment: str
    name: str
    status: str
    params: dict[str, str]
    tags: dict[str, str]
    models: list[str]

    @property
    def parent(self) -> str | None:
        return self.tags.get("mlflow.parentRunId")


def ui_command(store: Path, port: int) -> list[str]:
    """The command of `make ui`."""
    return [
        *(sys.executable, "-m", "mlflow", "ui"),
        *("--backend-store-uri", f"sqlite:///{store.absolute()}/mlflow.db"),
        *("--artifacts-destination", str(store.absolute() / "artifacts")),
        *("--host", "127.0.0.1", "--port", str(port), "--workers", "1"),
    ]


@contextmanager
def ui(store: Path, log: Path) -> Iterator[str]:
    """The address of a UI over a store; it is stopped, with the processes it started, at the end."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    address = f"http://127.0.0.1:{port}"
    with log.open("w") as output:
        server = subprocess.Popen(
            ui_command(store, port), env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        deadline = time.monotonic() + PATIENCE
        while not _answers(address):
            if server.poll() is not None or time.monotonic() > deadline:
                raise MissingError(f"the UI did not start:\n{log.read_text()}")
            time.sleep(0.2)
        yield address
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/health", timeout=5):
            return True
    except OSError:
        return False


def newest_sweep(address: str) -> tuple[Run, list[Run]]:
    """The newest parent run, and its children with the oldest first."""
    experiments = _ask(address, "experiments/search", max_results=1000).get("experiments", [])
    ids = [experiment["experiment_id"] for experiment in experiments]
    order = ["attributes.start_time DESC"]
    answer = _ask(address, "runs/search", experiment_ids=ids, max_results=1000, order_by=order)
    runs = [
        Run(
            run["info"]["run_id"],
            run["info"]["experiment_id"],
            run["info"]["run_name"],
            run["info"]["status"],
            {param["key"]: param["value"] for param in run["data"].get("params", [])},
            {tag["key"]: tag["value"] for tag in run["data"].get("tags", [])},
            [model["model_id"] for model in run.get("outputs", {}).get("model_outputs", [])],
        )
        for run in answer.get("runs", [])
    ]
    parents = {run.parent for run in runs}
    if (sweep := next((run for run in runs if run.id in parents), None)) is None:
        raise MissingError("the store holds no sweep")
    return sweep, [run for run in reversed(runs) if run.parent == sweep.id]


def _ask(address: str, method: str, **question: Any) -> dict[str, Any]:
    body = json.dumps(question).encode()
    request = urllib.request.Request(f"{address}/api/2.0/mlflow/{method}", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        found: dict[str, Any] = json.load(answer)
    return found


@contextmanager
def chromium(height: int) -> Iterator[webdriver.Chrome]:
    """A fresh headless browser."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = webdriver.ChromeOptions()
        options.binary_location = str(CHROMIUM)
        for flag in (*FLAGS.split(), f"--window-size=1600,{height}", f"--user-data-dir={profile}"):
            options.add_argument(flag)
        browser = webdriver.Chrome(options=options, service=Service(str(CHROMEDRIVER)))
        try:
            yield browser
        finally:
            browser.quit()


def wait(browser: webdriver.Chrome, what: str, look: Callable[[webdriver.Chrome], T]) -> T:
    """What `look` finds, once it finds something.

    Raises:
        MissingError: when it does not.
    """
    ignored = (NoSuchElementException, StaleElementReferenceException)
    try:
        return WebDriverWait(browser, PATIENCE, 0.2, ignored).until(look)
    except TimeoutException:
        text = browser.find_element(By.TAG_NAME, "body").text
        raise MissingError(f"{what} at {browser.current_url}; the page begins:\n{text[:1000]}") from None


def close_assistant(browser: webdriver.Chrome) -> None:
    """MLflow opens a chat panel over a third of the page on the first visit."""
    for button in browser.find_elements(By.CSS_SELECTOR, CLOSE_ASSISTANT):
        button.click()


def show_sweep(browser: webdriver.Chrome, address: str, sweep: Run, children: list[Run]) -> None:
    """Open the runs table, unfold the sweep, and find every trial below it."""
    browser.get(f"{address}/#/experiments/{sweep.experiment}/runs")
    row = f'[row-id="{sweep.id}"]'
    wait(browser, f"no row of {sweep.name}", lambda page: sweep.name in page.find_element(By.CSS_SELECTOR, row).text)
    close_assistant(browser)
    wait(browser, f"{sweep.name} does not unfold", lambda page: page.find_element(By.CSS_SELECTOR, f"{row} button")).click()
    for child in children:
        cell = f'[row-id="{child.id}"]'
        wait(browser, f"no row of {child.name}", lambda page: child.name in page.find_element(By.CSS_SELECTOR, cell).text)  # noqa: B023


def show_comparison(browser: webdriver.Chrome, address: str, sweep: Run, children: list[Run]) -> list[Run]:
    """Follow the link in the sweep's description, and find every trial that it names, in its order, with what was swept."""
    browser.get(f"{address}/#/experiments/{sweep.experiment}/runs/{sweep.id}")
    wait(browser, "no comparison link", lambda page: page.find_element(By.CSS_SELECTOR, 'a[href*="compare-runs"]'))
    close_assistant(browser)
    link = str(browser.find_element(By.CSS_SELECTOR, 'a[href*="compare-runs"]').get_property("href"))
    browser.get(link)

    (named,) = parse_qs(urlsplit(urlsplit(link).fragment).query)["runs"]
    by_id = {child.id: child for child in children}
    compared = [by_id[run_id] for run_id in json.loads(named)]
    keys = dict.fromkeys(key for child in compared for key in child.params)
    swept = [key for key in keys if len({child.params.get(key) for child in compared}) > 1]
    expected = [("Run Name:", [child.name for child in compared])]
    expected += [(key, [child.params.get(key, "") for child in compared]) for key in swept]
    for title, values in expected:
        wait(browser, f"no row {title} {values}", lambda page: [title, *values] in _rows(page))  # noqa: B023
    wait(browser, "no plot", lambda page: page.find_element(By.CSS_SELECTOR, ".js-plotly-plot svg"))
    for switch in browser.find_elements(By.CSS_SELECTOR, '[role="switch"]')[:1]:  # of the parameters: show those that differ
        switch.click()
    return compared


def show_model(browser: webdriver.Chrome, address: str, trial: Run) -> None:
    """Open a trial that has a model, and find the model among what it logged, ready to be used."""
    browser.get(f"{address}/#/experiments/{trial.experiment}/runs/{trial.id}")
    (model,) = trial.models
    row = f'[row-id="{model}"]'  # there are three: of the columns that scroll, and of none on either side
    wait(
        browser,
        f"no model of {trial.name} that is ready",
        lambda page: any("Ready" in part.text for part in page.find_elements(By.CSS_SELECTOR, row)),
    )
    close_assistant(browser)


def _rows(page: webdriver.Chrome) -> list[list[str]]:
    script = "return [...document.querySelectorAll('tr')].map(row => [...row.children].map(cell => cell.innerText.trim()))"
    rows: list[list[str]] = page.execute_script(script)
    return rows


def main(store: Path, out: Path) -> None:
    """Take the pictures.

    Raises:
        MissingError: when a page does not show what it should.
    """
    out.mkdir(parents=True, exist_ok=True)
    with ui(store, out / "ui.log") as address:
        sweep, children = newest_sweep(address)
        with chromium(height=1200 + 32 * len(children)) as browser:
            show_sweep(browser, address, sweep, children)
            browser.save_screenshot(str(out / "sweep.png"))
            compared = show_comparison(browser, address, sweep, children)
            browser.save_screenshot(str(out / "compare.png"))
            served = [child for child in children if child.models]
            if served:
                show_model(browser, address, served[0])
                browser.save_screenshot(str(out / "model.png"))
    counts = f"{len(children)} trials in the table, {len(compared)} in the comparison, {len(served)} with a model"
    print(f"{sweep.name}: {counts}; pictures in {out}")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    try:
        main(Path(sys.argv[1]), Path(sys.argv[2]))
    except MissingError as missing:
        sys.exit(f"missing: {missing}")
