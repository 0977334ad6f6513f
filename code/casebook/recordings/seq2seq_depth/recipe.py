"""The recording `seq2seq_numbers` with twice the steps, for one, two and four layers.

Runs "LAYERS": as "backwards/LAYERS/0" there, with the same metrics, but 1,600 steps. They ask
whether deep networks are worse after 800 steps or only slower.
"""

from casebook.record import Run, load_recipe

RUNS = ("1", "2", "4")
STEPS = 1600


def run(name: str, max_steps: int | None = None) -> Run:
    """One run; with `max_steps`, its first steps and no metrics."""
    result = load_recipe("seq2seq_numbers").train(f"backwards/{name}/0", STEPS, max_steps)
    return Run(result.history, result.metrics)
