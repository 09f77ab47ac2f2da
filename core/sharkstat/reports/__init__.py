"""Results as one HTML page that needs nothing else: charts, tables that sort and search, trees that fold."""

from sharkstat.reports.page import report

__all__ = ["report"]
