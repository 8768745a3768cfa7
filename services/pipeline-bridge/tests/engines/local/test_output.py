import os

from pipeline_bridge.engines import Observation


async def test_of_a_line_that_is_written_over_the_last_writing_is_told(runs):
    order = runs.shell(r"printf 'begin\n10%%\r20%%\r'; read line < gate", directory=str(runs.folder.parent))
    gate = runs.folder.parent / "gate"
    os.mkfifo(gate)
    await runs.engine.submit(order)
    await runs.says(order, "20%")
    gate.write_text("go\n")
    assert (await runs.seen(order))[-1] == Observation("succeeded", "20%")


async def test_output_that_is_no_text_is_told_as_far_as_it_is(runs):
    end = await runs.end(
        runs.shell(r"head -c 3000 /dev/urandom; printf '\nall \033[31mred\033[0m\000 \377fine\n'")
    )
    assert end == Observation("succeeded", "all red fine")


async def test_a_long_line_is_cut(runs):
    end = await runs.end(runs.order("python", "-c", "print('x' * 3000)"))
    assert end.message == "x" * 199 + "…"


async def test_endless_output_is_bounded_and_its_end_is_kept(make_runs, tmp_path):
    runs = make_runs(tmp_path / "runs", max_output=64 * 1024, grace=5.0)
    end = await runs.end(runs.shell("yes 'this goes on' & sleep 0.3; kill $!; wait; echo last words"))
    assert end == Observation("succeeded", "last words")
    kept = [(runs.folder / "run-1" / name).read_text() for name in ("output.before", "output")]
    assert 32 * 1024 <= len("".join(kept)) <= 64 * 1024
    assert "".join(kept).endswith("this goes on\nlast words\n")
    await runs.aclose()


async def test_a_command_that_closes_its_output_runs_on(runs):
    end = await runs.end(runs.shell("echo bye; exec >/dev/null 2>&1; sleep 0.2; exit 4"))
    assert end == Observation("failed", "exit code 4: bye")
