"""Bundles (a model as a folder) and the engines that run them."""
