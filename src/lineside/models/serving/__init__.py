"""Packages behind other people's inference contracts: the Open Inference Protocol and SageMaker."""
