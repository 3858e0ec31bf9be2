"""A fit that gets Ctrl-C after its fifth step: run by a test, as a program of its own."""

from __future__ import annotations

import os
import signal

import numpy as np

import distbp.sklearn.fitting as fitting
from distbp.sklearn import DistbpClassifier

train = fitting.train


def train_and_interrupt(*arguments, **options):
    def interrupt(progress):
        if progress.report.step == 30:
            os.kill(os.getpid(), signal.SIGINT)

    return train(*arguments, **{**options, "observe": interrupt})


fitting.train = train_and_interrupt
generator = np.random.default_rng(0)
y = np.arange(120) % 2
x = generator.normal(size=(120, 3)) + 4.0 * y[:, None]
model = DistbpClassifier(max_iter=100_000)
try:
    model.fit(x, y)
except KeyboardInterrupt:
    fitted = "fitted" if 30 <= len(model.loss_curve_) * 2 < 1000 else "not fitted"
    accurate = "accurate" if model.score(x, y) > 0.9 else "not accurate"
    print(f"interrupted, {fitted}, {accurate}")
