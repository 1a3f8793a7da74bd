"""The end of a sweep: results on the screen, in files, as a page and in TensorBoard."""

import shlex
from collections.abc import Sequence

from tinylab import reporting as report
from tinylab.comparison import show
from tinylab.comparison.comparison import compare
from tinylab.comparison.settings import group
from tinylab.config.identity import run_id
from tinylab.errors import UserError
from tinylab.reporting.answer import answer
from tinylab.store.collect import collect
from tinylab.store.run import Run
from tinylab.store.sweep import SweepFolder
from tinylab.sweeps import board, leaderboard
from tinylab.sweeps.job import Job
from tinylab.sweeps.leaderboard import Row
from tinylab.ui.console import counted, say
from tinylab.ui.tables import Section, on_screen


def conclude(folder: SweepFolder, jobs: Sequence[Job], table: list[Row]) -> None:
    """Show the results, and write tables, page and curves. Raises UserError if not all jobs are
    finished.
    """
    runs, _ = collect([folder.path])
    if "runs" in table[0]:
        leaderboard.show_means(table, jobs)
    else:
        _show(runs, jobs[0], table)
    write(folder, {run_id(job.config): job.label for job in jobs}, table)
    say_files(folder)
    refuse_unfinished(table, jobs)


def write(folder: SweepFolder, labels: dict[str, str], table: list[Row]) -> None:
    """Write the table, and its page and curves unless up to date. ``labels``: by run id."""
    runs, _ = collect([folder.path])
    is_shown = leaderboard.is_written(folder, table) and report.is_settled(folder.report_file)
    leaderboard.write(folder, table)
    if runs and not is_shown:
        _draw(folder, labels, runs)


def say_files(folder: SweepFolder) -> None:
    """Print the paths of what was written."""
    say(f"\nfiles   {folder.path}")
    if folder.report_file.exists():
        say(f"report  {folder.report_file}")
        say(f"curves  tensorboard --logdir {shlex.quote(str(folder.tensorboard_folder))}")


def refuse_unfinished(table: list[Row], jobs: Sequence[Job]) -> None:
    """Raise UserError if not all jobs are finished or pruned, with the error if it is the same."""
    states = [row["state"] for row in table]
    if failed := states.count("failed"):
        errors = {error for job in jobs if (error := job.files.error()) is not None}
        log = jobs[0].files.log_file
        where = f"; see {log.name} in their folders in {log.parents[1]}"
        why = f": {errors.pop()}" if len(errors) == 1 else where
        raise UserError(
            f"{failed} of {counted(len(table), 'job')} failed{why}\n"
            "  fix the cause and repeat the command: finished jobs are not re-run"
        )
    if unfinished := sum(state not in ("finished", "pruned") for state in states):
        raise UserError(
            f"{unfinished} of {counted(len(table), 'job')} not finished (stopped, or not run)\n"
            "  repeat the command to resume them; finished jobs are not re-run"
        )


def _draw(folder: SweepFolder, labels: dict[str, str], runs: Sequence[Run]) -> None:
    """Write curves and page, the page last: if it exists and is settled, both are complete.

    The jobs are finished already, so a failure here only costs the page.
    """
    if report.is_settled(folder.report_file):
        folder.report_file.unlink()
    try:
        board.write(folder.tensorboard_folder, labels, group(runs))
        report.write([folder.path], folder.report_file)
    except Exception as error:
        why = f"{type(error).__name__}: {error}".partition("\n")[0]
        say(f"cannot make the curves and the report ({why}); the same command makes them")


def _show(runs: Sequence[Run], first: Job, table: list[Row]) -> None:
    """Show settings with verdicts if seeds were repeated, otherwise one line per run."""
    metric = first.config.sweep.metric
    comparisons = compare(runs, metric=metric)
    if all(len(row.setting.runs) == 1 for each in comparisons for row in each.rows):
        judged = [each for each in comparisons if len(each.rows) > 1]
        rows = [row for each in judged for row in each.rows]
        leaderboard.show(table, first, {row.setting.runs[0].folder.name: row.name for row in rows})
        for each in judged:
            sentences = [*answer(each), *show.caveats(each)]
            say("\n" + "\n".join(on_screen([Section(sentences)])))
        return
    unfinished = [row for row in table if row["state"] != "finished"]
    if unfinished:
        leaderboard.show(unfinished, first)
    say("")
    for line in on_screen(show.sections(comparisons, [], is_narrow=True)):
        say(line)
