"""The embedded stack: every part as a child process of `watchword up`."""

from watchword.stack.run import run_stack
from watchword.stack.state import Addresses, RunningStack, needed_stack, query_address, running_stack

__all__ = ["Addresses", "RunningStack", "needed_stack", "query_address", "run_stack", "running_stack"]
