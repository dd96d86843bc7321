"""The command line: python -m helpers COMMAND --help."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

import tyro

# Commands import what they need themselves, so that --help answers at once.


def collect(
    dataset: tyro.conf.Positional[str], /, workers: int | None = None, record: bool = False
) -> None:
    """Make a dataset in Minari format under data/datasets.

    Args:
        dataset: such as halfcheetah/medium.
        workers: processes; default one a core.
        record: write the registry entry and the committed sample instead of comparing with them.
    """
    from helpers.data.collect import collect

    collect(dataset, workers=workers, record=record)


def download(name: tyro.conf.Positional[str], /, sha256: str = "") -> None:
    """Fetch a public dataset: Minari's mujoco/hopper/medium-v0, or D4RL's halfcheetah-medium-v2.

    Args:
        name: with slashes it is Minari's id, without it is D4RL's name.
        sha256: expected hash of the data file; default the one pinned by an earlier download.
    """
    from helpers.data.sources import download_d4rl, download_minari

    print((download_minari if "/" in name else download_d4rl)(name, sha256))


def train(
    dataset: tyro.conf.Positional[str],
    /,
    method: str = "dt",
    seed: int = 0,
    steps: int = 10_000,
    target: float | None = None,
    episodes: int = 20,
    workers: int = 1,
    device: Literal["cpu", "cuda"] = "cpu",
) -> None:
    """Train and evaluate a Decision Transformer on any dataset, also one of your own.

    Args:
        dataset: of the book (halfcheetah/medium), or a Minari id on this machine (my/set-v0).
        method: another method instead, such as bc.
        seed: of the run.
        steps: of the training.
        target: return that is asked for; default the best of the data.
        episodes: of the evaluation.
        workers: processes of the evaluation.
        device: of the training.
    """
    from helpers.files import read_json
    from helpers.library import own_run
    from helpers.runs import execute

    run = own_run(dataset, method, seed, steps=steps, episodes=episodes, target=target)
    path = execute(run, workers=workers, device=device)
    result = read_json(path)
    print(f"asked for {result['target']:,.1f}, mean return {result['last']:,.1f}: {path}")


def policy(steps: int | None = None, seed: int = 0) -> None:
    """Retrain the HalfCheetah behaviour policies by SAC (needs the extra `policies`).

    Args:
        steps: environment steps; default 300,000, ten thousand more than the committed expert.
        seed: of the training.
    """
    from helpers import paths
    from helpers.data.sac import SACConfig, choose_tiers, train_sac

    config = SACConfig(seed=seed) if steps is None else SACConfig(seed=seed, steps=steps)
    folder = paths.WORK / f"sac-{seed}"
    train_sac(config, folder)
    choose_tiers(folder, paths.POLICIES)


def run(
    experiment: tyro.conf.Positional[str],
    /,
    only: str = "",
    workers: int = 1,
    device: Literal["cpu", "cuda"] = "cpu",
    again: bool = False,
) -> None:
    """Train and evaluate the runs of an experiment that are missing or stale.

    Args:
        experiment: a table of experiments.toml, such as dt.
        only: keep the runs whose name contains this, such as medium-s0.
        workers: processes of the evaluation.
        device: of the training.
        again: also those that are done, from the first step; most of their models are not in git.
    """
    from helpers.experiments import load_experiments
    from helpers.names import look_up
    from helpers.runs import execute

    cells = look_up(load_experiments(), experiment, "experiment")
    chosen = [cell for cell in cells if only in cell.name]
    if not chosen:
        names = ", ".join(cell.name for cell in cells)
        raise ValueError(f"no run of {experiment!r} contains {only!r}; there are: {names}")
    for cell in chosen:
        state = cell.state()
        print(f"{cell.name}: {state}", flush=True)
        if again or state != "done":
            print(execute(cell, workers=workers, device=device, again=again))


def sweep(
    experiments: tyro.conf.Positional[tuple[str, ...]],
    /,
    only: str = "",
    workers: int | None = None,
    address: str = "",
    retries: int = 1,
) -> None:
    """Train and evaluate what is missing or stale, several runs at a time.

    Args:
        experiments: tables of experiments.toml, such as dt babyai-leap.
        only: keep the runs whose name contains this, such as -s0.
        workers: processes on this machine; default one a core.
        address: of a Dask scheduler, such as tcp://10.0.0.1:8786, whose workers are used instead.
        retries: further attempts at a run that failed.
    """
    from helpers.experiments import load_experiments
    from helpers.names import look_up
    from helpers.sweep import sweep

    known = load_experiments()
    cells = [cell for name in experiments for cell in look_up(known, name, "experiment")]
    chosen = [cell for cell in cells if only in cell.name]
    if not chosen:
        raise ValueError(f"no run of {list(experiments)} contains {only!r}")
    summary = sweep(chosen, workers=workers, address=address, retries=retries)
    print(summary)
    if summary.failed:
        raise RuntimeError(f"{len(summary.failed)} of {len(chosen)} runs failed; see above")


def results(json: bool = False, check: int = 0, seed: int = 0) -> None:
    """Print the table of all results: mean over seeds and episodes with 95 % intervals.

    Args:
        json: machine-readable rows instead of a table.
        check: compute so many random results again instead, and fail if one differs.
        seed: of the choice.
    """
    if check:
        return recheck_results(check, seed)
    from helpers.runs import results_table

    rows = results_table()
    if json:
        import json as library

        print(library.dumps(rows, indent=1))
        return
    import pandas as pd

    columns = ["task", "dataset", "method", "metric", "seeds", "episodes", "score", "low", "high"]
    table = pd.DataFrame(rows, columns=[*columns, "environment", "experiment"])
    print(table.to_string(index=False, float_format=lambda value: f"{value:,.1f}"))


def recheck_results(count: int, seed: int) -> None:
    """Compute random results again; raises if one differs by more than the tolerance."""
    from helpers.experiments import load_experiments
    from helpers.recheck import recheck

    runs = [run for some in load_experiments().values() for run in some]
    rows = recheck(runs, count, seed)
    for row in rows:
        print(row)
    if failed := [row.name for row in rows if not row.passed]:
        raise RuntimeError(f"{len(failed)} of {len(rows)} results are not reproduced: {failed}")


def notebooks(
    profile: Literal["smoke", "book", "full"] = "book",
    out: Path | None = None,
    only: str | None = None,
    learn: bool = False,
) -> None:
    """Execute the chapters by papermill, or write the learner's notebooks.

    Args:
        profile: smoke (seconds, tiny models), book (committed models), full (trains what lacks).
        out: folder of the executed notebooks; default book/chapters.
        only: part of a chapter's name.
        learn: write notebooks without outputs and solutions into learn/ instead.
    """
    from helpers import book, paths

    if learn:
        for path in book.learner_notebooks(out or paths.ROOT / "learn"):
            print(path)
    else:
        book.execute(profile, out, only=only)


def parameters() -> None:
    """Write the table of all chapters' parameters into its page."""
    from helpers.files import write_bytes
    from helpers.parameters import page_with_table

    path, text = page_with_table()
    write_bytes(path, text.encode())
    print(path)


def ledger() -> None:
    """Write the tables of all runs, and of what chapters read, into their page."""
    from helpers import paths
    from helpers.files import write_bytes
    from helpers.ledger import page_with_ledger

    path, text = page_with_ledger(executed=paths.ROOT / "book" / "chapters")
    write_bytes(path, text.encode())
    print(path)


def book() -> None:
    """Execute the chapters that changed, build the site and check it."""
    from helpers import book, paths
    from helpers.site import check_site

    book.execute("book")
    page = book.build()
    problems = check_site(page.parent, paths.ROOT / "_toc.yml", paths.ROOT / "notebooks")
    if problems:
        raise ValueError(
            "the built site has problems (`make clean` removes stale pages):\n"
            + "\n".join(problems)
        )
    print(f"open {page}")


COMMANDS = {
    "collect": collect,
    "download": download,
    "train": train,
    "policy": policy,
    "run": run,
    "sweep": sweep,
    "results": results,
    "notebooks": notebooks,
    "ledger": ledger,
    "parameters": parameters,
    "book": book,
}


def main() -> int:
    """Run a command; what the user can mend is one line on stderr, without a traceback."""
    try:
        tyro.extras.subcommand_cli_from_dict(COMMANDS, prog="python -m helpers")
    except KeyboardInterrupt:
        print("interrupted; finished pieces are kept, run the command again", file=sys.stderr)
        return 130
    except (ValueError, OSError, ImportError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
