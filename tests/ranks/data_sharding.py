"""`eai.shard` of every kind of data, on the ranks of `tests/test_data_sharding.py`."""

import contextlib
import io

import keras
import numpy as np
import tensorflow as tf

import eai_notebook as eai
from eai_notebook import collective
from eai_notebook.errors import EaiError

collective.ensure_formed()
rank = eai.rank()


class Lines(keras.utils.PyDataset):
    """Five batches of two rows."""

    def __len__(self):
        return 5

    def __getitem__(self, index):
        return np.arange(2 * index, 2 * index + 2)


def printed(call):
    """Return what `call` gives, and what it prints."""
    words = io.StringIO()
    with contextlib.redirect_stdout(words):
        try:
            found = call()
        except EaiError as error:
            return None, str(error)
    return found, words.getvalue()


found = {}
x = np.arange(14).reshape(7, 2)
(mine, flags), words = printed(lambda: eai.shard(x, list("abcdefg")))
found["arrays"] = [mine[:, 0].tolist(), flags, words]
(mine, none), words = printed(lambda: eai.shard((x, None), uneven="repeat"))
found["repeat"] = [mine[:, 0].tolist(), none is None, words]
(mine, words) = printed(lambda: eai.shard({"a": x, "b": [x[:, 0], tf.constant(x)]}))
found["nested"] = [mine["b"][0].tolist(), mine["b"][1].numpy()[:, 0].tolist()]
mine, words = printed(lambda: eai.shard(tf.data.Dataset.range(9).batch(2)))
found["dataset"] = [[b.numpy().tolist() for b in mine], words, int(mine.cardinality())]
mine, words = printed(lambda: eai.shard(tf.data.Dataset.range(5).filter(lambda i: i != 2)))
found["unknown"] = [[int(b) for b in mine], words]
mine, words = printed(lambda: eai.shard(tf.data.Dataset.range(4).repeat()))
found["endless"] = [int(b) for b in mine.take(3)]
mine, words = printed(lambda: eai.shard(tf.data.Dataset.range(4).shuffle(4)))
found["shuffled"] = words
mine, words = printed(lambda: eai.shard(Lines()))
found["py_dataset"] = [len(mine.whole), mine.num_batches, mine[0].tolist(), words]
mine, words = printed(lambda: eai.shard(i for i in range(5)))
found["generator"] = list(mine)
mine, words = printed(lambda: eai.shard(eai.shard(tf.data.Dataset.range(8))))
found["twice"] = [[int(b) for b in mine], words]
found["other_rows"] = printed(lambda: eai.shard(x + rank))[1]
found["other_length"] = printed(lambda: eai.shard(x[: 6 + rank]))[1]
found["too_few"] = printed(lambda: eai.shard(x[:1]))[1]
found["no_data"] = printed(lambda: eai.shard(7))[1]
found["mixed_alike"] = printed(lambda: eai.shard(np.random.default_rng(0).permutation(8)))[1]
report(found)  # noqa: F821 -- the test's
