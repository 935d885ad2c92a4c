"""Where it runs: the only package that imports Ray.

Whatever decides lives in `orchestrator` and is tested without a cluster; what stands here starts processes, moves bytes
between them, and composes.
"""
