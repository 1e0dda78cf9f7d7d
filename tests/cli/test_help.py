"""`--help` is instant, needs no torch, and lists what the parser takes; `hftransfer` finds its recipes."""

from __future__ import annotations

import ast
import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from hftransfer import AdaptationConfig, __version__
from hftransfer.cli import main as cli
from hftransfer.cli.finetune_options import FinetuneArguments
from hftransfer.cli.help import finetune_options, print_help
from hftransfer.cli.recipe_parser import RecipeParser
from hftransfer.cli.source_free_options import SourceFreeArguments
from hftransfer.cpu_threads import describe_device

RECIPE = Path(__file__).parents[2] / "recipes" / "finetune.py"
CHECK = """
heavy = {"torch", "transformers", "datasets", "accelerate", "peft", "numpy"} & set(sys.modules)
assert not heavy, heavy
"""


def command(monkeypatch, *words: str) -> None:
    monkeypatch.setattr(sys, "argv", ["hftransfer", *words])
    cli.main()


@pytest.mark.parametrize(
    ("recipe", "arguments"), [("finetune", FinetuneArguments), ("adapt_source_free", SourceFreeArguments)]
)
def test_help_lists_exactly_what_the_parser_takes(capsys, recipe, arguments):
    parser = RecipeParser([arguments, AdaptationConfig]).make_parser()
    taken = {o for a in parser._actions for o in a.option_strings if "-" not in o.lstrip("-")} - {"-h", "--help"}
    print_help(recipe)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("  --")]
    listed = [word.strip(",") for line in lines for word in line.split(" [")[0].split()]
    assert sorted(listed) == sorted(taken)


def test_help_says_of_every_option_what_it_does_and_what_it_is_without():
    parser = RecipeParser([FinetuneArguments, AdaptationConfig]).make_parser()
    defaults = {a.dest: a.default for a in reversed(parser._actions)}
    for option in finetune_options():
        assert len(option.help) > 4, option.name
        if isinstance(defaults[option.name], (bool, int, float)):
            assert ast.literal_eval(option.default) == defaults[option.name], option.name


@pytest.mark.parametrize(
    "start",
    [
        "import sys; from hftransfer.cli.main import main; sys.argv = ['hftransfer', 'finetune', '--help']; main()",
        f"import sys, runpy; sys.argv = ['finetune.py', '-h']; runpy.run_path({str(RECIPE)!r}, run_name='__main__')",
    ],
)
def test_help_takes_less_than_a_second_and_no_heavy_import(start):
    """Processor time: the machine may be busy."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", start + CHECK], capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr
    assert "--objectives" in done.stdout
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1.0


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"]])
def test_the_command_alone_says_what_there_is(monkeypatch, capsys, words):
    command(monkeypatch, *words)
    out = capsys.readouterr().out
    assert "usage: hftransfer <recipe>" in out
    assert "finetune" in out


def test_the_version(monkeypatch, capsys):
    command(monkeypatch, "--version")
    assert capsys.readouterr().out.strip() == __version__


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["fintune"], "Did you mean 'finetune'?"),
        (
            ["nonsense", "--help"],
            "there is no recipe 'nonsense'; there is adapt, adapt-source-free, align-image-text, bench",
        ),
        (["finetune", "--accelerate_config"], "--accelerate_config needs a name or a file"),
        (
            ["finetune", "--accelerate_config", "many"],
            "no accelerate config 'many'; there is fsdp2, multi_gpu, one_pro",
        ),
        (["finetune", "--accelerate_config=many"], "no accelerate config 'many'"),
    ],
)
def test_what_is_not_there_is_refused(monkeypatch, words, message):
    with pytest.raises(SystemExit, match="hftransfer: ") as error:
        command(monkeypatch, *words)
    assert message in str(error.value)


@pytest.mark.parametrize("words", [["--accelerate_config", "one_process"], ["--accelerate_config=one_process"], []])
def test_a_recipe_goes_through_accelerates_launcher(monkeypatch, words):
    launched = []
    monkeypatch.setattr("accelerate.commands.launch.launch_command", launched.append)
    command(monkeypatch, "finetune", "--seed", "3", *words, "--dry_run")
    (args,) = launched
    assert Path(args.training_script) == RECIPE
    assert args.training_script_args == ["--seed", "3", "--dry_run"]
    assert args.config_file == (str(RECIPE.parent / "accelerate" / "one_process.yaml") if words else None)


@pytest.mark.parametrize(
    ("given", "processes", "accelerator", "threads"),
    [
        pytest.param(None, 1, False, 8, id="all cores"),
        pytest.param(None, 2, False, 4, id="shared by two processes"),
        pytest.param("1", 1, False, None, id="as the user says"),
        pytest.param(None, 1, True, None, id="with an accelerator, as the launcher decides"),
    ],
)
def test_processors_do_not_idle(monkeypatch, tmp_path, given, processes, accelerator, threads):
    launched = []
    monkeypatch.setattr("accelerate.commands.launch.launch_command", launched.append)
    monkeypatch.setattr("torch.accelerator.is_available", lambda: accelerator)
    monkeypatch.setattr("accelerate.commands.config.config_args.default_config_file", str(tmp_path / "none.yaml"))
    monkeypatch.setattr(cli, "cores", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if given is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", given)
    config = tmp_path / "mine.yaml"
    config.write_text(
        f"compute_environment: LOCAL_MACHINE\ndistributed_type: MULTI_CPU\nnum_processes: {processes}\nuse_cpu: true\n"
    )
    command(monkeypatch, "finetune", *(["--accelerate_config", str(config)] if processes > 1 else []), "--dry_run")
    assert launched[0].num_cpu_threads_per_process == threads


@pytest.mark.parametrize(
    ("settings", "port"),
    [
        pytest.param({}, None, id="a free one"),
        pytest.param({"main_process_port": 29507}, 29507, id="as the user says"),
        pytest.param(
            {"num_machines": 2, "main_process_ip": "10.0.0.1", "main_process_port": 29507}, 29507, id="of two machines"
        ),
        pytest.param({"num_machines": 2, "main_process_ip": "10.0.0.1"}, 0, id="of two machines that name none"),
    ],
)
def test_two_runs_beside_each_other_meet_on_ports_of_their_own(monkeypatch, tmp_path, settings, port):
    from accelerate.commands.launch import _validate_launch_command

    launched = []
    monkeypatch.setattr("accelerate.commands.launch.launch_command", launched.append)
    config = {"compute_environment": "LOCAL_MACHINE", "distributed_type": "MULTI_GPU", "num_processes": 2} | settings
    (tmp_path / "mine.yaml").write_text(json.dumps(config))
    for _ in range(2):
        command(monkeypatch, "finetune", "--accelerate_config", str(tmp_path / "mine.yaml"), "--dry_run")
    first, second = (_validate_launch_command(args)[0].main_process_port for args in launched)
    if port is None:
        assert first != second
        assert min(first, second) > 1023
    else:
        assert first == second == (port or None)


@pytest.mark.parametrize(
    ("device", "processes", "threads", "words"),
    [
        ("cpu", 1, 2, "2 CPU threads"),
        ("cpu", 1, 1, "1 CPU thread; OMP_NUM_THREADS=2 would use all 2 cores"),
        ("cpu", 2, 1, "2 processes, each on 1 CPU thread"),
        ("cuda", 1, 1, "cuda"),
        ("cuda", 4, 1, "4 processes, each on cuda"),
    ],
)
def test_the_plan_says_what_a_run_computes_on(device, processes, threads, words):
    assert describe_device(device, processes, threads, available=2) == words
