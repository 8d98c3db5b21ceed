"""Models of a site: registry, evidence, approvals, releases and what devices should run."""
