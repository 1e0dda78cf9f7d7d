"""Reporting: plain facts in; tables, model cards and pictures out."""
