# /// script
# dependencies = ["hftransfer"]
# ///
"""Methods x shifts x policies x seeds from one file; a run that stopped goes on where it was.

python recipes/benchmark.py --config recipes/configs/benchmark_sample.yaml --dry_run
python recipes/benchmark.py --config recipes/configs/benchmark_sample.yaml --only method=mmd seed=1,2
"""

from __future__ import annotations

from hftransfer import run_recipe, stage, start_recipe


def main(argv: list[str]) -> int:
    return run_recipe(benchmark, argv)


def benchmark(argv: list[str]) -> int:
    from hftransfer import benchmark_parser

    args = benchmark_parser().parse_args(argv)
    with stage("comparing", if_stopped="The same command goes on with the cells that are left."):
        return run(args)


def run(args) -> int:
    from hftransfer import BenchmarkRunner, read_benchmark

    # 1. Read the file, find what is left, and check it before anything is trained.
    runner = BenchmarkRunner(read_benchmark(args.config, args.trust_config_code), args.only)
    runner.check()
    if args.dry_run:
        runner.print_cells()
        return 0

    # 2. Run what is left, each cell in a process of its own, one line a cell.
    runner.run()

    # 3. The table and the picture, of everything that is there.
    runner.report()
    return 0 if runner.finished() else 1


if __name__ == "__main__":
    start_recipe(main, "benchmark")
