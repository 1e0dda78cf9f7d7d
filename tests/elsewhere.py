"""Scripts where hftransfer has never been heard of: each in a process forked from one that has imported what loads
models and cannot import hftransfer.

    python elsewhere.py     # a line of standard input is a script and its arguments, and is answered by a line
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def started() -> Iterator[Callable[..., str]]:
    """A function from a script and its arguments to what it prints; it must end well."""
    env = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    command = [sys.executable, __file__]
    with subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:

        def run(script: str, *arguments: object) -> str:
            server.stdin.write(json.dumps([script, *map(str, arguments)]) + "\n")
            server.stdin.flush()
            status, out, err = json.loads(server.stdout.readline())
            assert status == 0, out + err[-4000:]
            return out

        yield run
        server.stdin.close()


def serve() -> None:
    sys.modules["hftransfer"] = None  # importing it fails from here on
    import peft.peft_model  # noqa: F401
    import transformers.models.bert.modeling_bert
    import transformers.pipelines  # noqa: F401
    from transformers.conversion_mapping import get_checkpoint_conversion_mapping

    get_checkpoint_conversion_mapping("bert")  # a slow table, built at first use
    for line in sys.stdin:
        script, *arguments = json.loads(line)
        with tempfile.TemporaryDirectory() as folder:
            files = [Path(folder) / name for name in ("out", "err")]
            child = os.fork()
            if child == 0:
                _run(script, arguments, files)
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            print(json.dumps([status, *(file.read_text() for file in files)]), flush=True)


def _run(script: str, arguments: list[str], files: list[Path]) -> None:
    """The script in this process, which ends with it."""
    status = 1
    try:
        for number, file in enumerate(files, 1):
            os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT), number)
        sys.argv = ["-c", *arguments]
        exec(script, {"__name__": "__main__"})
        status = 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    serve()
