"""Dashboards and alert rules of the chart, written as Python: what `make generate` makes of them lies in the chart.

Who calls this: `make generate`, by `python -m monitoring.generate`. No part of an image.
"""
