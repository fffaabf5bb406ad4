"""Wide & Deep on 2 ranks: what does reading its text cost a training step?

The same model trains on the same rows, read from Criteo's text by `eai_notebook.io` and
from memory, as a `tf.data.Dataset` of batches made before; epochs take turns in random order,
memory also against itself. Steps a second of each epoch, the first pair left out. The deep part
has the layers of the paper (Cheng et al. 2016: 1024, 512, 256). With smaller ones a row costs
less to train, and no less to read.

    python benchmarks/input_end_to_end.py
    python benchmarks/input_end_to_end.py --hidden 64 32    # adds to the day's file
"""

from __future__ import annotations

import argparse
import random
import tempfile
from pathlib import Path
from typing import Any

import _harness as harness
import numpy as np

from eai_notebook.datasets.click_logs import criteo
from eai_notebook.session import Session

PAPER = (1024, 512, 256)

SETUP = """
import time
import keras, numpy as np, tensorflow as tf
import eai_notebook as eai

text = eai.io.criteo(FILES, BATCH, seed=1)
kept = [tf.nest.map_structure(lambda t: t.numpy(), batch) for batch in text]
flat = [tf.nest.flatten(batch) for batch in kept]
together = tf.nest.pack_sequence_as(kept[0], [np.stack(column) for column in zip(*flat)])
memory = tf.data.Dataset.from_tensor_slices(together)
model = eai.models.wide_deep(eai.io.CRITEO, hidden=HIDDEN)
model.compile(eai.DistributedOptimizer(keras.optimizers.Adam(1e-3)), "binary_crossentropy")

def epoch(data):
    cpu = text.cpu_seconds
    class Times(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None): self.began = time.perf_counter()
        def on_epoch_end(self, epoch, logs=None): self.ended = time.perf_counter()
    times = Times()
    eai.fit(model, data, 1, verbose=0, callbacks=[times])
    return text.steps_per_epoch / (times.ended - times.began), text.cpu_seconds - cpu
"""


def main() -> None:
    """Run, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=400_000)
    parser.add_argument("--batch", type=int, default=2048)
    parser.add_argument("--hidden", type=int, nargs="*", default=list(PAPER))
    parser.add_argument("--rounds", type=int, default=12)
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp()) / "data"
    criteo(folder, rows=args.rows, files=8, seed=0)
    rates: dict[str, list[float]] = {"text": [], "memory": [], "memory again": []}
    cpu: list[float] = []
    rng = random.Random(0)
    with Session(2) as session:
        given = (str(folder / "train-*.tsv"), args.batch, args.hidden)
        session.run(f"FILES, BATCH, HIDDEN = {given!r}\n{SETUP}")
        for number in range(args.rounds + 1):
            for name in rng.sample(list(rates), len(rates)):
                session.run(f"timing = epoch({name.split()[0]})")
                rate, spent = session.pull("timing")
                harness.say(f"{number} {name}: {rate:.2f} steps/s")
                if number:
                    rates[name].append(rate)
                    if name == "text":
                        cpu.append(spent)
    pairs = np.array([rates["text"], rates["memory"], rates["memory again"]]).T
    ratio = pairs[:, 0] / np.sqrt(pairs[:, 1] * pairs[:, 2])
    noise = pairs[:, 1] / pairs[:, 2]
    details = harness.earlier("input_end_to_end")
    details.setdefault("by_layers", {})[" ".join(map(str, args.hidden))] = {
        "text_vs_memory": round(float(np.median(ratio)), 4),
        "interval": [round(edge, 4) for edge in harness.bootstrap_interval(ratio)],
        "memory_vs_memory": round(float(np.median(noise)), 4),
        "steps_per_s": round(float(np.median(pairs[:, 0])), 2),
        "every_steps_per_s": rates,
        "reader_cpu_s_per_epoch": cpu,
        "batch": args.batch,
    }
    harness.finish("input_end_to_end", summarize(details), details)


def summarize(details: dict[str, Any]) -> dict[str, Any]:
    """Return the figures for the paper's layers, None where not measured yet."""
    found = details["by_layers"].get(" ".join(map(str, PAPER)), {})
    names = ("text_vs_memory", "interval", "memory_vs_memory", "steps_per_s")
    return {name: found.get(name) for name in names}


if __name__ == "__main__":
    main()
