"""Two models in turn: a teacher is trained, and then a student on its answers."""

import keras
import numpy as np

x = np.random.default_rng(0).random((128, 6)).astype("f4")
x = x[:]  # eai: x = x[eai.rank() :: eai.size()]
teacher = keras.Sequential([keras.Input((6,)), keras.layers.Dense(8, "tanh"), keras.layers.Dense(1)])
student = keras.Sequential([keras.Input((6,)), keras.layers.Dense(1)])
models = [teacher, student]
for model in models:
    model.compile("sgd", "mse")
for _ in range(2):
    teacher.fit(x, x.sum(1, keepdims=True), batch_size=32, shuffle=False, verbose=0)  # eai: eai.fit(teacher, x, x.sum(1, keepdims=True), batch_size=32 // eai.size(), shuffle=False, verbose=0)
    student.fit(x, teacher.predict(x, verbose=0), batch_size=32, shuffle=False, verbose=0)  # eai: eai.fit(student, x, teacher.predict(x, verbose=0), batch_size=32 // eai.size(), shuffle=False, verbose=0)
