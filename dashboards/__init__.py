"""Grafana dashboards as code, their alert rules and runbook: `python -m dashboards.build` writes the JSON."""
