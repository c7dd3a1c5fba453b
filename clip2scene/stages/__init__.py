"""Stages: each kind of run, declared in one place without importing what computes it."""
