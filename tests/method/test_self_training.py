"""Switchable self-training: its start, its frequency, and the same draws in a resumed run."""

from dataclasses import replace

import torch

from clip2scene.method.base import Progress
from clip2scene.method.recipe import FIXED, PAPER, RELEASED, RELEASED_SCANNET
from clip2scene.method.self_training import switch_labels

LABELS = torch.zeros(1000, dtype=torch.long)
SCORES = torch.eye(2)[torch.ones(1000, dtype=torch.long)]  # every point predicts 1


def switched(recipe, epoch=15, epochs=20, step=0, seed=0):
    return switch_labels(LABELS, SCORES, recipe, Progress(epoch, epochs, step, seed)).float().mean().item()


def first_epoch(recipe, epochs):
    always = replace(recipe, self_training_probability=1.0)
    return next(epoch for epoch in range(epochs) if switched(always, epoch, epochs))


def test_start():
    assert first_epoch(PAPER, 20) == first_epoch(PAPER, 30) == 10  # "after 10 epochs"
    assert first_epoch(RELEASED, 20) == 11  # epoch > 10, counted from 0
    assert first_epoch(RELEASED_SCANNET, 30) == 10  # epoch >= 10
    assert first_epoch(FIXED, 20) == 15  # chosen for the embedded study
    assert first_epoch(FIXED, 8) == 6  # of a shorter run, the same share
    assert first_epoch(RELEASED, 10) == 6
    assert first_epoch(RELEASED_SCANNET, 15) == 5


def test_a_batch_switches_as_a_whole_with_its_probability():
    shares = [switched(FIXED, step=step) for step in range(400)]
    assert set(shares) == {0.0, 1.0}
    assert abs(sum(shares) / 400 - 0.5) < 0.1  # four standard deviations


def test_pairs_switch_by_themselves():
    share = switched(replace(FIXED, self_training_granularity="pair", self_training_probability=0.3))
    assert abs(share - 0.3) < 0.06


def test_the_draw_depends_on_seed_and_step_only():
    runs = [[switched(FIXED, step=step, seed=seed) for step in range(32)] for seed in (0, 0, 1)]
    assert runs[0] == runs[1] != runs[2]


def test_switched_off():
    assert all(switched(replace(FIXED, self_training_probability=0.0), step=step) == 0 for step in range(20))
