from dataclasses import fields, replace

import pytest
import torch

from clip2scene.pairing.collate import collate


@pytest.fixture
def samples(make_batch):
    """Return three samples of different sizes, whose labels number the points and so identify them."""
    batches = [make_batch(samples=1, sweeps=k, points=60 + 10 * k, images=2) for k in (1, 3, 2)]
    return [
        replace(batch, labels=100 * number + torch.arange(len(batch.points)))
        for number, batch in enumerate(batches)
    ]


def follow(batch, sample):
    """Return the values that the indices of one sample of a batch point to."""
    mine = batch.sample == sample
    pairs = mine[batch.pair_point]
    _, groups = batch.grid_cell[mine].unique(return_inverse=True)
    cloud = batch.coordinates[batch.inverse[mine]]
    return {
        "points": batch.points[mine],
        "voxels": cloud[:, 1:],
        "clouds": cloud[:, 0] - cloud[:, 0].min(),
        "representatives": batch.labels[batch.representative[batch.inverse[mine]]],
        "labels": batch.labels[mine],
        "cells": groups,
        "paired": batch.labels[batch.pair_point[pairs]],
        "colours": batch.images[batch.pair_image, :, batch.pair_row, batch.pair_column][pairs],
    }


def test_indices_of_a_batch_lead_where_they_led_in_each_sample(samples):
    batch = collate(samples)
    for number, sample in enumerate(samples):
        for name, expected in follow(sample, 0).items():
            torch.testing.assert_close(follow(batch, number)[name], expected, msg=name)


def test_nothing_is_shared_between_samples_of_a_batch(samples):
    batch = collate(samples)
    assert batch.n_grid_cells == sum(sample.n_grid_cells for sample in samples)
    assert len(batch.coordinates.unique(dim=0)) == len(batch.coordinates)
    assert batch.coordinates[:, 0].max() == 5
    ids = [set(part.unique().tolist()) for part in batch.superpixels.split(2)]
    assert sum(map(len, ids)) == len(set.union(*ids))


def test_a_batch_of_one_is_itself(samples):
    batch = collate(samples[:1])
    for field in fields(batch):
        expected = getattr(samples[0], field.name)
        if isinstance(expected, torch.Tensor):
            torch.testing.assert_close(getattr(batch, field.name), expected, msg=field.name)


def test_samples_with_and_without_images_do_not_mix(samples):
    with pytest.raises(ValueError, match="images"):
        collate([samples[0], replace(samples[1], images=None)])
