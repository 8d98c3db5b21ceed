"""Reports of trainings and evaluations as JSON and as pages, and run records for MLflow."""
