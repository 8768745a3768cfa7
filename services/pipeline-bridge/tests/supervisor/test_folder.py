import os
from pathlib import Path

import pytest

from pipeline_bridge.supervisor.folder import RunFolder, RunOrder, RunState

ORDER = RunOrder(
    command=["/bin/echo", "two words", "caf\udce9"],
    environment={"A": "1"},
    directory="/",
    timeout=60.0,
    grace=1.0,
    poll=0.1,
    max_output=1024,
)


@pytest.fixture
def folder(tmp_path):
    found = RunFolder(str(tmp_path / "runs" / "run-1"))
    found.create(ORDER)
    return found


def test_an_order_is_read_as_it_was_written(folder):
    assert folder.exists()
    assert vars(folder.order()) == vars(ORDER)


def test_the_first_to_make_a_folder_decides_what_is_run(folder, tmp_path):
    other = RunOrder(**(vars(ORDER) | {"command": ["/bin/false"]}))
    RunFolder(folder.path).create(other)
    assert folder.order().command == ORDER.command
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["run-1"]


def test_a_state_is_there_as_a_whole_and_tells_that_it_changed(folder):
    assert folder.state() is None
    assert not folder.changed()
    folder.record(RunState("running", started=True, pid=7))
    before = folder.changed()
    assert before
    assert vars(folder.state()) == {"stage": "running", "message": "", "started": True, "pid": 7}
    folder.record(RunState("failed", "why", started=True, pid=7))
    assert folder.changed() != before
    assert folder.state().ended
    assert sorted(path.name for path in Path(folder.path).iterdir()) == ["lock", "order.json", "state.json"]


def test_the_lock_is_held_until_its_descriptor_is_closed(folder):
    held = folder.take()
    assert folder.taken()
    assert folder.take() is None
    os.close(held)
    assert not folder.taken()


def test_a_run_is_asked_to_stop_with_a_reason(folder):
    assert folder.stop_reason() is None
    folder.ask_to_stop("cancelled by Zoë")
    assert folder.stop_reason() == "cancelled by Zoë"


def test_only_what_has_ended_has_a_time_of_its_end(folder):
    assert folder.ended_at() is None
    folder.record(RunState("running"))
    assert folder.ended_at() is None
    folder.record(RunState("succeeded"))
    assert folder.ended_at() > 0


def test_a_removed_folder_is_gone(folder, tmp_path):
    path = RunFolder(folder.path)
    folder.remove()
    assert not path.exists()
    assert not list((tmp_path / "runs").iterdir())


def test_where_no_folder_can_be_made_nothing_is_left(tmp_path, monkeypatch):
    def fails(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "rename", fails)
    with pytest.raises(PermissionError):
        RunFolder(str(tmp_path / "run-1")).create(ORDER)
    assert not list(tmp_path.iterdir())
