"""Time and memory of `attsvm.torch.inspect` at the shape of BERT-base: ``python -m bench.heads``.

Random weights, 12 layers of 12 heads, 8 sequences of 128 tokens. Statistics of all heads are
compared with one forward and backward pass in the same run, in the CPU time of the process, which
does not depend on what else runs. SVMs of all heads with 1,000 inputs each are bounded to a given
gap.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable
from typing import Any

import torch
from transformers import BertConfig, BertModel

from attsvm.torch import inspect

SEQUENCES, TOKENS = 8, 128


def seconds(call: Callable[[], Any]) -> tuple[float, float, Any]:
    """Measure wall and CPU seconds of a call, and return its result too."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = call()
    return time.perf_counter() - wall, time.process_time() - cpu, result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", type=int, help="of the model whose SVMs are bounded: all")
    parser.add_argument("--steps", type=int, default=300, help="of the ascent, at most")
    parser.add_argument("--tolerance", type=float, default=0.1, help="gap of the bounds")
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    model = BertModel(BertConfig()).eval()
    batch = {"input_ids": torch.randint(0, model.config.vocab_size, (SEQUENCES, TOKENS))}

    def loss(output: Any) -> torch.Tensor:
        return output.last_hidden_state.square().mean()

    def forward_and_backward() -> None:
        model.zero_grad()
        loss(model(**batch)).backward()

    def statistics() -> Any:
        return inspect(model, batch, loss, norms=(), max_inputs=SEQUENCES * TOKENS)

    forward_and_backward(), statistics()
    passes, measured = [], []
    for _ in range(arguments.repeats):
        passes.append(seconds(forward_and_backward)[:2])
        measured.append(seconds(statistics)[:2])
    for name, times in (("forward and backward", passes), ("statistics", measured)):
        print(f"{name}: {min(t[0] for t in times):.2f} s, CPU {min(t[1] for t in times):.2f} s")
    ratio = min(t[1] for t in measured) / min(t[1] for t in passes)
    print(f"statistics over forward and backward, CPU: {ratio:.2f}; target 2")
    layers = None if arguments.layers is None else list(range(arguments.layers))
    wall, cpu, found = seconds(
        lambda: inspect(
            model,
            batch,
            layers=layers,
            max_inputs=1000,
            max_constraints=0,
            steps=arguments.steps,
            tolerance=arguments.tolerance,
        )
    )
    heads = found.sizes["layer"] * found.sizes["head"]
    gaps = found.svm_gap.sel(norm="fro")
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"SVMs of {heads} heads, {int(found.constraints.max())} constraints each: {wall:.0f} s, "
        f"CPU {cpu:.0f} s; gap median {float(gaps.median()):.3f}, largest {float(gaps.max()):.3f}; "
        f"peak memory of the process {memory:.2f} GiB, target 4"
    )


if __name__ == "__main__":
    main()
