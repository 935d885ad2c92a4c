"""The Python API (contract §5): models by name, in this process, on Ray, or of a running application.

Everything here stands on a `Coordinating` (`orchestrator.wire.within`), which is what answers HTTP, too.
"""
