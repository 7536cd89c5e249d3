"""Explanations: why a job is not running or not finished."""
