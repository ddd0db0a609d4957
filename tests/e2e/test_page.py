"""The page of the installed daemon in a real browser: a film comes, and a new file goes into the library."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser import WAIT_MS, browsing, page_in
from tests.device import eventually
from tests.e2e.conftest import SERVERS, Scene
from tests.factories import content

pytestmark = pytest.mark.parametrize("s3", SERVERS[:1], indirect=True)


def test_a_film_is_asked_for_and_watched_on_the_page_and_a_new_file_is_sent_there(stage: Scene) -> None:
    device = stage.device
    device.extra_env.update(DMEDIA_WEB__ENABLED="true", DMEDIA_WEB__PORT="0")
    data = content(20_000_000)
    file_id = stage.remote_file(data)
    stage.proxy.limit(6_000_000)
    device.start()
    with browsing() as browser, page_in(browser) as page:
        page.goto(json.loads(device.cli("web", "--json").stdout)["url"])
        page.get_by_role("button", name="Add").click()
        page.get_by_label("Name or ID").fill(file_id[:20])
        page.get_by_role("button", name="Download").click()
        row = page.locator("#rows > li")
        expect(row).to_contain_text("left", timeout=WAIT_MS)  # it moves, and says for how long still
        row.get_by_role("button", name="Pause").click()
        expect(row).to_contain_text("paused", timeout=WAIT_MS)
        stage.proxy.limit(None)
        row.get_by_role("button", name="Resume").click()
        eventually(lambda: device.path_of(file_id).exists())
        assert device.path_of(file_id).read_bytes() == data
        expect(row).to_have_count(0, timeout=WAIT_MS)
        page.get_by_role("link", name="History").click()
        expect(page.locator("#history")).to_contain_text("done", timeout=WAIT_MS)

        page.get_by_role("button", name="Add").click()
        page.get_by_label("New files").set_input_files({"name": "new.txt", "mimeType": "text/plain", "buffer": b"new"})
        expect(page.locator("#toasts")).to_contain_text("“new.txt” is in the library.", timeout=WAIT_MS)
        path = eventually(lambda: device.cli("path", "new.txt", check=False).stdout.strip())
        assert Path(path).read_bytes() == b"new"
