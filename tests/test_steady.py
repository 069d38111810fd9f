import steady
from steady import Run, in_a_row, next_load


def run(load="quiet", result="green", commit="abc"):
    return Run("2026-01-01T00:00:00Z", commit, load, result, 100, "5 passed in 1 s")


def test_a_run_reads_as_it_was_written():
    assert Run.read(str(run("busy", "red"))) == run("busy", "red")


def test_a_red_run_begins_the_count_anew_and_other_commits_do_not_count():
    runs = [run(), run(result="red"), run("busy"), run(commit="def", result="red"), run()]

    assert in_a_row(runs, "abc") == [run("busy"), run()]


def test_a_run_is_told_by_the_last_line_of_pytest():
    assert (
        steady.summary("...\n== 1 failed, 5 passed in 7.00s ==\nmake: *** [test] Error 1\n")
        == "1 failed, 5 passed in 7.00s"
    )
    assert steady.summary("make: nothing to make it of\n") == "make: nothing to make it of"


def test_half_of_the_runs_are_beside_busy_loops():
    green = []
    while (load := next_load(green, 6)) is not None:
        green.append(run(load))

    assert [done.load for done in green] == ["quiet", "busy"] * 3


def test_busy_loops_run_beside_the_suite_and_no_longer():
    with steady.busy_loops(2) as loops:
        running = [loop.poll() for loop in loops]

    assert running == [None, None]
    assert all(loop.returncode for loop in loops)
