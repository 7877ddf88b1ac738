"""The REST gateway: translates HTTP to the query service's calls, nothing else."""
