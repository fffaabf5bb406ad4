"""From a source's parts to a rank's batches: agree on steps, shuffle, read ahead, batch.

Data goes one way: `agree` fixes the steps, `order` says which rows come when, `reading`
fetches and parses ahead (`workers`, `process`), `epoch` mixes and cuts batches, `dataset`
hands them to TensorFlow; `meter` books what was waited for, `sizing` sets the queues.
"""
