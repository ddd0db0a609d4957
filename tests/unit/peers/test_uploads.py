from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dmedia_transfer.model import random_id
from dmedia_transfer.peers.server.uploads import Upload, Uploads


@pytest.fixture
def uploads(tmp_path: Path) -> Uploads:
    return Uploads(tmp_path)


def finished(uploads: Uploads) -> Upload:
    upload = Upload(
        id=uploads.new_id(),
        file_id="A" * 48,
        store_id=random_id(),
        machine_id=random_id(),
        size=1,
        offset=1,
        finished=True,
        made_partial=True,
        time=1.0,
    )
    uploads.save(upload)
    return upload


def test_what_its_sender_wants_no_more_stays_until_the_daemon_has_it(uploads: Uploads, tmp_path: Path) -> None:
    upload = finished(uploads)
    assert not uploads.drop(upload)
    assert [each.dropped for each in Uploads(tmp_path)] == [True]
    uploads.confirm(upload.id)
    assert len(uploads) == len(Uploads(tmp_path)) == 0


def test_what_the_daemon_has_stays_until_its_sender_wants_it_no_more(uploads: Uploads, tmp_path: Path) -> None:
    upload = finished(uploads)
    uploads.confirm(upload.id)
    assert [each.told for each in Uploads(tmp_path)] == [True]
    assert uploads.drop(upload)


def test_a_sender_and_the_daemon_at_the_same_time_leave_nothing(uploads: Uploads, tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        for _ in range(100):
            upload = finished(uploads)
            confirmed = pool.submit(uploads.confirm, upload.id)
            if pool.submit(uploads.drop, upload).result():
                uploads.remove(upload)
            confirmed.result()
            assert len(uploads) == 0
    assert list(tmp_path.iterdir()) == []
