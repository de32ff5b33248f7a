"""What happens around the steps of a run, a file a hook.

Beside the hook stands the function that builds it as the config asks, and what checks its keys.
"""
