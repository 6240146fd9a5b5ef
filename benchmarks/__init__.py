"""Benchmarks: what does allogger cost, beside what others cost for the same work?

``python -m benchmarks`` measures everything, prints tables and writes ``results.json`` and plots; see
docs/performance.md. Each module named after a kind of work holds one `benchmarks.work.Work`.
"""
