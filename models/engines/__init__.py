"""The engines that run bundles, and the canary that each must pass."""
