"""Experiments, runs and result files."""

import dataclasses
import itertools
import json

import numpy as np
import pytest

from helpers import experiments, paths, runs
from helpers.data import catalogue
from helpers.experiments import Evaluation, Run, load_experiments, smoke_version
from helpers.files import BadFile, read_json, sha256, write_bytes, write_json
from helpers.methods import METHODS
from helpers.models.decision import load_decision
from helpers.names import UnknownName
from helpers.runs import execute, obtain, results_table
from helpers.tasks import TASKS, get_task

ENTRY = """
[x]
task = "halfcheetah"
method = "dt"
datasets = ["halfcheetah/medium"]
seeds = [0, 1]
"""


@pytest.fixture
def written(tmp_path):
    def write(text: str):
        path = tmp_path / "experiments.toml"
        path.write_text(text)
        return path

    return write


def test_the_grid_is_expanded(written):
    cells = load_experiments(written(ENTRY))["x"]
    assert [run.name for run in cells] == ["x/halfcheetah/medium-s0", "x/halfcheetah/medium-s1"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("seeds = [0, 1]", ""), r"\[x\] lacks 'seeds'"),
        (("seeds = [0, 1]", "seeds = [0]\nseed = 1"), r"\[x\] has 'seed'; known"),
        (('"halfcheetah"', '"halfchetah"'), "did you mean halfcheetah"),
        (('"dt"', '"dtt"'), "unknown method 'dtt'; did you mean .*dt"),
        (("halfcheetah/medium", "halfcheetah/meduim"), "did you mean halfcheetah/medium"),
        (("[x]", "[x"), "not TOML"),
        (("seeds = [0, 1]", "seeds = [0]\n[x.evaluation]\nepisode = 3"), "unknown .'episode'."),
        (("seeds = [0, 1]", "seeds = [0]\n[x.train]\nstep = 3"), "unknown .'step'.; known: "),
        (("seeds = [0, 1]", "seeds = 3"), r"\[x\] seeds is 3; write a list of int"),
        (("seeds = [0, 1]", 'seeds = ["0"]'), "write a list of int"),
        (("seeds = [0, 1]", "seeds = [0, 1, 0]"), r"\[x\] seeds names \[0\] twice"),
        (("[x]", "[x]\n[x]"), "not TOML .*Cannot declare"),
    ],
)
def test_a_bad_entry_is_named(written, change, message):
    with pytest.raises((BadFile, UnknownName), match=message):
        load_experiments(written(ENTRY.replace(*change)))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("episodes = 0", "episodes is 0; choose a number of at least 1"),
        ("episodes = 2.5", "episodes is 2.5; write it as int"),
        ("episodes = true", "episodes is True; write it as int"),
        ("checks = 0", "checks is 0; choose"),
        ("check_episodes = -1", "check_episodes is -1; choose a number of at least 0"),
        ("sweep_episodes = 0", "sweep_episodes is 0; choose"),
        ("noise = -0.1", "noise is -0.1; choose"),
        ("noise = nan", "noise is nan; choose"),
        ("target = inf", "target is inf; write returns"),
        ('target = "best"', "target is 'best'; write returns"),
        ('sweep = [1.0, "2.0"]', "sweep is .* write returns"),
        ("sweep = 3.0", "sweep is 3.0; write returns"),
    ],
)
def test_a_bad_evaluation_is_named(written, line, message):
    with pytest.raises(BadFile, match=rf"\[x.evaluation\] {message}"):
        load_experiments(written(f"{ENTRY}[x.evaluation]\n{line}\n"))


@pytest.mark.parametrize(
    ("method", "line", "message"),
    [
        ("tt", "beam_widht = 8", "'beam_widht'; did you mean beam_width"),
        ("tt", "beam_width = 8.0", "beam_width is 8.0; write it as int"),
        ("tt", 'ends = "no"', "ends is 'no'; write it as bool"),
        ("tt", "action_cdf = 60.0", "action_cdf is 60.0; choose a number from 0 to 1"),
        ("tt", "plan_every = 7", "plan_every 7 exceeds the horizon 5"),
        ("tt", 'critic = "iql"', "unknown option of the planner 'critic'"),
        ("leap", "iterations = 0", "iterations is 0; at least 1"),
        ("leap", 'sampler = "draws"', "choose argmax or gibbs"),
        ("leap", 'lava = "avoid"', "choose seen, hidden or avoided"),
        ("dt", 'intervention = "no stats"', "did you mean no states"),
        ("dt", "beam_width = 8", "known: compose, intervention, lava"),
        ("bc", "beam_width = 8", r"the method bc does not plan; remove \['beam_width'\]"),
    ],
)
def test_a_bad_planner_is_named(written, method, line, message):
    """When the file is read: hours of training come before the first search."""
    text = ENTRY.replace('"dt"', f'"{method}"') + f"[x.planner]\n{line}\n"
    with pytest.raises(BadFile, match=rf"\[x.planner\] .*{message}"):
        load_experiments(written(text))


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("tt", {"planner": {"horizon": 4}}, "need 6 steps, but the model was trained on 5"),
        ("tt", {"planner": {"beam_widht": 2}}, "did you mean beam_width"),
        ("babyai-leap", {"planner": {"plan_every": 99}}, "plan_every 99 exceeds the plan length"),
        ("stitch-bc", {"evaluation": {"noise": 0.1}}, "no actions to add noise to"),
    ],
)
def test_what_cannot_be_played_is_not_trained(tmp_path, monkeypatch, name, changes, message):
    def no_noise(*given):
        raise ValueError("no actions to add noise to")

    monkeypatch.setattr("helpers.methods.noisy_agent", no_noise)
    monkeypatch.setattr(paths, "WORK", tmp_path / "work")
    run = smoke_version(load_experiments()[name][0])
    changed = {field: {**getattr(run, field), **some} for field, some in changes.items()}
    with pytest.raises(BadFile, match=rf"\[{name}\] cannot be played .*{message}"):
        execute(dataclasses.replace(run, **changed), folder=tmp_path, sample=True, progress=False)
    assert not (tmp_path / "work").exists(), "nothing was trained"


def test_identity_sees_configuration_seed_and_data():
    run = Run("x", "halfcheetah", "halfcheetah/medium", "dt", 0)
    others = [
        Run("x", "halfcheetah", "halfcheetah/medium", "dt", 1),
        Run("x", "halfcheetah", "halfcheetah/medium", "dt", 0, train={"steps": 3}),
        Run("x", "halfcheetah", "halfcheetah/medium", "dt", 0, model={"width": 3}),
    ]
    assert len({run.identity("a"), run.identity("b"), *(r.identity("a") for r in others)}) == 5


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    """One smoke run, executed; its folder and its result."""
    folder = tmp_path_factory.mktemp("smoke")
    patch = pytest.MonkeyPatch()
    patch.setattr(paths, "WORK", folder / "work")
    run = smoke_version(load_experiments()["dt"][0])
    path = execute(run, folder=folder, sample=True, progress=False)
    yield run, folder, read_json(path)
    patch.undo()


def test_a_result_holds_what_it_was_made_from(smoke):
    run, folder, result = smoke
    assert result["run"]["train"]["steps"] == 40
    assert len(result["returns"]) == 2
    assert result["last"] == pytest.approx(np.mean(result["returns"]), abs=0.01)
    assert result["checkpoint_sha256"] == sha256(run.checkpoint_path(folder))
    assert result["versions"]["environment"] == "HalfCheetah-v5"
    assert {"torch", "mujoco", "commit", "machine", "processor"} <= set(result["versions"])
    assert [row["step"] for row in result["history"]] == [10, 20, 30, 40]


def test_a_model_of_another_configuration_is_not_taken_for_this_one(smoke):
    run, folder, _ = smoke
    assert runs._made(run, folder)
    assert not runs._made(dataclasses.replace(run, model={**run.model, "layers": 2}), folder)
    assert not runs._made(dataclasses.replace(run, seed=7), folder)


def test_the_same_run_gives_the_same_result(smoke, tmp_path, monkeypatch):
    run, _, result = smoke
    monkeypatch.setattr(paths, "WORK", tmp_path / "work")
    again = read_json(execute(run, folder=tmp_path, sample=True, progress=False))
    for key in ("returns", "history", "checkpoint_sha256", "sweep", "identity"):
        assert again[key] == result[key], key


def test_a_finished_run_is_trained_again_on_demand_only(tmp_path, monkeypatch):
    """Its working folder is named by configuration and data, and would hide changed code."""
    monkeypatch.setattr(paths, "WORK", tmp_path / "work")
    run = smoke_version(load_experiments()["sparse-bc"][0])
    options = {"folder": tmp_path, "sample": True, "progress": False}
    method, steps = METHODS[run.method], []

    def counted(*given):
        steps.append(1)
        return method.loss(*given)

    monkeypatch.setitem(METHODS, run.method, dataclasses.replace(method, loss=counted))
    first = read_json(execute(run, **options))
    assert len(steps) == 40
    execute(run, **options)
    assert len(steps) == 40
    again = read_json(execute(run, again=True, **options))
    assert len(steps) == 80 and again["checkpoint_sha256"] == first["checkpoint_sha256"]


@pytest.mark.parametrize("best_check", [0, 1])
def test_the_best_check_is_stored_beside_the_last(tmp_path, monkeypatch, best_check):
    from helpers import evaluate as evaluating

    monkeypatch.setattr(paths, "WORK", tmp_path / "work")
    run = smoke_version(load_experiments()["dt"][0])
    run = dataclasses.replace(run, evaluation={"checks": 2, "check_episodes": 1, "episodes": 1})
    play, calls = evaluating.evaluate, []

    def scored(*arguments, **options):
        calls.append(1)
        played = play(*arguments, **options)
        rewards = np.zeros_like(played.rewards)
        rewards[:, 0] = len(calls) - 1 == best_check
        return dataclasses.replace(played, rewards=rewards)

    monkeypatch.setattr(evaluating, "evaluate", scored)
    result = read_json(execute(run, folder=tmp_path, sample=True, progress=False))
    assert result["best"] == {"step": [20, 40][best_check], "mean": 1.0}
    best = run.best_checkpoint_path(tmp_path)
    assert best.exists() == (best_check == 0)
    if best.exists():
        assert load_decision(best)[1]["step"] == 20
        assert sha256(best) != sha256(run.checkpoint_path(tmp_path))


@pytest.mark.parametrize("moment", ["in a check", "in the final evaluation"])
def test_an_interrupted_run_ends_with_the_same_result(smoke, tmp_path, monkeypatch, moment):
    from helpers import evaluate as evaluating

    run, _, result = smoke
    monkeypatch.setattr(paths, "WORK", tmp_path / "work")
    play, calls = evaluating.evaluate, []

    def interrupted(*arguments, **options):
        calls.append(1)
        if len(calls) == (1 if moment == "in a check" else 2):
            raise KeyboardInterrupt
        return play(*arguments, **options)

    monkeypatch.setattr(evaluating, "evaluate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        execute(run, folder=tmp_path, sample=True, progress=False)
    assert not run.result_path(tmp_path).exists()
    monkeypatch.setattr(evaluating, "evaluate", play)
    again = read_json(execute(run, folder=tmp_path, sample=True, progress=False))
    for key in ("returns", "history", "checks", "checkpoint_sha256", "sweep", "identity"):
        assert again[key] == result[key], key
    assert again["checkpoint_sha256"] == sha256(run.checkpoint_path(tmp_path))


def test_an_altered_dataset_is_refused(tmp_path, monkeypatch):
    """A run must not train on data other than the registry's."""
    monkeypatch.setattr(paths, "WORK", tmp_path / "work")
    sample = catalogue.load_dataset("halfcheetah/medium", sample=True)
    monkeypatch.setattr(catalogue, "load_dataset", lambda *_, **__: sample)
    with pytest.raises(BadFile, match="is not the registry's"):
        execute(load_experiments()["dt"][0], folder=tmp_path, progress=False)


def test_missing_and_stale_results_are_told_apart(tmp_path, monkeypatch):
    run = load_experiments()["dt"][0]
    committed = read_json(run.result_path())
    known = catalogue.registry()
    monkeypatch.setattr(catalogue, "registry", lambda: known)
    monkeypatch.setattr(paths, "DATA", tmp_path)
    assert run.state() == "missing"
    with pytest.raises(BadFile, match="missing; make it with `python -m helpers run dt`"):
        obtain(run, "book")
    write_json(run.result_path(), committed)
    assert run.state() == "done"
    write_json(run.result_path(), {**committed, "identity": "older"})
    assert run.state() == "stale"
    with pytest.raises(BadFile, match="stale"):
        obtain(run, "book")
    with pytest.raises(ValueError, match="choose smoke, book or full"):
        obtain(run, "boook")


def test_all_committed_results_are_done_and_match_their_checkpoints():
    """None is of an older configuration; chapters tell of those that are missing."""
    found = 0
    for run in itertools.chain.from_iterable(load_experiments().values()):
        if run.state() == "missing":
            continue
        assert run.state() == "done", run.name
        result, checkpoint = read_json(run.result_path()), run.trainer().checkpoint_path()
        assert len(result["returns"]) == Evaluation(**run.evaluation).episodes, run.name
        if checkpoint.exists():  # small ones, which are soon trained again, are not committed
            assert result["checkpoint_sha256"] == sha256(checkpoint), run.name
            found += 1
    assert found >= 10


def test_the_table_has_the_promised_columns():
    rows = results_table()
    assert rows
    for row in rows:
        promised = ("task", "dataset", "method", "metric", "seeds", "score", "low", "high")
        assert set(promised) <= set(row)
        assert row["low"] <= row["score"] <= row["high"]
    json.dumps(rows)


def test_on_medium_the_transformer_reaches_the_mean_of_its_data():
    """Item 7 of the plan: at least the dataset's mean return, over all seeds."""
    (row,) = (
        row for row in results_table()
        if row["experiment"] == "dt" and row["dataset"] == "halfcheetah/medium"
        and row["metric"] == "return"
    )  # fmt: skip
    assert row["seeds"] >= 3
    assert row["score"] >= catalogue.registry()["halfcheetah/medium"]["return_mean"]


@pytest.mark.parametrize("tier", ["medium", "medium-replay"])
def test_a_committed_checkpoint_still_gives_its_recorded_returns(tier):
    """The first chunk of the final evaluation, played again."""
    from helpers.evaluate import CHUNK, evaluate
    from helpers.methods import agent_maker

    (run,) = (r for r in load_experiments()["dt"] if r.name == f"dt/halfcheetah/{tier}-s0")
    result = read_json(run.result_path())
    recorded = np.array(result["returns"])
    seeds = list(range(runs.FINAL_SEED, runs.FINAL_SEED + CHUNK))
    make = agent_maker(METHODS["dt"], {}, run.checkpoint_path())
    played = evaluate(make, get_task(run.task), seeds, result["target"])
    # Another processor rounds differently and the dynamics amplify it, so compare distributions.
    spread = recorded.std() / np.sqrt(CHUNK)
    assert abs(played.returns.mean() - recorded.mean()) < 4 * spread + 25


@pytest.fixture
def planned(tmp_path, monkeypatch):
    """A Trajectory Transformer that is trained for a moment, and a run that plays it greedily."""
    short = dataclasses.replace(
        get_task("halfcheetah"),
        horizon=4,
        options={"max_episode_steps": 4},
    )
    monkeypatch.setitem(TASKS, "halfcheetah", short)
    monkeypatch.setattr(paths, "WORK", tmp_path / "work")
    same = {"task": "halfcheetah", "dataset": "halfcheetah/medium", "method": "tt", "seed": 0}
    shape = {"model": {"dropout": 0.0}, "evaluation": {"checks": 1, "check_episodes": 0}}
    first = Run("tt", **same, **shape)
    greedy = {"beam_width": 1, "expansions": 1, "temperature": 0.0}
    second = Run("tt-greedy", **same, **shape, planner=greedy, trained_by="tt")
    monkeypatch.setattr(
        experiments, "load_experiments", lambda: {"tt": [first], "tt-greedy": [second]}
    )
    return [small_planner(smoke_version(run)) for run in (first, second)]


def small_planner(run: Run) -> Run:
    """`smoke_version` without its checks of other episodes."""
    evaluation = {**run.evaluation, "check_episodes": 0, "sweep": ()}
    return dataclasses.replace(run, evaluation=evaluation)


def test_a_model_of_another_configuration_is_not_built_upon(monkeypatch):
    run = load_experiments()["cross-qdt"][0]
    monkeypatch.setattr(Run, "state", lambda run: "stale")
    command = "python -m helpers run cross-iql --only cross-iql/crossroads/halves-s0"
    with pytest.raises(BadFile, match=f"halves-s0.json: stale; make it with `{command}`"):
        execute(run, progress=False)


def test_a_model_of_another_training_is_not_built_upon(planned, tmp_path):
    """One that lies there from an older configuration: git does not keep it, and keeps no other."""
    first, second = planned
    write_bytes(first.checkpoint_path(tmp_path), b"older")
    write_json(first.result_path(tmp_path), {"checkpoint_sha256": "0" * 64})
    command = "python -m helpers run tt --only tt/halfcheetah/medium-s0 --again"
    with pytest.raises(BadFile, match=f"medium-s0.safetensors: not the model .* with `{command}`"):
        execute(second, folder=tmp_path, sample=True, progress=False)
    for told in ({"checkpoint_sha256": sha256(first.checkpoint_path(tmp_path))}, {}):
        write_json(first.result_path(tmp_path), told)
        runs._check_partners(second, tmp_path)


def test_committed_models_may_be_built_upon():
    """What chapters open lies beside the results of its training."""
    built = [run for some in load_experiments().values() for run in some if run.partners]
    here = [
        run for run in built
        if all(p.trainer().checkpoint_path().exists() for p in run.partners.values())
        and all(p.trainer().state() == "done" for p in run.partners.values())
    ]  # fmt: skip
    assert here
    for run in here:
        runs._check_partners(run, None)


def test_full_makes_the_models_that_a_run_needs(monkeypatch, tmp_path):
    """Also those whose results are committed, and whose models are not."""
    made = []
    run = load_experiments()["cross-ttq"][0]
    monkeypatch.setattr(Run, "state", lambda r: "missing" if r.name == run.name else "done")
    monkeypatch.setattr(Run, "checkpoint_path", lambda r: tmp_path / r.name)
    monkeypatch.setattr(runs, "execute", lambda r: made.append(r.experiment))
    obtain(run, "full")
    assert made == ["cross-tt", "cross-iql", "cross-ttq"]


def test_lessons_of_another_search_are_others(monkeypatch):
    run = load_experiments()["distilled"][0]
    teacher = run.partner("teacher")
    monkeypatch.setattr("helpers.distillation.lessons", lambda *given: given[3])
    monkeypatch.setattr(runs, "sha256", lambda path: "0" * 64)
    folders = set()
    for width in (2, 2, 3):
        other = dataclasses.replace(teacher, planner={**teacher.planner, "beam_width": width})
        monkeypatch.setattr(experiments, "load_experiments", lambda o=other: {"babyai-tt": [o]})
        folders.add(runs._learned_from(run, None, None, False, False))
    assert len(folders) == 2


def test_a_model_is_trained_once_and_played_by_several_planners(planned, tmp_path):
    first, second = planned
    options = {"folder": tmp_path, "sample": True, "progress": False}
    with pytest.raises(
        BadFile,
        match="train it with `python -m helpers run tt --only tt/halfcheetah/medium-s0 --again`",
    ):
        execute(second, **options)
    trained = read_json(execute(first, **options))
    assert trained["best"] is None and len(trained["returns"]) == 2
    greedy = dataclasses.replace(second, planner={**second.planner, "beam_width": 1})
    played = read_json(execute(greedy, **options))
    assert played["checkpoint_sha256"] == trained["checkpoint_sha256"]
    assert played["parameters"] == trained["parameters"]
    assert played["train_seconds"] == 0 and played["identity"] != trained["identity"]
    assert played["returns"] != trained["returns"]
    assert not greedy.checkpoint_path(tmp_path).exists()


def test_smoke_widens_no_search():
    """A greedy planner with a beam of two would be refused."""
    names = ("tt", "tt-greedy", "babyai-tt")
    small = {name: smoke_version(load_experiments()[name][0]).planner for name in names}
    assert small["tt"] == {"beam_width": 2, "horizon": 2, "context": 2}
    assert small["tt-greedy"] == {
        "beam_width": 1, "expansions": 1, "horizon": 1, "temperature": 0.0, "context": 2
    }  # fmt: skip
    assert small["babyai-tt"]["plan_every"] == small["babyai-tt"]["horizon"] == 2


def test_the_trainer_is_part_of_the_identity(planned, monkeypatch):
    _, second = planned
    before = second.identity("x")
    (first,) = experiments.load_experiments()["tt"]
    changed = dataclasses.replace(first, train={"steps": 7})
    monkeypatch.setattr(experiments, "load_experiments", lambda: {"tt": [changed]})
    assert second.identity("x") != before
    stranger = dataclasses.replace(second, seed=5)
    with pytest.raises(BadFile, match=r"with seed 5 of \[tt\] \(trained_by\), which has no"):
        stranger.trainer()


def test_a_planner_is_only_for_those_who_plan(tmp_path):
    run = load_experiments()["dt"][0]
    from helpers.methods import agent_maker

    make = agent_maker(METHODS["dt"], {"beam_width": 3}, run.checkpoint_path())
    with pytest.raises(ValueError, match="does not plan; remove"):
        make(np.zeros(1))


def test_a_run_can_use_the_first_demonstrations_only(monkeypatch):
    run = Run("x", "babyai-gotolocal-s7n5", "babyai-gotolocal-s7n5/expert", "bc", 0)
    fewer = dataclasses.replace(run, demonstrations=3)
    assert fewer.identity("a") != run.identity("a")
    sample = catalogue.load_dataset(run.dataset, sample=True)
    monkeypatch.setattr(catalogue, "load_dataset", lambda *_, **__: sample)
    monkeypatch.setattr(runs, "known_hash", lambda name: sample.content_hash())
    assert list(runs._dataset(fewer, sample=False)[0].lengths) == list(sample.lengths[:3])
    more = dataclasses.replace(run, demonstrations=5)
    with pytest.raises(BadFile, match="wants 5 demonstrations, but .* has 4 episodes"):
        runs._dataset(more, sample=False)


def test_a_model_can_play_another_task(tmp_path, monkeypatch):
    """What was trained in a room is tested among lava; nothing is trained."""
    monkeypatch.setattr(paths, "WORK", tmp_path / "work")
    train, play = load_experiments()["babyai-dt"][0], load_experiments()["lava-dt-avoided"][0]
    assert play.trainer() == train and play.plays == "babyai-lava"
    train, play = smoke_version(train), smoke_version(play)
    monkeypatch.setattr(Run, "trainer", lambda self: train)
    execute(train, folder=tmp_path, sample=True, progress=False)
    result = read_json(execute(play, folder=tmp_path, sample=True, progress=False))
    assert result["run"]["plays"] == "babyai-lava" and len(result["returns"]) == 2
    assert play.identity("a") != dataclasses.replace(play, plays="").identity("a")


def test_an_experiment_may_span_tasks(written):
    text = ENTRY.replace('task = "halfcheetah"\n', "").replace(
        '["halfcheetah/medium"]', '["halfcheetah/medium", "babyai-part/expert"]'
    )
    cells = load_experiments(written(text + "demonstrations = [50, 500]"))["x"]
    assert {run.task for run in cells} == {"halfcheetah", "babyai-part"}
    assert cells[-1].name == "x/babyai-part/expert-n500-s1" and len(cells) == 8


def test_returns_by_cell():
    chosen = load_experiments()["babyai-leap"]
    cells = runs.returns_by_cell(chosen, "book")
    assert list(cells) == list(dict.fromkeys((r.dataset, r.demonstrations) for r in chosen))
    same = [r for r in chosen if r.dataset == chosen[0].dataset]
    stored = [read_json(r.result_path())["returns"] for r in same]
    assert cells[chosen[0].dataset, 500].tolist() == stored


def test_playing_a_trained_model_needs_no_episodes(monkeypatch, tmp_path):
    """Its identity needs the dataset's hash, which the registry knows."""
    monkeypatch.setattr(paths, "DATASETS", tmp_path / "none")
    run = next(r for r in load_experiments()["babyai-leap-i1"] if r.seed == 0)
    tiny = dataclasses.replace(run, evaluation={"episodes": 2})
    folder = tmp_path / "data"
    for part in ("results", "checkpoints"):
        source = paths.DATA / part
        for path in source.glob("babyai-leap/babyai-gotolocal-s7n5/expert-n500-s0.*"):
            target = folder / path.relative_to(paths.DATA)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    result = read_json(execute(tiny, folder=folder, progress=False))
    assert result["identity"] == tiny.identity(catalogue.known_hash(run.dataset))
    assert result["returns"] == read_json(run.result_path())["returns"][:2]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ('critic = "iql"\nmethod = "bc"', "a critic helps the methods dt and tt"),
        ('method = "bc"\nlessons = 3', "without one leave it out"),
        ('method = "bc"\nmodel = 3', r"\[x.model\] is 3; write a table"),
        ('method = "iql"\nteacher = "tt"\nlessons = 3', "a teacher is for the method bc"),
        ('method = "dt"\ncritic = "iql"\ntrained_by = "dt"', "training would be ignored"),
        ('method = "bc"\nteacher = "tt"', "write how many episodes it plays"),
        ('method = "bc"\nteacher = "tt"\nlessons = "many"', "lessons is 'many'"),
    ],
)
def test_bad_partners_are_named(written, more, message):
    with pytest.raises(BadFile, match=message):
        load_experiments(written(f'[x]\n{more}\ndatasets = ["gamble/random"]\nseeds = [0]\n'))


def test_partners_are_part_of_the_identity_and_come_first(monkeypatch):
    cell = {"task": "pointmaze", "dataset": "pointmaze/halves", "seed": 0}
    critic = Run("q", method="iql", **cell)
    with_critic = Run("x", method="dt", critic="q", **cell)
    without = Run("x", method="dt", **cell)
    monkeypatch.setattr(experiments, "load_experiments", lambda: {"q": [critic]})
    before = with_critic.identity("data")
    assert before != without.identity("data")
    assert (with_critic.depth, without.depth) == (1, 0)
    changed = dataclasses.replace(critic, model={"expectile": 0.9})
    monkeypatch.setattr(experiments, "load_experiments", lambda: {"q": [changed]})
    assert with_critic.identity("data") != before
    with pytest.raises(BadFile, match=r"\[q\] \(critic\), which has no such run"):
        dataclasses.replace(with_critic, seed=3).identity("data")
