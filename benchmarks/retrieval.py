"""Do the search models find more than counting words does?

DSSM: recall@1 and @10 of the clicked title among all titles, for held-out queries, against
scikit-learn's TF-IDF on words and on letters within words (the better of the two counts).
Auto-encoder: precision of what lies in a Hamming ball around each held-out document's code,
against random hyperplanes (LSH) on TF-IDF vectors with equally many bits. A ball of few bits
holds more of one code than of another, so the balls are compared at equal size: radii grow until
a query has at least so many documents, and the precision of the nearest so many is taken.

    python benchmarks/retrieval.py
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import _harness as harness
import keras
import numpy as np
from sklearn.feature_extraction.text import TfidfTransformer, TfidfVectorizer

import eai_notebook as eai
from eai_notebook.datasets.documents import make_documents, read_documents
from eai_notebook.datasets.query_logs import TITLES, make_queries, read_queries

models = eai.models
LENGTH, BUCKETS, UNCLICKED = 48, 10_000, 2
VOCABULARY, BITS = 2000, 32


def hashed(texts: list[str]) -> Any:
    """Hash the trigrams of texts as the towers want them."""
    return models.hash_trigrams(texts, length=LENGTH, buckets=BUCKETS)


def recall(scores: np.ndarray, clicked: np.ndarray, most: int) -> float:
    """Return the share of queries whose clicked title is among the `most` best."""
    best = np.argpartition(-scores, most - 1, axis=1)[:, :most]
    return float(np.mean(np.any(best == clicked[:, None], axis=1)))


def dssm(seed: int, rows: int, epochs: int) -> dict[str, float]:
    """Return recall of DSSM and of TF-IDF."""
    keras.utils.set_random_seed(seed)
    folder = Path(tempfile.mkdtemp())
    make_queries(folder, rows=rows, seed=seed, shown=UNCLICKED)
    titles = (folder / TITLES).read_text().splitlines()
    log, test = read_queries(folder / "train.tsv"), read_queries(folder / "test.tsv")
    index = {title: number for number, title in enumerate(titles)}
    clicked = np.array([index[title] for title in test.clicked])
    found = {}
    for kind, options in (
        ("words", {}),
        ("letters", {"analyzer": "char_wb", "ngram_range": (2, 4), "sublinear_tf": True}),
    ):
        tfidf = TfidfVectorizer(**options).fit(titles)
        scores = (tfidf.transform(test.queries) @ tfidf.transform(titles).T).toarray()
        for most in (1, 10):
            found[f"tfidf_{kind}@{most}"] = recall(scores, clicked, most)
    model = models.dssm(buckets=BUCKETS, length=LENGTH, hidden=(128,), dim=64, unclicked=UNCLICKED)
    model.compile(
        keras.optimizers.Adam(2e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    batch = 256
    whole = len(log) - len(log) % batch
    documents = [[c, *s] for c, s in zip(log.clicked, log.shown, strict=True)]
    flat = hashed([title for row in documents for title in row])
    x = {
        "query": hashed(log.queries)[:whole],
        "documents": flat.reshape(-1, 1 + UNCLICKED, LENGTH)[:whole],
    }
    label = np.tile(models.clicked_places(batch, UNCLICKED), whole // batch)
    rng = np.random.default_rng(seed)
    for _ in range(epochs):
        # Places belong to the batch, not to the row: rows are mixed before they are given.
        order = rng.permutation(whole)
        model.fit(
            {name: each[order] for name, each in x.items()},
            label,
            batch_size=batch,
            shuffle=False,
            verbose=0,
        )
    queries, documents_ = (
        model.get_layer(f"{side}_tower").predict(hashed(texts), batch_size=1024, verbose=0)
        for side, texts in (("query", test.queries), ("document", titles))
    )
    for most in (1, 10):
        found[f"dssm@{most}"] = recall(queries @ documents_.T, clicked, most)
    return found


def precision(codes: np.ndarray, queries: np.ndarray, same: np.ndarray, most: int) -> float:
    """Return the mean share of right documents among the `most` nearest codes.

    Documents at the radius where the ball becomes large enough count by their share.
    """
    found = []
    for query, right in zip(queries, same, strict=True):
        distances = models.hamming_distances(codes, query)
        radius = np.partition(distances, most - 1)[most - 1]
        inside, edge = distances < radius, distances == radius
        taken = inside.sum()
        found.append((right[inside].sum() + right[edge].mean() * (most - taken)) / most)
    return float(np.mean(found))


def autoencoder(seed: int, documents: int, epochs: int) -> dict[str, float]:
    """Return precision of codes and of LSH at equal bits, at balls of 10 and 100 documents."""
    keras.utils.set_random_seed(seed)
    folder = Path(tempfile.mkdtemp())
    make_documents(folder, documents=documents, vocabulary=VOCABULARY, seed=seed)
    train, test = (read_documents(folder / f"{n}.svm", VOCABULARY) for n in ("train", "test"))
    shares = models.word_shares(train.counts)
    model = models.autoencoder(VOCABULARY, hidden=(256, 128), bits=BITS)
    for stage in [*models.pretraining(model)]:
        stage.compile(keras.optimizers.Adam(2e-3), "categorical_crossentropy")
        stage.fit(train.counts, shares, batch_size=128, epochs=epochs // 3, verbose=0)
    model.compile(keras.optimizers.Adam(2e-3), "categorical_crossentropy")
    model.fit(train.counts, shares, batch_size=128, epochs=epochs, verbose=0)
    encoder = models.encoder_of(model)
    tfidf = TfidfTransformer(sublinear_tf=True).fit(train.counts)
    planes = np.random.default_rng(seed).standard_normal((VOCABULARY, BITS))
    found = {}
    same = test.topics[:, None] == train.topics[None]
    for kind, of in (
        ("autoencoder", lambda counts: models.binary_codes(encoder, counts)),
        ("lsh", lambda counts: np.packbits(tfidf.transform(counts) @ planes > 0, axis=1)),
    ):
        codes, queries = of(train.counts), of(test.counts)
        for most in (10, 100):
            found[f"{kind}@{most}"] = precision(codes, queries, same, most)
    return found


def main() -> None:
    """Run both comparisons on some seeds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--documents", type=int, default=6000)
    parser.add_argument("--epochs", type=int, default=9)
    arguments = parser.parse_args()
    results = []
    for seed in arguments.seeds:
        search = dssm(seed, arguments.rows, arguments.epochs)
        harness.say(f"seed {seed}: {search}")
        hashing = autoencoder(seed, arguments.documents, arguments.epochs)
        harness.say(f"seed {seed}: {hashing}")
        results.append(search | hashing)
    mean = {name: float(np.mean([each[name] for each in results])) for name in results[0]}
    summary = {
        **{f"dssm_recall@{n}": round(mean[f"dssm@{n}"], 4) for n in (1, 10)},
        **{
            f"tfidf_recall@{n}": round(max(mean[f"tfidf_words@{n}"], mean[f"tfidf_letters@{n}"]), 4)
            for n in (1, 10)
        },
        **{f"autoencoder_precision@{n}": round(mean[f"autoencoder@{n}"], 4) for n in (10, 100)},
        **{f"lsh_precision@{n}": round(mean[f"lsh@{n}"], 4) for n in (10, 100)},
        "bits": BITS,
        "seeds": len(results),
    }
    harness.finish("retrieval", summary, {"mean": mean, "seeds": results})
    better = all(
        min(r["dssm@1"] - max(r["tfidf_words@1"], r["tfidf_letters@1"]),
            r["dssm@10"] - max(r["tfidf_words@10"], r["tfidf_letters@10"]),
            r["autoencoder@10"] - r["lsh@10"], r["autoencoder@100"] - r["lsh@100"]) > 0
        for r in results
    )  # fmt: skip
    sys.exit(0 if better else 1)


if __name__ == "__main__":
    main()
