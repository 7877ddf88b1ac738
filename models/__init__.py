"""Bundles (a model as a folder): their format, and what prepares their input."""
