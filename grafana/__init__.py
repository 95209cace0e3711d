"""Grafana's dashboards as code, and what is provisioned into it. `python -m grafana.generate` writes the dashboards.

Nothing of the desk imports this package: Grafana reads files and the database, and no service needs Grafana.
"""
