"""Deployment of packages: desired state, package sources, jobs, loading, shadow runs, air gap."""
