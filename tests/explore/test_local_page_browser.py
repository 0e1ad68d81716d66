"""The local page in a browser: it answers a change, compares with a baseline, saves the file, asks nobody else."""

import threading

import pytest

import simgpu
from simgpu.explore.app import make_app
from simgpu.explore.asking import STARTS
from simgpu.review.browser import browser

pytestmark = [pytest.mark.slow, pytest.mark.skipif(browser() is None, reason="no browser is installed")]
HOSTILE = "<img src=x onerror=window.hit=1>"


@pytest.fixture(scope="module")
def address():
    from werkzeug.serving import make_server

    scenarios = {**STARTS, HOSTILE: {**STARTS["A server, Llama 3.3 70B on 4 H100"], "model": HOSTILE}}
    server = make_server("127.0.0.1", 0, make_app(scenarios, simgpu.Catalogue()))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    thread.join()


@pytest.fixture
def tab(address):
    api = pytest.importorskip("playwright.sync_api")
    with api.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=browser(), args=["--no-sandbox"])
        tab, heard = opened.new_page(), []
        tab.on("console", lambda said: heard.append(said.text))
        tab.on("pageerror", lambda error: heard.append(str(error)))
        tab.on("request", lambda asked: None if asked.url.startswith((address, "blob:")) else heard.append(asked.url))
        tab.goto(address)
        tab.wait_for_selector(".figure", timeout=60_000)
        yield tab
        assert heard == []
        opened.close()


def settled(tab):
    tab.wait_for_timeout(200)
    tab.wait_for_selector("#answer[aria-busy=false]", timeout=60_000)


def test_a_change_is_answered_compared_and_saved(tab, tmp_path):
    settled(tab)
    tab.click("#pin")
    tab.fill("[id='plan.tp']", "8")
    tab.fill("[id='plan.dp']", "2")
    settled(tab)
    assert "times the baseline, worse" in tab.inner_text("#figures")
    with tab.expect_download() as download:
        tab.click("#save")
    file = tmp_path / "mine.yaml"
    download.value.save_as(file)
    row = simgpu.run_experiment(file).rows[0]
    assert (row["tp"], row["dp"]) == (8, 2)
    assert f"{row['step_s']:.4g} s" in tab.inner_text("#figures")
    tab.fill("[id='plan.tp']", "3")
    settled(tab)
    assert "expected one of" in tab.inner_text("#error") and tab.is_disabled("#save")


def test_a_slider_moves_the_answer_and_hostile_names_stay_text(tab):
    tab.select_option("#starts", index=1)
    settled(tab)
    before = tab.inner_text("#figures")
    tab.locator("#factor-hbm_bandwidth").press("End")
    settled(tab)
    assert tab.inner_text("#figures") != before and "gpu.memory.bandwidth" in tab.inner_text("#file")
    tab.select_option("#starts", label=HOSTILE)
    settled(tab)
    assert HOSTILE in tab.inner_text("#error") and tab.evaluate("window.hit") is None
